// Slices of the three planes, as radiologists hang them: the patient's right on the left.

import { size } from "./grid.js";

export const COLOURS = { 1: [0, 114, 178], 2: [0, 158, 115], 3: [230, 159, 0] };
const FIRE = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

// Of each plane: the axis across it, those along a row and a column of the picture, and what stands
// left, right, above and below.
export const PLANES = {
  axial: { across: 2, row: 0, column: 1, letters: "RLAP" },
  coronal: { across: 1, row: 0, column: 2, letters: "RLSI" },
  sagittal: { across: 0, row: 1, column: 2, letters: "APSI" },
};

// RAS+ indices grow to the patient's right, front and top; left to right in the picture are
// right to left (axial, coronal) and front to back (sagittal), so that both axes are reversed.
const placeOf = (plane, shape, x, y, n) => {
  const at = [0, 0, 0];
  at[plane.across] = n;
  at[plane.row] = shape[plane.row] - 1 - x;
  at[plane.column] = shape[plane.column] - 1 - y;
  return at;
};

const flat = ([i, j, k], shape) => (i * shape[1] + j) * shape[2] + k;

function fire(v) {
  const place = Math.min(Math.max(v, 0), 1) * (FIRE.length - 1);
  const low = Math.min(Math.floor(place), FIRE.length - 2);
  return FIRE[low].map((c, n) => c + (place - low) * (FIRE[low + 1][n] - c));
}

/** Grey value from 0 to 1 by the 0.5th and 99.5th percentile in the brain. */
export function windowOf(values, brain) {
  const inside = values.filter((_, at) => brain[at]).sort();
  const [low, high] = [0.005, 0.995].map((q) => inside[Math.floor(q * (inside.length - 1))]);
  return (v) => Math.min(Math.max((v - low) / (high - low || 1), 0), 1);
}

/** Draw slice n of a plane: image, attention over it, contours between voxels. */
export function draw(canvas, name, n, shown) {
  const { grid, image, grey, labels, attention, contour } = shown;
  const plane = PLANES[name];
  const [width, height] = [grid.shape[plane.row], grid.shape[plane.column]];
  const picture = new ImageData(width, height);
  const label = new Uint8Array(size([1, width, height]));
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const at = flat(placeOf(plane, grid.shape, x, y, n), grid.shape);
      const value = 255 * grey(image[at]);
      let colour = [value, value, value];
      if (attention) {
        const raw = Math.max(attention.map[at] * attention.scale, 1);
        const drawn = Math.log10(raw) / Math.log10(Math.max(attention.scale, 1.01));
        const share = 0.75 * Math.min(drawn * 1.5, 1);
        colour = fire(drawn).map((c, m) => share * c + (1 - share) * colour[m]);
      }
      picture.data.set([...colour, 255], 4 * (y * width + x));
      label[y * width + x] = labels[at];
    }
  canvas.width = 3 * width;
  canvas.height = 3 * height;
  const paint = canvas.getContext("2d");
  const aside = new OffscreenCanvas(width, height);
  aside.getContext("2d").putImageData(picture, 0, 0);
  paint.imageSmoothingEnabled = true;
  paint.drawImage(aside, 0, 0, 3 * width, 3 * height);
  if (contour) contours(paint, label, width, height);
}

/** Lines along the edges of whole tumour, core and enhancing tumour. */
function contours(paint, label, width, height) {
  const regions = [[2, (l) => l > 0], [1, (l) => l === 1 || l === 3], [3, (l) => l === 3]];
  for (const [colour, inside] of regions) {
    const there = (x, y) =>
      x >= 0 && y >= 0 && x < width && y < height && inside(label[y * width + x]);
    paint.beginPath();
    for (let y = 0; y <= height; y++)
      for (let x = 0; x <= width; x++) {
        if (there(x, y) !== there(x - 1, y)) paint.moveTo(3 * x, 3 * y), paint.lineTo(3 * x, 3 * y + 3);
        if (there(x, y) !== there(x, y - 1)) paint.moveTo(3 * x, 3 * y), paint.lineTo(3 * x + 3, 3 * y);
      }
    paint.strokeStyle = `rgb(${COLOURS[colour]})`;
    paint.lineWidth = 2;
    paint.stroke();
  }
}
