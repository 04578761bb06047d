// What lies beside this page: dream.json, dream.safetensors, networks as ONNX, and the runtime that computes them.

import * as ort from "./onnxruntime.js";

const RUNTIME = "onnxruntime.wasm.gz";

/** All that a dream takes. `came(share)` hears how much has come. */
export async function load(came) {
  const about = await (await fetched("dream.json")).json();
  const graphs = about.graphs.filter((name) => name !== "encoder"); // nothing is seen here
  const names = [RUNTIME, "dream.safetensors", ...graphs.map((name) => `${name}.onnx`)];
  const whole = names.reduce((sum, name) => sum + about.sizes[name], 0);
  let sofar = 0;
  const read = (name) => bytes(name, (count) => came(Math.min(1, (sofar += count) / whole)));
  const [runtime, tensors, ...networks] = await Promise.all(names.map(read));
  ort.env.wasm.numThreads = 1; // more would need a server that sends headers of its own
  ort.env.wasm.wasmBinary = await unpacked(runtime);
  const opened = {};
  for (const [at, name] of graphs.entries()) {
    opened[name] = new Graph(await ort.InferenceSession.create(networks[at], { executionProviders: ["wasm"] }));
  }
  return { about, graphs: opened, tensors: safetensors(tensors) };
}

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is not there (${response.status})`);
  return response;
}

async function bytes(name, counted) {
  const parts = [];
  const reader = (await fetched(name)).body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(next.value);
    counted(next.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** As it was before gzip; some servers have undone that already. */
async function unpacked(found) {
  const isPacked = found[0] === 0x1f && found[1] === 0x8b;
  if (!isPacked) return found.buffer;
  return new Response(new Blob([found]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** The tensors of such a file by name: { rows, values: Float32Array }. */
function safetensors(file) {
  const size = Number(new DataView(file.buffer).getBigUint64(0, true));
  const { __metadata__, ...head } = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + size)));
  const named = Object.entries(head).map(([name, { dtype, shape, data_offsets: [from, to] }]) => {
    if (dtype !== "F32") throw new Error(`${name} is of ${dtype}, not F32`);
    const values = new Float32Array(file.slice(8 + size + from, 8 + size + to).buffer);
    return [name, { rows: shape[0], values }];
  });
  return Object.fromEntries(named);
}

/** A network that computes one row at a time. */
class Graph {
  constructor(session) {
    this.session = session;
  }

  /** Results by name, from inputs by name, Float32Arrays; those that it does not take are left out. */
  async run(inputs) {
    const rows = this.session.inputNames.map((name) => {
      return [name, new ort.Tensor("float32", inputs[name], [1, inputs[name].length])];
    });
    const found = await this.session.run(Object.fromEntries(rows));
    return Object.fromEntries(Object.entries(found).map(([name, tensor]) => [name, tensor.data]));
  }
}
