// What is done with the network: lesionlens.engines.lens.method, and what its candidates
// score. `run(x, shape, place)` runs it on (8, I, J, K) values and returns {logits, attention}.

import { boundingBox, cropped, cut, each, apply, inverse, respaced, size, voxelMl } from "./grid.js";
import { refined as outlinesRefined } from "./outline.js";
import { near } from "./parts.js";
import { quantile } from "./prepare.js";
import { HALF, applied, matrices, smoothed } from "./resample.js";

const [FLAIR, T1C] = [3, 1];
const SCALE = 1.5; // of the spacing, for the pass that candidates are scored by
const BLUR = 0.7;
const SHARE = 0.7; // of the refinement in what is shown of the enhancing tumour
const WINDOW = 96;
const MARGIN_MM = 6;
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** Cut to the brain, resample, z-score. */
function networkInput({ grid, channels, present, brain }, edge) {
  const [a, b] = boundingBox(brain, grid.shape);
  const low = a.map((n) => Math.max(n - 2, 0));
  const high = b.map((n, axis) => Math.min(n + 2, grid.shape[axis]));
  const box = cropped(grid, low, high);
  const target = respaced(box, edge);
  const along = matrices(box, target, true);
  const inside = Float32Array.from(cut(brain, grid.shape, low, high));
  const mask = applied(inside, box.shape, along).values.map((v) => (v > HALF ? 1 : 0));
  const scaled = channels.map((channel, c) => {
    if (!present[c]) return new Float32Array(size(target.shape));
    const values = cut(channel, grid.shape, low, high).map((v, at) => v * inside[at]);
    return zscored(applied(values, box.shape, along).values, mask, target.shape);
  });
  return { scaled, mask, present, grid: target, box, low, high, inside };
}

function zscored(values, mask, shape) {
  const inside = values.filter((_, at) => mask[at]);
  const step = Math.max(1, Math.round(Math.cbrt(inside.length / 20_000)));
  const some = [];
  each(shape, [0, 0, 0], shape, (at, i, j, k) => {
    if (mask[at] && !(i % step) && !(j % step) && !(k % step)) some.push(values[at]);
  });
  const sample = (some.length ? Float32Array.from(some) : inside.slice()).sort();
  const [low, high] = [quantile(sample, 0.005), quantile(sample, 0.995)];
  const clip = (v) => Math.min(Math.max(v, low), high);
  const mean = inside.reduce((sum, v) => sum + clip(v), 0) / inside.length;
  const square = inside.reduce((sum, v) => sum + (clip(v) - mean) ** 2, 0) / inside.length;
  const deviation = Math.sqrt(square);
  if (deviation <= 1e-6 * Math.max(1, Math.abs(mean))) return new Float32Array(values.length);
  const scale = (v) => Math.min(Math.max((v - mean) / deviation, -5), 5);
  return values.map((v, at) => (mask[at] ? scale(v) : 0));
}

/** The (8, I, J, K) input that shows some of the sequences. */
function shownInput({ scaled, mask, present }, shown) {
  const n = mask.length;
  const x = new Float32Array(8 * n);
  for (const c of shown.filter((one) => present[one])) {
    x.set(scaled[c], c * n);
    x.set(mask, (4 + c) * n);
  }
  return x;
}

/** Run padded to what the network reads; attention adds up to one over what is kept. */
async function pass(run, x, shape, place) {
  const wide = shape.map((n) => n + Math.max((8 - (n % 8)) % 8, 16 - n));
  const [channels, n] = [x.length / size(shape), size(shape)];
  const padded = new Float32Array(channels * size(wide));
  const at = (i, j, k) => (i * wide[1] + j) * wide[2] + k;
  for (let c = 0; c < channels; c++)
    each(shape, [0, 0, 0], shape, (v, i, j, k) => {
      padded[c * size(wide) + at(i, j, k)] = x[c * n + v];
    });
  const answer = await run(padded, wide, place ?? [-1, 1, -1, 1, -1, 1]);
  const kept = (values) =>
    [0, 1, 2].map((r) => {
      const out = new Float32Array(n);
      each(shape, [0, 0, 0], shape, (v, i, j, k) => {
        out[v] = values[r * size(wide) + at(i, j, k)];
      });
      return out;
    });
  return { logits: kept(answer.logits), attention: kept(answer.attention).map(addUpToOne) };
}

function addUpToOne(map) {
  const total = Math.max(map.reduce((sum, v) => sum + v, 0), 1e-12);
  return map.map((v) => v / total);
}

const shownOf = (present) => [0, 1, 2, 3].filter((c) => present[c]);
const ensemble = (shown) =>
  shown.includes(FLAIR) && shown.length > 1 ? [shown, [FLAIR]] : [shown];
const calibrated = (notes, logits) => logits.map((l, r) => l.map((v) => v / notes.temperature[r]));

/** Left and right swapped: (C, I, J, K) values. */
function swapped(values, shape) {
  const slice = shape[1] * shape[2];
  const out = new values.constructor(values.length);
  for (let first = 0; first < values.length; first += size(shape))
    for (let i = 0; i < shape[0]; i++) {
      const from = first + (shape[0] - 1 - i) * slice;
      out.set(values.subarray(from, from + slice), first + i * slice);
    }
  return out;
}

async function firstPass(run, study, notes) {
  const [shown, ...others] = ensemble(shownOf(study.present));
  const { shape } = study.grid;
  const x = shownInput(study, shown);
  const out = await pass(run, x, shape);
  const back = await pass(run, swapped(x, shape), shape);
  const mirrored = calibrated(notes, back.logits).map((l) => swapped(l, shape));
  const sums = calibrated(notes, out.logits).map((logits, r) =>
    logits.map((l, at) => sigmoid(l) + sigmoid(mirrored[r][at])),
  );
  const mean = sums.map((values) => values.map((v) => v / 2));
  for (const one of others) {
    const other = await pass(run, shownInput(study, one), shape);
    calibrated(notes, other.logits)[0].forEach((l, at) => (sums[0][at] += sigmoid(l)));
  }
  mean[0] = sums[0].map((sum, at) => Math.max(sum / (2 + others.length), mean[1][at]));
  const logit = (p) => {
    const inside = Math.min(Math.max(p, 1e-6), 1 - 1e-6);
    return Math.log(inside) - Math.log1p(-inside);
  };
  return { attention: out.attention, logits: mean.map((m) => m.map(logit)) };
}

function starts(first, stop, length, edge) {
  if (edge >= length) return [0];
  const inside = (n) => Math.min(Math.max(n, 0), length - edge);
  const need = stop - first;
  if (need <= edge) return [inside(Math.floor((first + stop - edge) / 2))];
  const count = 1 + Math.ceil((need - edge) / (edge / 2));
  const even = (n) => first + ((stop - edge - first) * n) / (count - 1);
  const rounded = (v) => (Math.abs(v % 1) === 0.5 ? 2 * Math.round(v / 2) : Math.round(v));
  return [...new Set(Array.from({ length: count }, (_, n) => inside(rounded(even(n)))))];
}

function windowsOver(wanted, shape) {
  const box = boundingBox(wanted, shape);
  if (!box) return [];
  const corners = [0, 1, 2].map((a) => starts(box[0][a], box[1][a], shape[a], WINDOW));
  const found = [];
  for (const i of corners[0])
    for (const j of corners[1])
      for (const k of corners[2]) {
        const low = [i, j, k];
        const high = low.map((n, a) => Math.min(n + WINDOW, shape[a]));
        let any = false;
        each(shape, low, high, (at) => (any ||= wanted[at] > 0));
        if (any) found.push([low, high]);
      }
  return found;
}

const hanning = (n) =>
  Float32Array.from({ length: n }, (_, m) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (m + 1)) / (n + 1)) + 1e-3);

/** The network again, in finer windows round what is suspected; null where nothing is. */
async function refinement(run, prepared, study, logits, notes) {
  if (!notes.focus_spacing_mm || !prepared.present[T1C]) return null;
  const suspected = Uint8Array.from(logits[0], (l) => (sigmoid(l) >= 0.25 ? 1 : 0));
  if (!suspected.includes(1)) return null;
  const fine = networkInput(prepared, notes.focus_spacing_mm);
  const { shape } = fine.grid;
  const there = matrices(study.grid, fine.grid, false);
  const close = Float32Array.from(near(suspected, study.grid, MARGIN_MM));
  const bring = (values) => applied(values, study.grid.shape, there).values;
  const wanted = Uint8Array.from(bring(close), (v) => (v > HALF ? 1 : 0));
  const x = shownInput(fine, shownOf(prepared.present));
  const n = size(shape);
  const [sum, weight, attended] = [0, 0, 0].map(() => new Float32Array(n));
  for (const [low, high] of windowsOver(wanted, shape)) {
    const small = high.map((h, a) => h - low[a]);
    const part = new Float32Array(8 * size(small));
    for (let c = 0; c < 8; c++)
      part.set(cut(x.subarray(c * n, (c + 1) * n), shape, low, high), c * size(small));
    const place = [0, 1, 2].flatMap((a) => [low, high].map((e) => (2 * e[a]) / shape[a] - 1));
    const out = await pass(run, part, small, place);
    const answer = calibrated(notes, out.logits)[2];
    const mass = answer.reduce((total, l) => total + sigmoid(l), 0);
    const bump = small.map(hanning);
    let m = 0;
    each(shape, low, high, (at, i, j, k) => {
      const w = bump[0][i - low[0]] * bump[1][j - low[1]] * bump[2][k - low[2]];
      sum[at] += answer[m] * w;
      weight[at] += w;
      attended[at] += out.attention[2][m++] * mass;
    });
  }
  const before = bring(logits[2]);
  const soft = bring(smoothed(close, study.grid.shape, 1));
  const change = before.map((b, at) => {
    const mean = sum[at] / Math.max(weight[at], 1e-6);
    return SHARE * Math.min(weight[at] / 0.25, 1) * (mean - b) * soft[at];
  });
  const back = matrices(fine.grid, study.box, false);
  const home = (values) => applied(values, shape, back).values;
  return { change: home(change), attended: home(smoothed(attended, shape, BLUR)) };
}

/** Probability and attention of whole tumour, core and, with T1c, enhancing tumour. */
export async function predict(run, prepared, notes, tell) {
  tell("predicting the whole brain");
  const study = networkInput(prepared, notes.spacing_mm);
  const { attention, logits } = await firstPass(run, study, notes);
  const along = matrices(study.grid, study.box, false);
  const home = (values) => applied(values, study.grid.shape, along).values;
  const fine = logits.map(home);
  tell("refining candidates");
  const refined = await refinement(run, prepared, study, logits, notes);
  if (refined) fine[2] = fine[2].map((l, at) => l + refined.change[at]);
  const { inside } = study;
  const probability = fine.map((l) => l.map((v, at) => sigmoid(v) * inside[at]));
  for (const r of [1, 2])
    probability[r] = probability[r].map((p, at) => Math.min(p, probability[r - 1][at]));
  const images = prepared.channels.map((channel, c) =>
    prepared.present[c] ? cut(channel, prepared.grid.shape, study.low, study.high) : null,
  );
  const redrawn = outlinesRefined(probability, images, inside, study.box.shape);
  const maps = attention.map((a) =>
    addUpToOne(home(smoothed(a, study.grid.shape, BLUR)).map((v, at) => v * inside[at])),
  );
  if (refined) {
    const closer = addUpToOne(refined.attended.map((v, at) => v * inside[at]));
    maps[2] = maps[2].map((v, at) => v + SHARE * (closer[at] - v));
  }
  const rounded = (p) => Math.round(Math.min(Math.max(p, 0), 1) * 4096) / 4096;
  const seen = prepared.present[T1C] ? 3 : 2; // without T1c nothing is known to enhance
  const whole = (values) => placed(values, prepared.grid.shape, study.low, study.high);
  return {
    probability: redrawn.slice(0, seen).map((p) => whole(p.map(rounded))),
    attention: maps.slice(0, seen).map((m) => drawn(whole(m), prepared.brain)),
  };
}

function placed(values, shape, low, high) {
  const out = new Float32Array(size(shape));
  let n = 0;
  each(shape, low, high, (at) => (out[at] = values[n++]));
  return out;
}

const [FAINT, TOP_MASS] = [8, 0.2];

/** Bring attention to 0-1 by its full scale, in multiples of even attention. */
function drawn(weights, brain) {
  const count = brain.reduce((sum, b) => sum + b, 0);
  const shown = weights.map((w, at) => (brain[at] ? Math.max(w, 0) : 0));
  const total = shown.reduce((sum, w) => sum + w, 0);
  const raw = total > 0 ? shown.map((w) => (w * count) / total) : shown;
  const values = raw.filter((v) => v > FAINT).sort().reverse();
  const goal = TOP_MASS * raw.reduce((sum, v) => sum + v, 0);
  let [reached, at] = [0, 0];
  while (at < values.length - 1 && (reached += values[at]) < goal) at++;
  const scale = values.length ? values[at] : FAINT;
  return { map: raw.map((v) => Math.min(v / scale, 1)), scale };
}

/** Score components by a fast pass; those below the floor are left out. Highest first. */
export async function candidates(run, prepared, marked, notes, tell) {
  if (!marked.count) return [];
  tell("scoring candidates");
  const study = networkInput(prepared, SCALE * notes.spacing_mm);
  const answers = [];
  for (const shown of ensemble(shownOf(prepared.present))) {
    const out = await pass(run, shownInput(study, shown), study.grid.shape);
    answers.push(calibrated(notes, out.logits).map((l) => l.map(sigmoid)));
  }
  const whole = answers[0][0].map(
    (_, at) => answers.reduce((sum, a) => sum + a[0][at], 0) / answers.length,
  );
  const [intercept, slope, perMl] = notes.score;
  return parts(prepared.grid, marked, study.grid, prepared.present[T1C])
    .map((part) => {
      let total = intercept + slope * surest(part.voxels.map((v) => whole[v]));
      total += perMl * Math.log(Math.max(part.volume_ml.wt, 1e-3));
      const { voxels, ...rest } = part;
      return { ...rest, score: sigmoid(total) };
    })
    .filter(({ score }) => score >= (notes.score_floor || 0.2))
    .sort((a, b) => b.score - a.score)
    .map((one, n) => ({ id: n + 1, ...one }));
}

function surest(values) {
  const count = Math.max(1, Math.ceil(0.3 * values.length));
  const top = [...values].sort((a, b) => b - a).slice(0, count);
  const logits = top.map((p) => Math.min(Math.max(p, 1e-6), 1 - 1e-6)).map((p) => Math.log(p / (1 - p)));
  return logits.reduce((sum, l) => sum + l, 0) / count;
}

/** Each component: its number, volumes, centre and the voxels of another grid that it lies in. */
function parts(grid, marked, coarse, contrast) {
  const back = inverse(coarse.affine);
  const found = Array.from({ length: marked.count }, (_, n) => ({
    component: n + 1, seen: new Set(), count: [0, 0, 0], sum: [0, 0, 0],
  }));
  const clamp = (p, a) => Math.min(Math.max(Math.round(p), 0), coarse.shape[a] - 1);
  each(grid.shape, [0, 0, 0], grid.shape, (at, i, j, k) => {
    const one = found[marked.components[at] - 1];
    if (!one) return;
    const label = marked.labels[at];
    one.count[0]++;
    if (label !== 2) one.count[1]++;
    if (label === 3) one.count[2]++;
    const mm = apply(grid.affine, [i, j, k]);
    mm.forEach((v, a) => (one.sum[a] += v));
    const [x, y, z] = apply(back, mm).map(clamp);
    one.seen.add((x * coarse.shape[1] + y) * coarse.shape[2] + z);
  });
  const ml = voxelMl(grid);
  return found.map(({ component, seen, count, sum }) => ({
    component,
    voxels: [...seen],
    centroid_mm: sum.map((s) => s / count[0]),
    volume_ml: { wt: count[0] * ml, tc: count[1] * ml, et: contrast ? count[2] * ml : null },
  }));
}
