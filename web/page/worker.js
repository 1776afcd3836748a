// Off the page's own thread: reads, prepares, runs the networks. Told {files, runtime, networks,
// notes}, it says {said}, {failed} or {result}.

import * as ort from "onnxruntime-web/wasm";

import { size } from "./grid.js";
import { candidates, predict } from "./method.js";
import { cutOfCore, drawn } from "./parts.js";
import { prepare, read, Unusable } from "./prepare.js";

const tensor = (values, dims) => new ort.Tensor("float32", values, dims);

async function analyse({ files, runtime, networks, notes }) {
  const tell = (said) => postMessage({ said });
  ort.env.wasm.wasmBinary = runtime;
  ort.env.wasm.numThreads = 1; // threads need a server's headers, and this page needs no server
  tell("reading");
  const items = {};
  for (const { sequence, file } of files)
    items[sequence] = read(await file.arrayBuffer(), file.name);
  tell("finding the brain");
  const prepared = await prepare(items, async (x, shape) => {
    const brain = await ort.InferenceSession.create(networks.brain);
    const answer = await brain.run({ image: tensor(x, [1, 1, ...shape]) });
    await brain.release();
    return answer.logit.data;
  });
  tell("loading the network");
  const session = await ort.InferenceSession.create(networks.lens);
  const run = async (x, shape, place) => {
    const inputs = { x: tensor(x, [1, x.length / size(shape), ...shape]) };
    inputs.place = tensor(Float32Array.from(place), [1, 3, 2]);
    const answer = await session.run(inputs, ["logits", "attention"]);
    return { logits: answer.logits.data, attention: answer.attention.data };
  };
  const { probability, attention } = await predict(run, prepared, notes, tell);
  // as `cuts.of_whole_tumour`: without FLAIR and T2 oedema is a guess
  const least = items.flair || items.t2 ? 0 : 0.8;
  const [outer, inner, enhancing] = notes.thresholds;
  const cuts = [Math.max(outer, least), cutOfCore(probability[1], inner), enhancing];
  const marked = drawn(probability, prepared.grid, cuts);
  const found = await candidates(run, prepared, marked, notes, tell);
  const kept = new Set(found.map((one) => one.component));
  const labels = marked.labels.map((label, at) => (kept.has(marked.components[at]) ? label : 0));
  return { ...prepared, probability, attention, labels, candidates: found };
}

onmessage = async ({ data }) => {
  try {
    postMessage({ result: await analyse(data) });
  } catch (error) {
    const words = error instanceof Unusable ? error.message : `It failed: ${error?.message ?? error}`;
    postMessage({ failed: words });
  }
};
