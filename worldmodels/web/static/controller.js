// C: numbers and features to actions in [-1, 1]; linear, or with a layer of tanh units between.

export class Controller {
  /** `params` are, layer by layer, the biases, if it has any, then the weights, a row for each input. */
  constructor({ inputs, hidden_size: hidden, bias }, params, actionSize) {
    this.inputs = inputs;
    this.params = params;
    this.bias = bias || hidden > 0;
    this.outputs = hidden ? [hidden, actionSize] : [actionSize];
  }

  /** The action in a state of `model`. */
  act(model, state) {
    let values = this.inputs.flatMap((part) => Array.from(model.part(state, part)));
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
