// Connected parts, holes and margins of masks (Uint8Array), as lesionlens.analysis.findings.components and
// lesionlens.imaging.preparation.brain make them.

import { boundingBox, cropped, cut, each, size, spacing, voxelMl } from "./grid.js";

const FACES = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]];
const TOUCHING = [];
for (let n = 0; n < 27; n++)
  if (n !== 13) TOUCHING.push([Math.floor(n / 9) - 1, (Math.floor(n / 3) % 3) - 1, (n % 3) - 1]);

/** Number the connected parts: {labels: Int32Array, sizes} with sizes[0] = 0. */
export function labelled(mask, shape, touching = true) {
  const steps = touching ? TOUCHING : FACES;
  const labels = new Int32Array(mask.length);
  const stack = new Int32Array(mask.length);
  const sizes = [0];
  const [, J, K] = shape;
  for (let seed = 0; seed < mask.length; seed++) {
    if (!mask[seed] || labels[seed]) continue;
    const number = sizes.length;
    let [depth, count] = [0, 0];
    stack[depth++] = seed;
    labels[seed] = number;
    while (depth) {
      const at = stack[--depth];
      count++;
      const [i, j, k] = [Math.floor(at / (J * K)), Math.floor(at / K) % J, at % K];
      for (const [a, b, c] of steps) {
        const [x, y, z] = [i + a, j + b, k + c];
        if (x < 0 || y < 0 || z < 0 || x >= shape[0] || y >= J || z >= K) continue;
        const to = (x * J + y) * K + z;
        if (mask[to] && !labels[to]) {
          labels[to] = number;
          stack[depth++] = to;
        }
      }
    }
    sizes.push(count);
  }
  return { labels, sizes };
}

export function largest(mask, shape) {
  const { labels, sizes } = labelled(mask, shape, false);
  const best = sizes.indexOf(Math.max(...sizes));
  return best ? Uint8Array.from(labels, (n) => (n === best ? 1 : 0)) : mask;
}

/** Fill what a mask encloses on all sides. */
export function solid(mask, shape) {
  const wide = shape.map((n) => n + 2);
  const free = new Uint8Array(size(wide)).fill(1);
  each(shape, [0, 0, 0], shape, (at, i, j, k) => {
    if (mask[at]) free[((i + 1) * wide[1] + j + 1) * wide[2] + k + 1] = 0;
  });
  const { labels } = labelled(free, wide, false);
  const out = new Uint8Array(mask.length);
  each(shape, [0, 0, 0], shape, (at, i, j, k) => {
    out[at] = labels[((i + 1) * wide[1] + j + 1) * wide[2] + k + 1] === labels[0] ? 0 : 1;
  });
  return out;
}

/** Mark what lies within a distance of what is marked. */
export function near(mask, { shape, affine }, reachMm) {
  const edges = spacing({ affine });
  const offsets = [];
  const reach = edges.map((e) => Math.floor(reachMm / e + 1e-9));
  for (let a = -reach[0]; a <= reach[0]; a++)
    for (let b = -reach[1]; b <= reach[1]; b++)
      for (let c = -reach[2]; c <= reach[2]; c++)
        if (Math.hypot(a * edges[0], b * edges[1], c * edges[2]) <= reachMm + 1e-9)
          offsets.push([a, b, c]);
  const out = new Uint8Array(mask.length);
  each(shape, [0, 0, 0], shape, (at, i, j, k) => {
    if (!mask[at]) return;
    for (const [a, b, c] of offsets) {
      const [x, y, z] = [i + a, j + b, k + c];
      if (x >= 0 && y >= 0 && z >= 0 && x < shape[0] && y < shape[1] && z < shape[2])
        out[(x * shape[1] + y) * shape[2] + z] = 1;
    }
  });
  return out;
}

/** Add what is enclosed in at least two of the three orthogonal planes. */
function filled(mask, shape) {
  const votes = new Uint8Array(mask.length);
  for (let axis = 0; axis < 3; axis++) {
    const [u, v] = [0, 1, 2].filter((a) => a !== axis);
    const strides = [shape[1] * shape[2], shape[2], 1];
    const stack = new Int32Array(shape[u] * shape[v]);
    for (let n = 0; n < shape[axis]; n++) {
      const seen = new Uint8Array(shape[u] * shape[v]);
      let depth = 0;
      const reach = (a, b) => {
        const plane = a * shape[v] + b;
        if (seen[plane] || mask[n * strides[axis] + a * strides[u] + b * strides[v]]) return;
        seen[plane] = 1;
        stack[depth++] = plane;
      };
      for (let a = 0; a < shape[u]; a++) reach(a, 0), reach(a, shape[v] - 1);
      for (let b = 0; b < shape[v]; b++) reach(0, b), reach(shape[u] - 1, b);
      while (depth) {
        const plane = stack[--depth];
        const [a, b] = [Math.floor(plane / shape[v]), plane % shape[v]];
        if (a > 0) reach(a - 1, b);
        if (a + 1 < shape[u]) reach(a + 1, b);
        if (b > 0) reach(a, b - 1);
        if (b + 1 < shape[v]) reach(a, b + 1);
      }
      for (let plane = 0; plane < seen.length; plane++)
        if (!seen[plane]) {
          const [a, b] = [Math.floor(plane / shape[v]), plane % shape[v]];
          votes[n * strides[axis] + a * strides[u] + b * strides[v]]++;
        }
    }
  }
  return mask.map((m, at) => (m || votes[at] >= 2 ? 1 : 0));
}

function withoutSpecks(mask, shape, smallest) {
  const { labels, sizes } = labelled(mask, shape);
  return mask.map((_, at) => (labels[at] && sizes[labels[at]] >= smallest ? 1 : 0));
}

const [MIN_OF_CORE, BINS] = [0.2, 200];

/** As `cuts.of_core`: half of the highest expected Dice, within limits. */
export function cutOfCore(probability, usual) {
  const counts = new Float64Array(BINS);
  for (const p of probability) counts[Math.min(Math.floor(p * BINS), BINS - 1)]++;
  const middle = (n) => (n + 0.5) / BINS;
  const all = counts.reduce((sum, count, n) => (n ? sum + count * middle(n) : sum), 0);
  let [hit, voxels, best] = [0, 0, 0];
  for (let n = BINS - 1; n > 0; n--) {
    hit += counts[n] * middle(n);
    voxels += counts[n];
    best = Math.max(best, hit / Math.max(voxels + all, 1));
  }
  return Math.min(usual, Math.max(MIN_OF_CORE, best));
}

const SMALLEST_ML = 0.1;
const SLIGHT = { share: 0.15, median: 0.6 };
const MERGE_MM = 3;

/** Draw regions and components from two or three probabilities: {labels, components, count}. */
export function drawn(probability, grid, thresholds) {
  const { shape } = grid;
  const labels = new Uint8Array(size(shape));
  const components = new Int32Array(size(shape));
  const whole = Uint8Array.from(probability[0], (p) => (p >= thresholds[0] ? 1 : 0));
  const box = boundingBox(whole, shape);
  if (!box) return { labels, components, count: 0 };
  const [low, high] = box;
  const part = cropped(grid, low, high);
  const smallest = Math.max(1, Math.round(SMALLEST_ML / voxelMl(grid)));
  let region = withoutSpecks(filled(cut(whole, shape, low, high), part.shape), part.shape, smallest);
  const found = region.map((r) => (r ? 2 : 0));
  for (const [index, label] of [[1, 1], [2, 3]].slice(0, probability.length - 1)) {
    const inner = cut(probability[index], shape, low, high);
    let mask = region.map((r, at) => (r && inner[at] >= thresholds[index] ? 1 : 0));
    if (index === 1) mask = filled(mask, part.shape).map((m, at) => m & region[at]);
    mask = withoutSpecks(mask, part.shape, smallest);
    if (index === 2) mask = withoutSlight(region, mask, inner, part.shape);
    region = mask;
    region.forEach((r, at) => r && (found[at] = label));
  }
  const groups = merged(found, part);
  let n = 0;
  each(shape, low, high, (at) => {
    labels[at] = found[n];
    components[at] = groups.labels[n++];
  });
  return { labels, components, count: groups.count };
}

/** Leave out what is little and doubtful of the enhancement in each connected core. */
function withoutSlight(core, mask, probability, shape) {
  const { labels, sizes } = labelled(core, shape);
  const chances = new Map();
  mask.forEach((m, at) => {
    if (!m) return;
    if (!chances.has(labels[at])) chances.set(labels[at], []);
    chances.get(labels[at]).push(probability[at]);
  });
  const slight = new Set();
  for (const [number, own] of chances)
    if (own.length < SLIGHT.share * sizes[number] && median(own) < SLIGHT.median)
      slight.add(number);
  return mask.map((m, at) => (m && !slight.has(labels[at]) ? 1 : 0));
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Number connected parts; parts with a small gap between them share a number. */
function merged(found, grid) {
  const reach = spacing(grid).map((e) => Math.ceil(MERGE_MM / e));
  const wide = { shape: grid.shape.map((n, a) => n + 2 * reach[a]), affine: grid.affine };
  const at = (i, j, k) =>
    ((i + reach[0]) * wide.shape[1] + j + reach[1]) * wide.shape[2] + k + reach[2];
  const padded = new Uint8Array(size(wide.shape));
  each(grid.shape, [0, 0, 0], grid.shape, (n, i, j, k) => (padded[at(i, j, k)] = found[n] ? 1 : 0));
  const groups = labelled(near(padded, wide, MERGE_MM), wide.shape).labels;
  const labels = new Int32Array(found.length);
  const numbers = new Map();
  each(grid.shape, [0, 0, 0], grid.shape, (n, i, j, k) => {
    if (!found[n]) return;
    const group = groups[at(i, j, k)];
    if (!numbers.has(group)) numbers.set(group, numbers.size + 1);
    labels[n] = numbers.get(group);
  });
  return { labels, count: numbers.size };
}
