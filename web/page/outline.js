// Outlines moved to where this patient's images have them, as
// lesionlens.engines.lens.outline_refinement does it; the constants are explained there.

import { boundingBox, cut, each, size } from "./grid.js";
import { smoothed } from "./resample.js";

const STRENGTH = 0.5;
const LIMIT = 2;
const [INSIDE, OUTSIDE] = [0.8, 0.05];
const LEAST = 300;
const MARGIN = 12;
const REACH = 2;
const RAMP = 0.2;
const NEAREST = 0.01;
const VARIANCE = 0.05;
const EDGE = 1e-3;
const UPTAKE = [0, 1]; // T1, T1c

/** Refine three nested probabilities by the images (null where absent); nested again. */
export function refined(probability, images, brain, shape) {
  const lesion = Uint8Array.from(probability[0], (p) => (p > 0.5 ? 1 : 0));
  const found = boundingBox(lesion, shape);
  if (!found) return probability;
  const low = found[0].map((n) => Math.max(n - MARGIN, 0));
  const high = found[1].map((n, a) => Math.min(n + MARGIN, shape[a]));
  const here = (values) => cut(values, shape, low, high);
  const within = here(brain);
  const inLesion = here(probability[0]).map((p, at) => within[at] * byDegrees(p));
  const shown = images.map((one) => one && here(one));
  const all = shown.filter(Boolean);
  const uptake = UPTAKE.map((c) => shown[c]).filter(Boolean);
  const small = high.map((h, a) => h - low[a]);
  const asked = [[all, within], [all, inLesion], [uptake, inLesion]];
  const [outer, core, enhancing] = asked.map(([seen, around], r) =>
    refinedOne(here(probability[r]), seen, around, small),
  );
  const nested = [
    outer.map((p, at) => Math.max(p, core[at])),
    core,
    enhancing.map((p, at) => Math.min(p, core[at])),
  ];
  return probability.map((whole, r) => {
    const out = whole.slice();
    let n = 0;
    each(shape, low, high, (at) => {
      out[at] = within[n] ? nested[r][n] : 0;
      n++;
    });
    return out;
  });
}

const byDegrees = (p) => Math.min(Math.max((p - 0.5) / RAMP + 0.5, 0), 1);

function refinedOne(probability, images, around, shape) {
  const voxels = (chosen) => [...Array(size(shape)).keys()].filter(chosen);
  const scanned = (v) => images.every((one) => one[v] !== 0); // zero outside a field of view
  const seen = voxels(scanned);
  const weighed = (weight) =>
    seen.map((v) => ({ v, weight: weight(v) })).filter((one) => one.weight > 0);
  const inside = weighed((v) => (probability[v] > INSIDE ? 1 : 0));
  const outside = weighed((v) => (probability[v] < OUTSIDE ? around[v] : 0));
  if (!images.length || Math.min(total(inside), total(outside)) < LEAST) return probability;
  const soft = smoothed(probability.map((p) => byDegrees(p)), shape, REACH);
  const scaled = standardised(images, [inside, outside]);
  const [lesion, other] = [inside, outside].map((chosen) => gaussian(scaled, chosen));
  return probability.map((p, v) => {
    const nearness = 4 * soft[v] * (1 - soft[v]) - NEAREST;
    if (nearness <= 0 || !scanned(v)) return p;
    const values = scaled.map((one) => one(v));
    const ratio = logDensity(lesion, values) - logDensity(other, values);
    const prior = Math.min(Math.max(p, EDGE), 1 - EDGE);
    const shift = STRENGTH * nearness * Math.min(Math.max(ratio, -LIMIT), LIMIT);
    const moved = 1 / (1 + Math.exp(-(Math.log(prior / (1 - prior)) + shift)));
    return Math.min(Math.max(p + moved - prior, 0), 1);
  });
}

const total = (chosen, value = () => 1) =>
  chosen.reduce((sum, { v, weight }) => sum + weight * value(v), 0);

/** For each image a function of a voxel: its value, by mean and deviation of weighed voxels. */
function standardised(images, groups) {
  const count = groups.reduce((sum, chosen) => sum + total(chosen), 0);
  const over = (value) => groups.reduce((sum, chosen) => sum + total(chosen, value), 0) / count;
  return images.map((image) => {
    const mean = over((v) => image[v]);
    const deviation = Math.sqrt(over((v) => (image[v] - mean) ** 2)) + 1e-6;
    return (v) => (image[v] - mean) / deviation;
  });
}

/** Mean, and the Cholesky factor of the covariance, of weighed voxels. */
function gaussian(scaled, chosen) {
  const count = total(chosen);
  const free = count - chosen.reduce((sum, { weight }) => sum + weight ** 2, 0) / count;
  const mean = scaled.map((one) => total(chosen, one) / count);
  const covariance = scaled.map((a, m) =>
    scaled.map((b, n) => {
      const sum = total(chosen, (v) => (a(v) - mean[m]) * (b(v) - mean[n]));
      return sum / free + (m === n ? VARIANCE : 0);
    }),
  );
  const factor = covariance.map((row) => row.map(() => 0));
  covariance.forEach((row, m) => {
    for (let n = 0; n <= m; n++) {
      const rest = row[n] - factor[m].reduce((sum, v, k) => (k < n ? sum + v * factor[n][k] : sum), 0);
      factor[m][n] = m === n ? Math.sqrt(rest) : rest / factor[n][n];
    }
  });
  return { mean, factor };
}

function logDensity({ mean, factor }, values) {
  const solved = [];
  let [distance, logDet] = [0, 0];
  factor.forEach((row, m) => {
    const rest = solved.reduce((sum, v, k) => sum + v * row[k], 0);
    solved.push((values[m] - mean[m] - rest) / row[m]);
    distance += solved[m] ** 2;
    logDet += 2 * Math.log(row[m]);
  });
  return -0.5 * (distance + logDet);
}
