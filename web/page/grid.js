// Voxel grids in the patient: {shape: [I, J, K], affine: rows of a 4 x 4 matrix from voxel index to
// RAS+ mm}. Volumes are Float32Array in C order: voxel (i, j, k) at (i * J + j) * K + k.

export const size = (shape) => shape[0] * shape[1] * shape[2];

export const apply = (m, p) =>
  [0, 1, 2].map((r) => m[r][0] * p[0] + m[r][1] * p[1] + m[r][2] * p[2] + m[r][3]);

export const multiply = (a, b) =>
  a.map((row) => [0, 1, 2, 3].map((c) => row.reduce((sum, v, n) => sum + v * b[n][c], 0)));

export function inverse(m) {
  const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = m;
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const r = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((v) => v / det));
  const rows = r.map((row) => [...row, -(row[0] * x + row[1] * y + row[2] * z)]);
  return [...rows, [0, 0, 0, 1]];
}

export const spacing = ({ affine }) =>
  [0, 1, 2].map((c) => Math.hypot(affine[0][c], affine[1][c], affine[2][c]));

/** Voxel edges to a micrometre: an oblique header in float32 makes 3 mm a little less or more. */
export const nominal = (grid) => spacing(grid).map((edge) => Math.round(edge * 1e3) / 1e3);

export const voxelMl = (grid) => spacing(grid).reduce((a, b) => a * b, 1) / 1000;

// A header in float32 adds no voxel.
const ceiled = (v) => Math.ceil(Math.round(v * 1e3) / 1e3);

const cubes = (edge, first) => [
  [edge, 0, 0, first[0]],
  [0, edge, 0, first[1]],
  [0, 0, edge, first[2]],
  [0, 0, 0, 1],
];

/** Axis-aligned RAS+ cubes round a field of view that may be oblique. */
export function rasGrid({ affine, shape }, edge) {
  const counts = [0, 1, 2].map((r) => {
    const half = shape.reduce((sum, n, c) => sum + (Math.abs(affine[r][c]) * n) / 2, 0);
    return Math.max(ceiled((2 * half) / edge), 1);
  });
  const centre = apply(affine, shape.map((n) => (n - 1) / 2));
  return { shape: counts, affine: cubes(edge, centre.map((c, a) => c - (edge * (counts[a] - 1)) / 2)) };
}

/** The same field of view of an axis-aligned grid, in cubes of another edge. */
export function respaced({ affine, shape }, edge) {
  const edges = spacing({ affine });
  const counts = shape.map((n, a) => ceiled((n * edges[a]) / edge));
  const centre = apply(affine, shape.map((n) => (n - 1) / 2));
  return { shape: counts, affine: cubes(edge, centre.map((c, a) => c - (edge * (counts[a] - 1)) / 2)) };
}

/** The voxels low <= index < high of a grid. */
export function cropped({ affine }, low, high) {
  const at = apply(affine, low);
  const rows = affine.map((row, r) => (r < 3 ? [row[0], row[1], row[2], at[r]] : row));
  return { shape: high.map((h, a) => h - low[a]), affine: rows };
}

export function sameGrid(a, b, tolerance = 1e-2) {
  if (a.shape.some((n, axis) => n !== b.shape[axis])) return false;
  return a.affine.every((row, r) => row.every((v, c) => Math.abs(v - b.affine[r][c]) < tolerance));
}

/** Call back with (flat index, i, j, k) for every voxel of a box [low, high) of a volume. */
export function each(shape, low, high, visit) {
  for (let i = low[0]; i < high[0]; i++)
    for (let j = low[1]; j < high[1]; j++) {
      const row = (i * shape[1] + j) * shape[2];
      for (let k = low[2]; k < high[2]; k++) visit(row + k, i, j, k);
    }
}

/** Copy the box [low, high) out of a volume. */
export function cut(values, shape, low, high) {
  const out = new values.constructor(size(high.map((h, a) => h - low[a])));
  let n = 0;
  each(shape, low, high, (at) => (out[n++] = values[at]));
  return out;
}

/** The smallest box that holds what is marked, as [low, high]; null where nothing is. */
export function boundingBox(mask, shape) {
  const low = [...shape];
  const high = [0, 0, 0];
  each(shape, [0, 0, 0], shape, (at, i, j, k) => {
    if (!mask[at]) return;
    [i, j, k].forEach((v, a) => {
      if (v < low[a]) low[a] = v;
      if (v >= high[a]) high[a] = v + 1;
    });
  });
  return high[0] ? [low, high] : null;
}
