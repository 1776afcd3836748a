// Between thick slices, as lesionlens.imaging.preparation.thick_slices has it: the smoothest intensity
// whose mean over each slice is as measured.

import { apply, nominal } from "./grid.js";
import { applied } from "./resample.js";

const THICK_FROM_MM = 3;
const UNEQUAL = 1.5;
const MIN_SLICES = 4;
const SMOOTHNESS = 1e-4;
const NOTHING = 1e-9; // weights below this are left out: most of a row

function sliceAxis(grid) {
  const edges = nominal(grid);
  const axis = edges.indexOf(Math.max(...edges));
  const thick = edges[axis] >= THICK_FROM_MM && edges[axis] >= UNEQUAL * Math.min(...edges);
  return thick && grid.shape[axis] >= MIN_SLICES ? axis : null;
}

/** Divide thick slices into thinner ones whose mean they are: {values, shape, affine}. */
export function divided({ values, shape, affine }, edgeMm) {
  const axis = sliceAxis({ shape, affine });
  if (axis === null) return { values, shape, affine };
  const parts = Math.max(toEven(nominal({ affine })[axis] / edgeMm), 1);
  const along = shape.map((n, a) =>
    a === axis ? rows(n, parts) : Array.from({ length: n }, (_, at) => ({ at: [at], weight: [1] })),
  );
  const thin = applied(values, shape, along);
  const least = values.reduce((low, v) => Math.min(low, v), Infinity);
  const first = apply(affine, [0, 1, 2].map((a) => (a === axis ? (1 / parts - 1) / 2 : 0)));
  return {
    values: thin.values.map((v) => Math.max(v, least)),
    shape: thin.shape,
    affine: affine.map((row, r) =>
      r === 3 ? row : [...row.slice(0, 3).map((v, c) => (c === axis ? v / parts : v)), first[r]],
    ),
  };
}

/** The nearest whole number, the even one of two. */
function toEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

/** The matrix from measured means to thinner slices, by its rows: {at, weight}. */
function rows(slices, parts) {
  const n = slices * parts;
  const system = Array.from({ length: n }, () => new Float64Array(n));
  for (let a = 0; a < n; a++) {
    const slice = Math.floor(a / parts) * parts;
    for (let b = slice; b < slice + parts; b++) system[a][b] += 1 / parts ** 2;
  }
  const weight = SMOOTHNESS * parts ** 3;
  const second = [1, -2, 1];
  for (let at = 0; at + 2 < n; at++)
    for (let a = 0; a < 3; a++)
      for (let b = 0; b < 3; b++) system[at + a][at + b] += weight * second[a] * second[b];
  const means = Array.from({ length: n }, (_, a) => {
    const row = new Float64Array(slices);
    row[Math.floor(a / parts)] = 1 / parts;
    return row;
  });
  solve(system, means, Math.max(parts, 3));
  return means.map((row) => {
    const at = [...row.keys()].filter((s) => Math.abs(row[s]) > NOTHING);
    return { at, weight: at.map((s) => row[s]) };
  });
}

/** Solve a positive definite system of few diagonals by elimination; `right` becomes the answer. */
function solve(system, right, width) {
  const n = system.length;
  for (let a = 0; a < n; a++)
    for (let b = a + 1; b < Math.min(a + width, n); b++) {
      const share = system[b][a] / system[a][a];
      if (!share) continue;
      for (let c = a; c < Math.min(a + width, n); c++) system[b][c] -= share * system[a][c];
      right[a].forEach((v, s) => (right[b][s] -= share * v));
    }
  for (let a = n - 1; a >= 0; a--) {
    for (let b = a + 1; b < Math.min(a + width, n); b++)
      right[b].forEach((v, s) => (right[a][s] -= system[a][b] * v));
    right[a] = right[a].map((v) => v / system[a][a]);
  }
}
