// C: features to actions in [-1, 1].

/** All of an export by name. `files` are what files.js loads. */
export function controllers({ about, graphs, tensors }) {
  const named = Object.entries(about.controllers).map(([name, spec]) => {
    if (spec.graph) return [name, new Actor(spec, graphs[spec.graph])];
    return [name, new Controller(spec, tensors[`controller.${name}`].values, about.memory.action_size)];
  });
  return Object.fromEntries(named);
}

/** A network that was trained. */
class Actor {
  constructor({ inputs }, graph) {
    this.inputs = inputs;
    this.graph = graph;
  }

  /** The action in a state of `model`. */
  async act(model, state) {
    const { action } = await this.graph.run({ feat: Float32Array.from(features(this.inputs, model, state)) });
    return action;
  }
}

/** Numbers that were evolved: a linear map, or one with a layer of tanh units between. */
class Controller {
  /** `params` are, layer by layer, the biases, if it has any, then the weights, a row for each input. */
  constructor({ inputs, hidden_size: hidden, bias }, params, actionSize) {
    this.inputs = inputs;
    this.params = params;
    this.bias = bias || hidden > 0;
    this.outputs = hidden ? [hidden, actionSize] : [actionSize];
  }

  /** The action in a state of `model`. */
  async act(model, state) {
    let values = features(this.inputs, model, state);
    let used = 0;
    const next = () => this.params[used++];
    for (const size of this.outputs) {
      const sums = Array.from({ length: size }, () => (this.bias ? next() : 0));
      for (const value of values) for (let at = 0; at < size; at++) sums[at] += value * next();
      values = sums.map(Math.tanh);
    }
    return Float32Array.from(values);
  }
}

function features(inputs, model, state) {
  return inputs.flatMap((part) => Array.from(model.part(state, part)));
}
