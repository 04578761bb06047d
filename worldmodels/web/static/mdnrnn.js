// Dreams of an MDN-RNN. The state is z, what is seen; h and c, the memory of everything before; first, whether this is
// an episode's first step.

import { normal } from "./chance.js";

export class Model {
  /** `facts` are what families.py tells. */
  constructor(graphs, facts) {
    this.memory = graphs.memory;
    this.facts = facts;
  }

  /** A state with all that may be asked of it. */
  async whole(state) {
    return state;
  }

  /** What follows a state by an action, with `noise` uniform in (0, 1), at temperature tau. */
  async imagine(state, action, noise, tau) {
    const { next_h: h, next_c: c, mixture, reward, end } = await this.memory.run({ ...state, action });
    const z = sample(mixture, noise, tau, this.facts.mixtures);
    return { state: { z, h, c, first: new Float32Array(1) }, reward: reward[0], logit: end[0] };
  }

  /** A part of what a controller gets. */
  part(state, name) {
    return state[name];
  }

  /** What V makes a picture of. */
  code(state) {
    return state.z;
  }
}

/**
 * The next code: in each dimension a component with probability softmax(logit / tau), then mu + sigma sqrt(tau) eps.
 * The first half of the noise chooses, the second becomes eps.
 */
function sample(mixture, noise, tau, components) {
  const size = noise.length / 2;
  const at = (kind, k, d) => mixture[(kind * components + k) * size + d];
  return Float32Array.from({ length: size }, (_, d) => {
    const k = chosen(components, noise[d], tau, (k) => at(0, k, d));
    return at(1, k, d) + Math.exp(at(2, k, d)) * Math.sqrt(tau) * normal(noise[size + d]);
  });
}

function chosen(components, choice, tau, logit) {
  let highest = -Infinity;
  for (let k = 0; k < components; k++) highest = Math.max(highest, logit(k));
  const weights = Array.from({ length: components }, (_, k) => Math.exp((logit(k) - highest) / tau));
  let left = choice * weights.reduce((sum, weight) => sum + weight, 0);
  let k = 0;
  while (k < components - 1 && left > weights[k]) left -= weights[k++];
  return k;
}
