// From NIfTI files to four sequences and the brain on one grid of 1 mm, RAS+, as
// lesionlens.imaging.preparation does it, but for what this page leaves out: nothing is registered.

import { decompress, isCompressed, isNIFTI, isNIFTI2, readHeader, readImage } from "nifti-reader-js";

import {
  apply, boundingBox, cropped, each, inverse, nominal, rasGrid, sameGrid, size, spacing, voxelMl,
} from "./grid.js";
import { largest, solid } from "./parts.js";
import { HALF, applied, resample } from "./resample.js";
import { divided } from "./thick_slices.js";

export const SEQUENCES = ["t1", "t1c", "t2", "flair"];
export const WORDS = { t1: "T1", t1c: "T1c", t2: "T2", flair: "FLAIR" };
const REFERENCE_ORDER = ["t1c", "flair", "t2", "t1"];
const MARGIN = 6;
const EMPTY_FACE = 0.1; // of a face of the image, below which no head is cut there

export class Unusable extends Error {}

const READERS = {
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array,
  256: Int8Array, 512: Uint16Array, 768: Uint32Array,
};

/** Read a NIfTI file: {shape, affine, values} with values in C order, scaled by its header. */
export function read(buffer, name) {
  let data = buffer;
  try {
    if (isCompressed(data)) data = decompress(data);
  } catch {
    throw new Unusable(`${name} is damaged: it cannot be unpacked. Copy or convert the scan again.`);
  }
  if (!isNIFTI(data)) throw new Unusable(`${name} is no NIfTI file. Choose .nii or .nii.gz files.`);
  const header = readHeader(data);
  const [axes, ...lengths] = header.dims;
  const shape = lengths.slice(0, 3);
  if (axes < 3 || lengths.slice(3, axes).some((n) => n > 1) || shape.some((n) => n < 5))
    throw new Unusable(`${name} holds no single volume. Choose files of one 3-D scan each.`);
  const Kind = READERS[header.datatypeCode];
  if (!Kind) throw new Unusable(`${name} has voxels of a kind that no MR scan has.`);
  const image = native(readImage(header, data), Kind, header.littleEndian);
  if (image.length < size(shape)) throw new Unusable(`${name} is cut short. Copy it again.`);
  const slope = Number.isFinite(header.scl_slope) && header.scl_slope ? header.scl_slope : 1;
  const inter = Number.isFinite(header.scl_inter) && header.scl_slope ? header.scl_inter : 0;
  const values = new Float32Array(size(shape));
  each(shape, [0, 0, 0], shape, (at, i, j, k) => {
    values[at] = image[(k * shape[1] + j) * shape[0] + i] * slope + inter;
  });
  const grid = { shape, affine: orientation(data, header, name) };
  checked(values, grid, name);
  return { ...grid, values: capped(values, shape), name };
}

function native(buffer, Kind, little) {
  const width = Kind.BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(buffer.slice(0, buffer.byteLength - (buffer.byteLength % width)));
  if (!little && width > 1)
    for (let n = 0; n < bytes.length; n += width) bytes.subarray(n, n + width).reverse();
  return new Kind(bytes.buffer);
}

/** The matrices of sform and qform, null without one. */
function forms(data, header) {
  const matrix = ({ affine }) => affine.map((row) => row.map(Number));
  if (isNIFTI2(data)) return [header.sform_code > 0 ? matrix(header) : null, null];
  return [252, 254].map((code) => { // nifti-reader-js gives one: first hide qform_code, then sform_code
    const bytes = new Uint8Array(data.slice(0, Math.max(header.vox_offset, 352))).fill(0, code, code + 2);
    const other = readHeader(bytes.buffer);
    return other.qform_code > 0 || other.sform_code > 0 ? matrix(other) : null;
  });
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [1, 2, 0].map((x, n) => a[x] * b[(n + 2) % 3] - a[(n + 2) % 3] * b[x]);
const handed = ([a, b, c]) => dot(a, cross(b, c));

function orientation(data, header, name) {
  const [sform, qform] = forms(data, header);
  if (!sform && !qform)
    throw new Unusable(
      `${name} does not say how it lies, so left and right are unknown` +
        (isNIFTI2(data) ? " (of NIfTI-2, this page reads the sform alone)." : "."),
    );
  const across = sform && qform && spacing({ affine: sform }).map((edge, a) => sform[0][a] / edge ** 2);
  if (across && (dot(across, qform[0]) < 0 || handed(sform) * handed(qform) < 0))
    throw new Unusable(`${name} has two orientations that disagree on which side is left.`);
  return sform ?? qform;
}

function checked(values, grid, name) {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    if (!Number.isFinite(v)) throw new Unusable(`${name} has voxels that are not numbers.`);
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low === high) throw new Unusable(`${name} is blank: every voxel is the same.`);
  if (low < -500) throw new Unusable(`${name} looks like CT, not MR.`);
  const edges = spacing(grid);
  const view = edges.map((e, a) => e * grid.shape[a]);
  const right = edges.every((e) => e > 0 && e <= 15) && view.every((v) => v >= 30 && v <= 600);
  if (!right)
    throw new Unusable(`${name} is no volume of a head: ${view.map(Math.round).join(" x ")} mm.`);
}

export function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

function capped(values, shape) {
  const sample = [];
  each(shape, [0, 0, 0], shape, (at, i, j, k) => {
    if (!(i & 1) && !(j & 1) && !(k & 1)) sample.push(values[at]);
  });
  const top = 10 * quantile(Float32Array.from(sample).sort(), 0.999);
  return top > 0 ? values.map((v) => Math.min(v, top)) : values;
}

function foreground({ values, shape }) {
  const corners = [];
  for (let n = 0; n < 8; n++) {
    const [i, j, k] = shape.map((length, a) => ((n >> a) & 1) * (length - 1));
    corners.push(values[(i * shape[1] + j) * shape[2] + k]);
  }
  corners.sort((a, b) => a - b);
  const background = Math.fround((corners[3] + corners[4]) / 2);
  return Uint8Array.from(values, (v) => (v !== background ? 1 : 0));
}

/** Whether the skull was taken off: a constant background round an object of a brain's size. */
function isStripped(item) {
  const { shape } = item;
  const fore = foreground(item);
  const small = shape.map((n) => Math.ceil(n / 2));
  const faces = [0, 1, 2].flatMap((axis) => [0, small[axis] - 1].map((at) => ({ axis, at, n: 0 })));
  let count = 0;
  each(small, [0, 0, 0], small, (_, i, j, k) => {
    if (!fore[(2 * i * shape[1] + 2 * j) * shape[2] + 2 * k]) return;
    count++;
    for (const face of faces) if ([i, j, k][face.axis] === face.at) face.n++;
  });
  const share = count / size(small);
  const volume = share * size(shape) * voxelMl(item);
  const bare = faces.filter((f) => f.n / (size(small) / small[f.axis]) < EMPTY_FACE).length;
  return share < 0.8 && volume > 150 && volume < 2300 && bare >= 3;
}

function ofStripped(item) {
  const mask = solid(largest(foreground(item), item.shape), item.shape);
  if (Math.max(...nominal(item)) < 3) return mask;
  const inside = Float32Array.from(item.values.filter((_, at) => mask[at])).sort();
  const least = 0.35 * quantile(inside, 0.5);
  const bright = mask.map((m, at) => (m && item.values[at] >= least ? 1 : 0));
  return solid(largest(bright, item.shape), item.shape);
}

const BRAIN_MM = 2.5;

/** Find the brain in heads with their skulls: {mask, grid}; `run` is the network of the brain. */
async function found(items, reference, run) {
  const grid = rasGrid(items[reference], BRAIN_MM);
  const total = new Float32Array(size(grid.shape));
  const weight = new Float32Array(total.length);
  for (const name of [reference, ...Object.keys(items).filter((s) => s !== reference)]) {
    const image = resample(items[name].values, items[name], grid);
    const logit = await brainLogit(image, grid.shape, run);
    image.forEach((v, at) => {
      const seen = (v !== 0 ? 1 : 0) + 1e-3;
      total[at] += seen * logit[at];
      weight[at] += seen;
    });
  }
  return outlined(total.map((t, at) => t / weight[at]), grid);
}

async function brainLogit(image, shape, run) {
  const room = shape.map((n) => (16 - (n % 16)) % 16);
  const before = room.map((n) => Math.floor(n / 2));
  const wide = shape.map((n, a) => n + room[a]);
  const x = new Float32Array(size(wide));
  const at = (i, j, k) => ((i + before[0]) * wide[1] + j + before[1]) * wide[2] + k + before[2];
  each(shape, [0, 0, 0], shape, (n, i, j, k) => (x[at(i, j, k)] = Math.max(image[n], 0)));
  const seen = x.filter((v) => v > 0);
  const step = Math.max(Math.floor(seen.length / 50_000), 1);
  const top = Math.max(quantile(seen.filter((_, n) => n % step === 0).sort(), 0.98), 1e-6);
  const answer = await run(x.map((v) => Math.min(v / top, 1.5)), wide);
  const out = new Float32Array(size(shape));
  each(shape, [0, 0, 0], shape, (n, i, j, k) => (out[n] = answer[at(i, j, k)]));
  return out;
}

function outlined(logit, grid) {
  const positive = (values) => Uint8Array.from(values, (v) => (v > 0 ? 1 : 0));
  const sure = logit.reduce((n, v) => n + (v > 2 ? 1 : 0), 0) * voxelMl(grid);
  if (sure < 15) throw new Unusable("No brain was found in these scans. Choose MR scans of a head.");
  const part = largest(positive(logit), grid.shape);
  const [a, b] = boundingBox(part, grid.shape);
  const low = a.map((n) => Math.max(n - 2, 0));
  const high = b.map((n, axis) => Math.min(n + 2, grid.shape[axis]));
  const small = cropped(grid, low, high);
  const cutOut = [];
  each(grid.shape, low, high, (at) => cutOut.push(logit[at]));
  const lines = small.shape.map((n) =>
    Array.from({ length: 2 * n }, (_, at) => {
      const own = at >> 1;
      const other = Math.min(Math.max(own + (at & 1 ? 1 : -1), 0), n - 1);
      return { at: [own, other], weight: [0.75, 0.25] };
    }),
  );
  const { values, shape } = applied(Float32Array.from(cutOut), small.shape, lines);
  const mask = solid(largest(positive(values), shape), shape);
  const first = apply(small.affine, [-0.25, -0.25, -0.25]);
  const affine = small.affine.map((row, r) =>
    r < 3 ? [row[0] / 2, row[1] / 2, row[2] / 2, first[r]] : row,
  );
  return { mask, grid: { shape, affine } };
}

/** Lay cubes of 1 mm around the brain, on the lattice of the reference's field of view. */
function workingGrid(mask, where, reference) {
  const whole = rasGrid(reference, 1);
  const [a, b] = boundingBox(mask, where.shape);
  const back = inverse(whole.affine);
  const places = Array.from({ length: 8 }, (_, n) => {
    const corner = [0, 1, 2].map((axis) => ((n >> axis) & 1 ? a : b)[axis] - 0.5);
    return apply(back, apply(where.affine, corner));
  });
  const along = [0, 1, 2].map((x) => places.map((p) => p[x]));
  const low = along.map((at) => Math.floor(Math.min(...at)) - MARGIN);
  const high = along.map((at) => Math.ceil(Math.max(...at)) + MARGIN + 1);
  return cropped(whole, low, high);
}

/** Bring scans together: {grid, channels, present, brain, reference, notices}. */
export async function prepare(items, runBrain) {
  const reference = REFERENCE_ORDER.find((s) => items[s]);
  if (!reference) throw new Unusable("No scan was chosen: name at least one of T1, T1c, T2, FLAIR.");
  const notices = [];
  const bare = [reference, ...Object.keys(items)].find((s) => isStripped(items[s]));
  const outline = bare
    ? { mask: ofStripped(items[bare]), grid: items[bare] }
    : await found(items, reference, runBrain);
  const grid = workingGrid(outline.mask, outline.grid, items[reference]);
  const brain = sameGrid(outline.grid, grid, 1e-6)
    ? outline.mask
    : Uint8Array.from(
        resample(Float32Array.from(outline.mask), outline.grid, grid), (v) => (v > HALF ? 1 : 0),
      );
  const channels = SEQUENCES.map((s) => {
    if (!items[s]) return new Float32Array(size(grid.shape));
    const thin = divided(items[s], Math.min(...spacing(grid)));
    return resample(thin.values, thin, grid);
  });
  const others = SEQUENCES.filter((s) => !items[s]).map((s) => WORDS[s]);
  if (others.length) notices.push(`Missing: ${others.join(", ")}. The result is less certain.`);
  if (Object.keys(items).length > 1)
    notices.push(
      "The scans were aligned by their headers alone: this page does not register them. " +
        "Check by eye that they coincide.",
    );
  const present = SEQUENCES.map((s) => Boolean(items[s]));
  return { grid, channels, present, brain, reference, notices };
}
