// What goes on behind the page: the dream, and who leads it. It does what page/session.py does for `worldmodels play`.

import { Luck } from "./chance.js";
import { controllers } from "./controller.js";
import { Dream } from "./dream.js";

const YOU = "you";
const THUMBNAILS = 16;
const KINDS = ["starts", "moments"]; // of beginnings; their numbers here, from 0, are what the page calls an episode's
const NAMES = { starts: "where real episodes began", moments: "in the midst of real episodes" };

export class Session {
  /** `files` are what files.js loads. */
  constructor(files) {
    const { about } = files;
    this.about = about;
    this.dream = new Dream(files);
    this.endsAsked({ value: about.ends.value });
    this.pilots = controllers(files);
    this.seed = Math.floor(Math.random() * 2 ** 32);
    this.number = 0; // of the dream
    this.chosen = null; // where it begins, if somebody chose that
    this.who = YOU;
    this.hand = Float32Array.from(about.rest);
    this.speed = 1;
    this.running = false;
  }

  /** Steps a second. */
  get rate() {
    return this.about.rate * this.speed;
  }

  get over() {
    return this.life.over !== "";
  }

  /** What a page is told first. */
  async hello() {
    const { env, run, aspect, tau, ends, speeds, rest, keys, mapped, beginnings } = this.about;
    const episodes = KINDS.flatMap((kind, number) => (beginnings[kind] ? [{ number, name: NAMES[kind] }] : []));
    const who = [YOU, ...Object.keys(this.pilots)];
    const world = { dream: true, real: false, films: false };
    await this.begin();
    const head = { kind: "hello", env, run, aspect, tau, ends, speeds, rest, keys, mapped, episodes, who, ...world };
    return [{ head, pictures: {} }, ...(await this.frame(true))];
  }

  /** Does what a page asks for, and says what comes of it. */
  async hear(what, more) {
    return (await this[`${what}Asked`](more)) ?? [];
  }

  /** One step, and what the dream looks like then. */
  async tick() {
    if (this.over) {
      this.running = false;
      return [];
    }
    const pilot = this.pilots[this.who];
    const action = pilot ? await pilot.act(this.dream.model, this.dream.state) : this.hand;
    const { reward, end, terminated } = await this.dream.step(action);
    this.done = action;
    const over = terminated ? (this.dream.sampleEnd ? "the chance came up" : "M is sure") : "";
    this.life = { steps: this.life.steps + 1, paid: this.life.paid + reward, reward, end, over };
    if (this.over) this.running = false;
    return this.frame();
  }

  // What a page asks for.

  actAsked({ action }) {
    this.hand = Float32Array.from(action);
  }

  whoAsked({ name }) {
    this.who = name;
    return this.frame();
  }

  tauAsked({ value }) {
    this.dream.tau = value;
  }

  endsAsked({ value }) {
    this.dream.sampleEnd = value === "sampled";
  }

  speedAsked({ value }) {
    this.speed = value;
  }

  runAsked({ on }) {
    this.running = on && !this.over;
    return this.frame();
  }

  stepAsked() {
    this.running = false;
    return this.tick();
  }

  async beginAsked({ new: anew }) {
    if (anew) {
      this.number += 1;
      this.chosen = null;
    }
    await this.begin();
    return this.frame(true);
  }

  async stripAsked({ episode }) {
    const length = this.about.beginnings[KINDS[episode]];
    const frames = [...new Set(Array.from({ length: THUMBNAILS }, (_, at) => spread(at, length)))];
    const pictures = {};
    for (const frame of frames) pictures[frame] = await this.look(episode, frame);
    return [{ head: { kind: "strip", episode, length, frames }, pictures }];
  }

  async peekAsked({ episode, frame }) {
    return [{ head: { kind: "peek", episode, frame }, pictures: { peek: await this.look(episode, frame) } }];
  }

  async fromAsked({ episode, frame }) {
    this.chosen = [KINDS[episode], frame];
    await this.begin();
    return this.frame(true);
  }

  shownAsked() {} // a server would wait for that

  // How a dream begins, and what is told of it.

  /** With the same luck each time, as long as its number is the same. */
  async begin() {
    const [first] = new Luck(this.seed, this.number, 0).draw(1);
    const [kind, row] = this.chosen ?? ["starts", Math.floor(first * this.about.beginnings.starts)];
    this.dream.begin(await this.dream.beginning(kind, row), this.seed, this.number, 1);
    this.life = { steps: 0, paid: 0, reward: 0, end: 0, over: "" };
    this.done = Float32Array.from(this.about.rest);
  }

  async look(episode, frame) {
    return this.dream.picture(await this.dream.beginning(KINDS[episode], frame));
  }

  async frame(fresh = false) {
    const { running, over, who, life } = this;
    const head = { kind: "frame", fresh, notes: [], running, over, who, action: Array.from(this.done), dream: life };
    return [{ head: { ...head, real: null, filmed: null }, pictures: { dream: await this.dream.picture() } }];
  }
}

/** The whole number at `at` of THUMBNAILS that are spread evenly over `length`. */
function spread(at, length) {
  return Math.round((at * (length - 1)) / (THUMBNAILS - 1));
}
