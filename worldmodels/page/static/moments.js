// Frames of a real episode, as a strip: choose one, and the dream sets out from there.

import { draw } from "./pictures.js";

const byId = (id) => document.getElementById(id);

export class Moments {
  constructor(line, hello) {
    this.line = line;
    this.whole = byId("moments");
    this.episode = byId("episode");
    this.moment = byId("moment");
    this.whole.hidden = hello.episodes.length === 0;
    const options = hello.episodes.map(({ number, name }) => new Option(name, number));
    this.episode.replaceChildren(...options);
    this.whole.addEventListener("toggle", () => this.renew());
    this.episode.addEventListener("change", () => this.renew());
    this.moment.addEventListener("input", () => this.look());
    byId("from").addEventListener("click", () => line.ask("from", this.chosen));
  }

  get chosen() {
    return { episode: Number(this.episode.value), frame: Number(this.moment.value) };
  }

  /** Asks for the frames anew: the episode that is going on grows. */
  renew() {
    if (this.whole.open) this.line.ask("strip", { episode: Number(this.episode.value) });
  }

  look() {
    byId("moment-now").value = this.moment.value;
    this.line.ask("peek", this.chosen);
  }

  /** The answer to `renew`. */
  strip(head, pictures) {
    this.moment.max = head.length - 1;
    byId("strip").replaceChildren(...head.frames.map((frame) => this.thumbnail(frame, pictures[frame])));
    this.look();
  }

  /** The answer to `look`. */
  peek(pictures) {
    draw(byId("peek"), pictures.peek);
  }

  thumbnail(frame, picture) {
    const button = document.createElement("button");
    button.setAttribute("aria-label", `frame ${frame}`);
    button.append(document.createElement("canvas"));
    draw(button.firstChild, picture);
    button.addEventListener("click", () => {
      this.moment.value = frame;
      this.look();
    });
    return button;
  }
}
