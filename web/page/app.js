// The page: choose files, name their sequences, read, look.

import { apply, inverse } from "./grid.js";
import { sequenceOf } from "./names.js";
import { draw, PLANES, windowOf } from "./view.js";

const SEQUENCES = { t1: "T1", t1c: "T1c", t2: "T2", flair: "FLAIR" };
const REGIONS = ["whole tumour", "core", "enhancing tumour"];
const $ = (id) => document.getElementById(id);
const make = (tag, text = "", more = {}) =>
  Object.assign(document.createElement(tag), { textContent: text }, more);

let chosen = []; // of {file, sequence}
let shown = null; // {result, greys, place}

function choose(files) {
  chosen = [...files].map((file) => ({ file, sequence: sequenceOf(file.name) }));
  list();
}

function list() {
  const rows = chosen.map((one) => {
    const select = make("select");
    select.append(make("option", "leave out", { value: "" }));
    for (const [value, text] of Object.entries(SEQUENCES))
      select.append(make("option", text, { value, selected: value === one.sequence }));
    select.setAttribute("aria-label", `Sequence of ${one.file.name}`);
    select.onchange = () => {
      one.sequence = select.value;
      list();
    };
    const row = make("li");
    row.append(select, make("span", one.file.name));
    return row;
  });
  $("files").replaceChildren(...rows);
  const named = chosen.map((one) => one.sequence).filter(Boolean);
  const twice = named.length !== new Set(named).size;
  $("read").disabled = !named.length || twice;
  const why = twice ? "Two files have the same sequence: leave one out." : "";
  say(!chosen.length || named.length ? why : "Name the sequence of at least one file.", twice);
}

function say(words, wrong = false) {
  $("said").textContent = words;
  $("said").classList.toggle("wrong", wrong);
}

async function block(id) {
  const text = atob($(id).textContent.trim());
  const packed = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start() {
  $("read").disabled = true;
  $("results").hidden = true;
  document.body.classList.add("busy");
  say("loading");
  const [code, runtime, lens, brain] = await Promise.all(["worker", "wasm", "lens", "brain"].map(block));
  const place = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const worker = new Worker(place);
  const begun = performance.now();
  const end = (words, wrong) => {
    worker.terminate();
    URL.revokeObjectURL(place);
    document.body.classList.remove("busy");
    $("stop").onclick = null;
    $("read").disabled = false;
    say(words, wrong);
  };
  $("stop").onclick = () => end("Stopped.");
  worker.onerror = (event) => end(`It failed: ${event.message || "this browser cannot run it"}`, true);
  worker.onmessage = ({ data }) => {
    if (data.said) say(`${data.said} …`);
    if (data.failed) end(data.failed, true);
    if (data.result) {
      end(`Read in ${((performance.now() - begun) / 1000).toFixed(0)} s in this browser.`);
      show(data.result);
    }
  };
  const files = chosen.filter((one) => one.sequence);
  const notes = JSON.parse($("notes").textContent);
  worker.postMessage({ files, runtime, networks: { lens, brain }, notes });
}

function show(result) {
  const present = Object.keys(SEQUENCES).filter((_, n) => result.present[n]);
  const greys = Object.fromEntries(
    present.map((s) => [s, windowOf(result.channels[Object.keys(SEQUENCES).indexOf(s)], result.brain)]),
  );
  shown = { result, greys, place: result.grid.shape.map((n) => Math.floor(n / 2)) };
  globalThis.lesionlens = shown;
  $("sequence").replaceChildren(
    ...present.map((s) =>
      make("option", SEQUENCES[s], { value: s, selected: s === result.reference }),
    ),
  );
  const regions = REGIONS.slice(0, result.probability.length); // without T1c nothing enhances
  $("region").replaceChildren(...regions.map((text, value) => make("option", text, { value })));
  $("enhancing").hidden = regions.length < REGIONS.length;
  $("notices").replaceChildren(...result.notices.map((words) => make("li", words)));
  table(result.candidates);
  for (const [name, plane] of Object.entries(PLANES)) {
    const slider = $(`${name}-slice`);
    slider.max = result.grid.shape[plane.across] - 1;
    slider.oninput = () => {
      shown.place[plane.across] = Number(slider.value);
      paint();
    };
  }
  $("results").hidden = false;
  document.body.classList.add("done");
  if (result.candidates.length) go(result.candidates[0].centroid_mm);
  else paint();
}

function table(found) {
  const count = found.length;
  $("conclusion").textContent =
    count === 0 ? "no candidate region" : `${count} candidate region${count > 1 ? "s" : ""}`;
  $("none").hidden = count > 0;
  $("list").hidden = !count;
  const rows = found.map((one) => {
    const row = make("tr");
    const button = make("button", `Show ${one.id}`);
    button.onclick = () => go(one.centroid_mm);
    const cell = make("td");
    cell.append(button);
    const ml = ["wt", "tc", "et"].map((r) => one.volume_ml[r]?.toFixed(1) ?? "unknown");
    row.append(cell, ...[one.score.toFixed(2), ...ml].map((text) => make("td", text)));
    row.append(make("td", `${one.centroid_mm.map((v) => v.toFixed(0)).join(", ")}`));
    return row;
  });
  $("rows").replaceChildren(...rows);
}

function go(mm) {
  const { grid } = shown.result;
  const place = apply(inverse(grid.affine), mm);
  shown.place = place.map((p, a) => Math.min(Math.max(Math.round(p), 0), grid.shape[a] - 1));
  paint();
}

function paint() {
  if (!shown) return;
  const { result, greys, place } = shown;
  const sequence = $("sequence").value;
  const attention = $("attention").checked ? result.attention[Number($("region").value)] : null;
  for (const [name, plane] of Object.entries(PLANES)) {
    const n = place[plane.across];
    draw($(name), name, n, {
      grid: result.grid,
      image: result.channels[Object.keys(SEQUENCES).indexOf(sequence)],
      grey: greys[sequence],
      labels: result.labels,
      attention,
      contour: $("contour").checked,
    });
    $(`${name}-slice`).value = n;
    const mm = Math.round(apply(result.grid.affine, place)[plane.across]) + 0; // no "-0"
    // no side: a file's origin need not lie in the patient's midline
    $(`${name}-mm`).textContent = `${"xyz"[plane.across]} ${mm} mm`;
    const letters = [..."lrtb"].map((side, m) => make("b", plane.letters[m], { className: side }));
    $(`${name}-letters`).replaceChildren(...letters);
  }
}

function views() {
  for (const name of Object.keys(PLANES)) {
    const figure = make("figure");
    const canvas = make("canvas", "", { id: name });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name} slice`);
    const frame = make("div", "", { className: "frame" });
    frame.append(canvas, make("div", "", { id: `${name}-letters` }));
    const slider = make("input", "", { id: `${name}-slice`, type: "range", min: 0 });
    slider.setAttribute("aria-label", `${name} slice`);
    const caption = make("figcaption", `${name} `);
    caption.append(make("span", "", { id: `${name}-mm` }));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        slider.value = Number(slider.value) - Math.sign(event.deltaY);
        slider.oninput?.();
      },
      { passive: false },
    );
    figure.append(frame, slider, caption);
    $("views").append(figure);
  }
}

views();
$("choose").onchange = () => choose($("choose").files);
$("read").onclick = () => start().catch((error) => say(`It failed: ${error.message}`, true));
for (const id of ["sequence", "region", "attention", "contour"]) $(id).onchange = paint;
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  choose(event.dataTransfer.files);
});
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, button")) return;
  for (const [key, id] of [["c", "contour"], ["a", "attention"]])
    if (event.key === key) $(id).click();
});
