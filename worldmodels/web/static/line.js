// The line to the dream. Here it ends in this page itself: session.js answers instead of a server.

import { load } from "./files.js";
import { Session } from "./session.js";

/** Opens it. `heard(head, pictures)` is called with every message, `closed(why)` if there can be no dream. */
export function open(heard, closed) {
  const line = new Line(heard, closed);
  return { ask: (what, more = {}) => line.then((session) => session.hear(what, more)) };
}

class Line {
  constructor(heard, closed) {
    this.heard = heard;
    this.closed = closed;
    this.due = 0; // when the next step is, in ms
    this.session = null;
    this.last = load(waking).then((files) => {
      this.session = new Session(files);
      return this.session.hello().then((messages) => this.tell(messages));
    });
    this.last.catch((error) => this.fail(error));
  }

  /** One thing after the other: what is asked for meanwhile waits. */
  then(work) {
    this.last = this.last.then(() => work(this.session)).then((messages) => this.tell(messages));
    this.last.catch((error) => this.fail(error));
    return this.last;
  }

  tell(messages) {
    const before = this.running;
    this.running = this.session.running;
    for (const { head, pictures } of messages) this.heard(head, pictures);
    if (this.running && !before) this.pace();
  }

  /** Steps as often as they should be, while the dream goes on; time that was lost is not made good. */
  pace() {
    if (!this.running) return;
    const now = performance.now();
    if (now < this.due) {
      setTimeout(() => this.pace(), this.due - now);
      return;
    }
    this.due = Math.max(this.due + 1000 / this.session.rate, now);
    this.then((session) => (session.running ? session.tick() : [])).then(
      () => setTimeout(() => this.pace()),
      () => {}, // told already
    );
  }

  fail(error) {
    console.error(error);
    this.closed(`The dream cannot be had: ${error.message}`);
  }
}

/** Shows how much has come, a share of 1. */
function waking(share) {
  document.getElementById("what").textContent = `waking up … ${Math.round(100 * share)} %`;
}
