// Dreams of an RSSM. The state is h, the memory; z, drawn from stats, what h expects; and what the heads say of both.

import { normal, softmax } from "./chance.js";

export class Model {
  /** `facts` are what families.py tells. */
  constructor(graphs, facts) {
    this.memory = graphs.memory;
    this.heads = graphs.heads;
    this.facts = facts;
  }

  /** A state with all that may be asked of it. */
  async whole({ h, z, stats }) {
    const { code, projection } = await this.heads.run({ h, z });
    return { h, z, stats, code, projection };
  }

  /** What follows a state by an action, with `noise` uniform in (0, 1), at temperature tau. */
  async imagine(state, action, noise, tau) {
    const { next_h: h, stats } = await this.memory.run({ ...state, action });
    const z = this.facts.classes ? this.categories(stats, noise, tau) : this.gaussians(stats, noise, tau);
    const { reward, end, code, projection } = await this.heads.run({ h, z });
    return { state: { h, z, stats, code, projection }, reward: reward[0], logit: end[0] };
  }

  /** A part of what a controller gets. */
  part(state, name) {
    return name === "probs" ? this.centre(state.stats) : state[name];
  }

  /** What V makes a picture of. */
  code(state) {
    return state.code;
  }

  /** z in expectation: the probabilities of its classes, or its means. */
  centre(stats) {
    const { groups, classes } = this.facts;
    if (!classes) return stats.subarray(0, groups);
    return Float32Array.from(this.shares(stats).flat());
  }

  /** Of each group, the probabilities of its classes; none is below the share of it that all have alike. */
  shares(stats) {
    const { groups, classes, unimix } = this.facts;
    return Array.from({ length: groups }, (_, g) => {
      const own = softmax(Array.from(stats.subarray(g * classes, (g + 1) * classes)));
      return own.map((share) => (1 - unimix) * share + unimix / classes);
    });
  }

  /** One-hot, group by group: the class in whose share of (0, 1) the noise falls, once log shares are divided by tau. */
  categories(stats, noise, tau) {
    const { groups, classes } = this.facts;
    const z = new Float32Array(groups * classes);
    this.shares(stats).forEach((shares, g) => {
      const heated = tau === 1 ? shares : softmax(shares.map((share) => Math.log(share) / tau));
      let below = heated[0];
      let at = 0;
      while (at < classes - 1 && noise[g] > below) below += heated[++at];
      z[g * classes + at] = 1;
    });
    return z;
  }

  gaussians(stats, noise, tau) {
    const { groups, least_std: least } = this.facts;
    return Float32Array.from({ length: groups }, (_, g) => {
      const std = softplus(stats[groups + g]) + least;
      return stats[g] + std * Math.sqrt(tau) * normal(noise[g]);
    });
  }
}

function softplus(x) {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
