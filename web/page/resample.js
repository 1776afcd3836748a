// From grid to grid, as lesionlens.imaging.preparation.resampling and lesionlens.engines.separable do it.

import { each, inverse, multiply, size } from "./grid.js";

/** Share from which a voxel belongs to a mask that was resampled; see the module in Python. */
export const HALF = 0.4999;

/** Bring an image onto another grid: a copy where voxels coincide, else linear; zero outside. */
export function resample(values, source, target) {
  const map = multiply(inverse(source.affine), target.affine);
  if (coincide(map)) return picked(values, source.shape, map, target.shape);
  return interpolated(antialiased(values, source, map), source.shape, map, target.shape);
}

function coincide(map) {
  const whole = [0, 1, 2].map((r) => [0, 1, 2].map((c) => Math.round(map[r][c])));
  const one = (line) => line.reduce((sum, v) => sum + Math.abs(v), 0) === 1;
  if (!whole.every(one) || ![0, 1, 2].every((c) => one(whole.map((row) => row[c])))) return false;
  const near = whole.every((row, r) => row.every((v, c) => Math.abs(map[r][c] - v) * 512 <= 1e-2));
  return near && [0, 1, 2].every((r) => Math.abs(map[r][3] - Math.round(map[r][3])) <= 5e-3);
}

function picked(values, shape, map, wanted) {
  const m = map.map((row) => row.map(Math.round));
  const out = new Float32Array(size(wanted));
  const [I, J, K] = shape;
  each(wanted, [0, 0, 0], wanted, (at, i, j, k) => {
    const a = m[0][0] * i + m[0][1] * j + m[0][2] * k + m[0][3];
    const b = m[1][0] * i + m[1][1] * j + m[1][2] * k + m[1][3];
    const c = m[2][0] * i + m[2][1] * j + m[2][2] * k + m[2][3];
    if (a >= 0 && b >= 0 && c >= 0 && a < I && b < J && c < K) out[at] = values[(a * J + b) * K + c];
  });
  return out;
}

function antialiased(values, { shape }, map) {
  const sigma = [0, 1, 2].map((r) => {
    const step = Math.max(...[0, 1, 2].map((c) => Math.abs(map[r][c])));
    return Math.sqrt(Math.max(step * step - 1, 0)) / 2.355;
  });
  if (Math.max(...sigma) < 0.3) return values;
  const along = sigma.map((s, axis) => {
    const reach = Math.floor(2.5 * s + 0.5);
    return rows(shape[axis], (n) => {
      const line = new Map();
      let total = 0;
      for (let d = -reach; d <= reach; d++) total += Math.exp((-0.5 * d * d) / (s * s || 1));
      for (let d = -reach; d <= reach; d++) {
        const at = mirrored(n + d, shape[axis]);
        line.set(at, (line.get(at) ?? 0) + Math.exp((-0.5 * d * d) / (s * s || 1)) / total);
      }
      return line;
    });
  });
  return applied(values, shape, along).values;
}

function mirrored(n, length) {
  const within = ((n % (2 * length)) + 2 * length) % (2 * length);
  return within < length ? within : 2 * length - 1 - within;
}

function interpolated(values, shape, m, wanted) {
  const out = new Float32Array(size(wanted));
  const [I, J, K] = shape;
  const beyond = (p, n) => p < -0.5 || p >= n - 0.5;
  const within = (n, length) => Math.min(Math.max(n, 0), length - 1);
  each(wanted, [0, 0, 0], wanted, (at, i, j, k) => {
    const x = m[0][0] * i + m[0][1] * j + m[0][2] * k + m[0][3];
    const y = m[1][0] * i + m[1][1] * j + m[1][2] * k + m[1][3];
    const z = m[2][0] * i + m[2][1] * j + m[2][2] * k + m[2][3];
    if (beyond(x, I) || beyond(y, J) || beyond(z, K)) return;
    const [a, b, c] = [Math.floor(x), Math.floor(y), Math.floor(z)];
    const [u, v, w] = [x - a, y - b, z - c];
    const [a0, a1] = [within(a, I) * J, within(a + 1, I) * J];
    const [b0, b1] = [within(b, J), within(b + 1, J)];
    const [c0, c1] = [within(c, K), within(c + 1, K)];
    const line = (row) => values[row * K + c0] * (1 - w) + values[row * K + c1] * w;
    const near = line(a0 + b0) * (1 - v) + line(a0 + b1) * v;
    const far = line(a1 + b0) * (1 - v) + line(a1 + b1) * v;
    out[at] = near * (1 - u) + far * u;
  });
  return out;
}

/** One sparse matrix: for each of n targets a Map from source index to weight, as two arrays. */
function rows(n, lineOf) {
  return Array.from({ length: n }, (_, at) => {
    const line = [...lineOf(at)].filter(([, w]) => w !== 0);
    return { at: Int32Array.from(line, ([a]) => a), weight: Float64Array.from(line, ([, w]) => w) };
  });
}

const ANTIALIAS = 0.42;

/** Matrices between two axis-aligned grids; `antialias` for images, else outer values are held. */
export function matrices(source, target, antialias) {
  const map = multiply(inverse(source.affine), target.affine);
  return [0, 1, 2].map((axis) => {
    const [count, step, start] = [source.shape[axis], map[axis][axis], map[axis][3]];
    const smooth = antialias && step > 1.01 ? gaussian(count, ANTIALIAS * step) : null;
    return rows(target.shape[axis], (n) => {
      const place = start + step * n;
      const line = linear(antialias ? place : Math.min(Math.max(place, 0), count - 1), count);
      return smooth ? through(line, smooth) : line;
    });
  });
}

function linear(place, count) {
  const line = new Map();
  for (let at = Math.floor(place) - 1; at <= Math.ceil(place) + 1; at++) {
    const weight = 1 - Math.abs(place - at);
    if (weight > 0 && at >= 0 && at < count) line.set(at, weight);
  }
  return line;
}

function through(line, lines) {
  const out = new Map();
  for (const [at, weight] of line)
    for (const [source, more] of lines[at]) out.set(source, (out.get(source) ?? 0) + weight * more);
  return out;
}

function gaussian(count, sigma) {
  const reach = Math.ceil(4 * sigma);
  return Array.from({ length: count }, (_, n) => {
    const line = new Map();
    let total = 0;
    for (let at = Math.max(n - reach, 0); at <= Math.min(n + reach, count - 1); at++) {
      const weight = Math.exp(-0.5 * ((n - at) / sigma) ** 2);
      line.set(at, weight);
      total += weight;
    }
    for (const [at, weight] of line) line.set(at, weight / total);
    return line;
  });
}

/** Blur by a Gaussian, in voxels; borders are weighed again. */
export function smoothed(values, shape, sigma) {
  const along = shape.map((n) => {
    const lines = gaussian(n, sigma);
    return rows(n, (at) => lines[at]);
  });
  return applied(values, shape, along).values;
}

/** Three products, one an axis: returns {values, shape}. */
export function applied(values, shape, along) {
  let [found, now] = [values, [...shape]];
  for (const axis of [2, 1, 0]) {
    const lines = along[axis];
    const inner = axis === 2 ? 1 : axis === 1 ? now[2] : now[1] * now[2];
    const outer = size(now) / (now[axis] * inner);
    const out = new Float32Array(outer * lines.length * inner);
    for (let o = 0; o < outer; o++)
      lines.forEach(({ at, weight }, n) => {
        const to = (o * lines.length + n) * inner;
        for (let t = 0; t < at.length; t++) {
          const [from, w] = [(o * now[axis] + at[t]) * inner, weight[t]];
          for (let v = 0; v < inner; v++) out[to + v] += w * found[from + v];
        }
      });
    now[axis] = lines.length;
    found = out;
  }
  return { values: found, shape: now };
}
