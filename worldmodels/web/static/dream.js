// A dream: from a state that was really met on, what the model expects, at a temperature, is all the world there is.

import { Luck } from "./chance.js";
import { Model as MDNRNN } from "./mdnrnn.js";
import { Model as RSSM } from "./rssm.js";

const FAMILIES = { mdnrnn: MDNRNN, rssm: RSSM };

export class Dream {
  /** `files` are what files.js loads. */
  constructor({ about, graphs, tensors }) {
    this.about = about;
    this.tensors = tensors;
    this.decoder = graphs.decoder;
    this.model = new FAMILIES[about.family](graphs, about.memory);
    this.tau = about.tau.value;
    this.sampleEnd = false;
  }

  /** The state number `row` of a kind of beginnings; what is alike in all of them is kept once. */
  async beginning(kind, row) {
    const parts = Object.entries(this.tensors).filter(([name]) => name.startsWith(`${kind}.`));
    const state = parts.map(([name, { rows, values }]) => {
      const size = values.length / rows;
      const from = rows > 1 ? row * size : 0;
      return [name.slice(kind.length + 1), values.slice(from, from + size)];
    });
    return this.model.whole(Object.fromEntries(state));
  }

  /** From now on it is in this state, and meets the luck of these seeds. */
  begin(state, ...seeds) {
    this.state = state;
    this.luck = new Luck(...seeds);
  }

  /** Goes on by an action: what is paid for it, how likely the end is, and whether it has come. */
  async step(action) {
    const noise = this.luck.draw(this.about.memory.noise_size + 1); // the last number decides sampled ends
    const { state, ...dreamt } = await this.dreamt(this.state, action, noise);
    this.state = state;
    return dreamt;
  }

  /** The same, from any state with any noise; nothing else is looked at or changed. */
  async dreamt(state, action, noise) {
    const [drawn, last] = [noise.subarray(0, -1), noise.at(-1)];
    const { state: next, reward, logit } = await this.model.imagine(state, action, drawn, this.tau);
    const chance = 1 / (1 + this.about.memory.termination_weight * Math.exp(-logit)); // ends weighed more in training
    if (!this.sampleEnd) return { state: next, reward, end: chance, terminated: logit > 0 };
    const end = lifted(chance, this.about.end_shift);
    return { state: next, reward, end, terminated: end > last };
  }

  /** What a state looks like, as ImageData. */
  async picture(state = this.state) {
    const { picture } = await this.decoder.run({ code: this.model.code(state) });
    const side = Math.sqrt(picture.length / 3);
    const shown = new ImageData(side, side);
    for (let at = 0; at < side * side; at++) {
      shown.data.set(picture.subarray(3 * at, 3 * at + 3), 4 * at);
      shown.data[4 * at + 3] = 255;
    }
    return shown;
  }
}

/** A probability whose logit is `shift` nats higher. */
function lifted(chance, shift) {
  const more = chance * Math.exp(shift);
  return more / (1 - chance + more);
}
