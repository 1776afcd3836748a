"""Measure the Dice that prompts reach, with a simulated reader who gives one prompt a round.

    python -m research.prompts.evaluate WEIGHTS [SMALL] --cases EVAL [--synthetic POOL]
        [--label-maps MAPS]
    python -m research.prompts.evaluate --baselines --cases EVAL [--synthetic POOL]

EVAL and POOL are pools of `prompts/pool.py` with volumes on which nothing was trained. The reader
is deterministic and points into the middle of the largest error of the whole volume. With
`--scribbles`, the reader draws the longest path of the error's skeleton on the slice through that
point that shows most of the error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import shortest_path
from skimage.morphology import skeletonize

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region
from lesionlens.base.masks import dice
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting.prompts import Prompter
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.network.prompt.crop import Crop, paste, sample
from lesionlens.network.prompt.weights import load_file
from research.prompts.anatomies import HELD_OUT_CLASSES, paint_labels
from research.prompts.samples import FIRST_HELD_OUT, PromptObject, Volume, next_click

Mask = NDArray[np.bool_]
_RNG = np.random.default_rng(0)  # not used by `next_click(exact=True)`
_MIN_DICE_DROP = 0.01
_SMALL_ML = (0.05, 3.0)
_SMALL_PER_HEAD = 6
_MIN_STRUCTURE_VOX = 500
_MAX_SCRIBBLE_VOX = 80


@dataclass(eq=False)
class Task:
    """One object to outline: the reference, the initial outline, and the number of prompts."""

    table: str
    name: str
    study: PromptStudy
    reference: Mask
    start: Mask | None
    region: int | None
    rounds: int


Segmenter = Callable[[Task, PromptRequest], Mask]


def scribble_through(
    error: Mask, voxel: NDArray[np.int64], axes: Sequence[int] = (0, 1, 2)
) -> NDArray[np.int64]:
    """Return the (N, 3) voxels of a line along an error through a voxel, on one slice."""
    parts, _ = ndimage.label(error)
    own = parts == parts[tuple(voxel)]
    slices = {}
    for axis in axes:
        labels, _ = ndimage.label(np.take(own, voxel[axis], axis))
        slices[axis] = labels == labels[tuple(np.delete(voxel, axis))]
    axis = max(slices, key=lambda axis_key: int(slices[axis_key].sum()))
    line = np.insert(_longest_path(skeletonize(slices[axis])), axis, voxel[axis], axis=1)
    nearest = int(np.abs(line - voxel).sum(1).argmin()) if len(line) else 0
    segment = line[max(0, nearest - _MAX_SCRIBBLE_VOX // 2) : nearest + _MAX_SCRIBBLE_VOX // 2]
    return segment if len(segment) > 1 else voxel[None]


def _longest_path(skeleton: Mask) -> NDArray[np.int64]:
    """Return the voxels (N, 2) of the longest of the shortest paths within a skeleton."""
    voxels = np.argwhere(skeleton)
    if len(voxels) < 3:
        return voxels
    steps = np.abs(voxels[:, None] - voxels[None]).max(-1) == 1
    graph = sparse.csr_matrix(steps * np.linalg.norm(voxels[:, None] - voxels[None], axis=-1))
    distance = shortest_path(graph, indices=0)
    start = int(np.where(np.isinf(distance), -1, distance).argmax())
    distance, predecessors = shortest_path(graph, indices=start, return_predecessors=True)
    path = [int(np.where(np.isinf(distance), -1, distance).argmax())]
    while path[-1] != start:
        path.append(int(predecessors[path[-1]]))
    return voxels[path]


def simulate_reader(
    task: Task, segment: Segmenter, *, scribbles: bool = False
) -> tuple[list[float], list[float]]:
    """Return Dice before and after each prompt, and the CPU seconds of each prompt."""
    mask = np.zeros_like(task.reference) if task.start is None else task.start.copy()
    scores, seconds = [dice(mask, task.reference)], []
    points: dict[bool, list[NDArray[np.int64]]] = {True: [], False: []}
    outline = task.start
    for _ in range(task.rounds):
        click = next_click(task.reference, mask, _RNG, exact=True)
        if click is not None:
            voxel, is_foreground = click
            wrong = (task.reference != mask) & (task.reference == is_foreground)
            points[is_foreground] += list(scribble_through(wrong, voxel)) if scribbles else [voxel]
            region = None if task.region is None else list(Region)[task.region]
            request = PromptRequest(_array(points[True]), _array(points[False]), outline, region)
            started = time.process_time()
            with contextlib.suppress(
                UnusableInputError
            ):  # refused: the reader gives another prompt
                mask = segment(task, request)
            seconds.append(time.process_time() - started)
            outline = mask if mask.any() else None
        scores.append(dice(mask, task.reference))
    return scores, seconds


def _array(points: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.array(points, np.int64).reshape(-1, 3)


def study_of(volume: Volume, probability: NDArray[np.floating] | None) -> PromptStudy:
    """Return a volume as the input of the prompt engine."""
    image = np.asarray(volume.image, np.float32)
    brain = np.asarray(volume.code > 0)
    return PromptStudy(image, brain, tuple(bool(p) for p in volume.present), probability)


def real_tasks(pool: Path) -> Iterator[Task]:
    """Yield tasks on real cases: from nothing, with or without a region, and from the outline."""
    for folder in sorted(pool.iterdir()):
        volume, record = Volume(folder), json.loads((folder / "about.json").read_text())
        probability = np.load(folder / "exact.npy").astype(np.float32)
        with_analysis, without = study_of(volume, probability), study_of(volume, None)
        for index, region in enumerate(Region):
            reference = np.asarray(volume.code > 1 + index)
            if reference.sum() < 100:
                continue
            start = probability[index] >= record["thresholds"][index]
            name = f"{folder.name} {region}"
            yield Task(f"outline {region}", name, with_analysis, reference, start, index, 5)
            if region is Region.TC:
                continue
            yield Task(f"named {region}", name, with_analysis, reference, None, index, 5)
            yield Task(f"unnamed {region}", name, with_analysis, reference, None, None, 5)
            yield Task(f"alone {region}", name, without, reference, None, None, 5)


def synthetic_tasks(pool: Path) -> Iterator[Task]:
    """Yield tasks on synthetic heads: small lesions, and structures held out of training."""
    for folder in sorted(pool.iterdir()):
        volume = Volume(folder)
        probability = analysis_probability(volume)
        study = study_of(volume, probability)
        object_labels = np.asarray(volume.object_labels)
        small_objects = [t for t in volume.objects if t.number < 1000 and _is_small(t)]
        selected = small_objects[:: max(1, len(small_objects) // _SMALL_PER_HEAD)]
        for prompt_object in [
            *selected,
            *(t for t in volume.objects if t.number >= FIRST_HELD_OUT),
        ]:
            ml = prompt_object.voxels / 1000
            reference = object_labels == prompt_object.number
            name = f"{folder.name} {prompt_object.number}"
            if prompt_object.number < FIRST_HELD_OUT:
                yield Task("small", name, study, reference, None, None, 3)
            elif ml > 1:
                yield Task("held out", name, study, reference, None, None, 3)


def structure_tasks(pool: Path, heads: int = 6) -> Iterator[Task]:
    """Yield tasks on single nuclei of the label maps, of classes held out of training."""
    folders = [f for f in sorted(pool.iterdir()) if f.name.startswith("anatomy-")]
    for number, folder in enumerate(folders[:heads]):
        volume = Volume(folder)
        labels, brain = np.asarray(volume.labels), np.asarray(volume.code > 0)
        cube = np.zeros((max(labels.shape),) * 3, np.uint8)
        inside = tuple(slice(size) for size in labels.shape)
        cube[inside] = labels
        images = paint_labels(cube, volume.groups, 1.0, np.random.default_rng(number))
        study = PromptStudy(images[(slice(None), *inside)] * brain, brain, (True,) * 4)
        for value, group in enumerate(volume.groups):
            parts, count = ndimage.label(labels == value)
            if value == 0 or group not in HELD_OUT_CLASSES or not count:
                continue
            sizes = np.bincount(parts.ravel())[1:]
            if sizes.max() >= _MIN_STRUCTURE_VOX:
                reference = parts == sizes.argmax() + 1
                yield Task("structures", f"{folder.name} {value}", study, reference, None, None, 3)


def _is_small(prompt_object: PromptObject) -> bool:
    return _SMALL_ML[0] <= prompt_object.voxels / 1000 <= _SMALL_ML[1]


def analysis_probability(volume: Volume) -> NDArray[np.float32]:
    """Resample the analysis network's probability with all sequences from 2 mm to 1 mm."""
    shape = volume.code.shape
    out = np.zeros((3, *shape), np.float32)
    size = max(volume.predictions.shape[2:]) + 1
    centre = (np.array(volume.predictions.shape[2:]) - 1) / 2
    cube = sample(volume.predictions[0], Crop.straight(centre, 1.0, size)) / 255
    fine = Crop.straight((np.array(shape) - 1) / 2, 2.0, size)
    for index in range(3):
        box, values = paste(cube[index], fine, shape)
        out[index][box] = values
    return out


def network_segmenter(prompter: Prompter) -> Segmenter:
    """Return the segmentation by the prompt network."""

    def segment(task: Task, request: PromptRequest) -> Mask:
        return prompter.answer(task.study, request).mask_over(request.outline, task.reference.shape)

    return segment


def _crop(
    task: Task, request: PromptRequest
) -> tuple[Crop, NDArray[np.float32], NDArray[np.int32]]:
    """Return a crop of 96 mm (48 mm for small objects), its images, and the prompts as seeds."""
    points = np.concatenate([request.foreground, request.background])
    small = task.reference.sum() < 3000
    spacing = 0.75 if small else max(1.5, (np.ptp(points, axis=0).max() + 24) / 64)
    crop = Crop.straight((points.min(0) + points.max(0)) / 2, spacing, 64)
    images = sample(task.study.images, crop).numpy()
    seeds = np.full((64,) * 3, 2, np.int32)
    seeds[1:-1, 1:-1, 1:-1] = 0
    for value, points_of_kind in ((1, request.foreground), (2, request.background)):
        mark = np.zeros(seeds.shape, bool)
        mark[tuple(crop.inside(points_of_kind).T)] = True
        if mark.any():
            mark = ndimage.binary_dilation(mark, iterations=1)
        seeds[mark] = value
    return crop, images, seeds


def _pasted_mask(task: Task, crop: Crop, mask: Mask) -> Mask:
    out = np.zeros_like(task.study.brain)
    box, values = paste(torch.from_numpy(mask.astype(np.float32)), crop, out.shape)
    out[box] = values >= 0.5
    return out & task.study.brain


def random_walker_segmenter(task: Task, request: PromptRequest) -> Mask:
    """Segment by scikit-image's random walker (Grady 2006) on all sequences."""
    from skimage.segmentation import random_walker

    crop, images, seeds = _crop(task, request)
    data = np.moveaxis(images, 0, -1)
    labels = random_walker(data, seeds, beta=90, mode="cg_j", tol=1e-2, channel_axis=-1)
    return _pasted_mask(task, crop, labels == 1)


def watershed_segmenter(task: Task, request: PromptRequest) -> Mask:
    """Segment by scikit-image's watershed on the gradient of all sequences."""
    from skimage.segmentation import watershed

    crop, images, seeds = _crop(task, request)
    gradient = sum(ndimage.gaussian_gradient_magnitude(image, 1.0) for image in images)
    return _pasted_mask(task, crop, watershed(gradient, seeds) == 1)


def summary(rows: list[tuple[Task, list[float], list[float]]]) -> dict[str, dict[str, object]]:
    """Return the mean Dice after each prompt, by table, and the share of prompts that lower it."""
    tables = defaultdict(list)
    for task, scores, seconds in rows:
        tables[task.table].append((scores, seconds))
    out: dict[str, dict[str, object]] = {}
    for name, table_rows in tables.items():
        dices = np.array([s for s, _ in table_rows])
        steps = np.diff(dices[:, 1:] if not name.startswith("outline") else dices, axis=1)
        out[name] = {
            "n": len(table_rows),
            "dice": [round(float(v), 3) for v in dices.mean(0)],
            "worse": round(float((steps < -_MIN_DICE_DROP).mean()), 3),
            "seconds": round(float(np.median(np.concatenate([t for _, t in table_rows if t]))), 3),
        }
    return out


def main() -> None:
    """Evaluate the prompt networks or the baselines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, nargs="*")
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--label-maps", type=Path)
    parser.add_argument("--baselines", action="store_true")
    parser.add_argument("--scribbles", action="store_true")
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tasks = list(real_tasks(options.cases)) if options.cases else []
    tasks += list(synthetic_tasks(options.synthetic)) if options.synthetic else []
    tasks += list(structure_tasks(options.label_maps)) if options.label_maps else []
    tasks = [t for t in tasks if not options.only or t.table in options.only]
    segmenters: dict[str, Segmenter] = {}
    if options.weights:
        segmenters["network"] = network_segmenter(
            Prompter(*(load_file(path)[0] for path in options.weights))
        )
    if options.baselines:
        segmenters |= {"walker": random_walker_segmenter, "watershed": watershed_segmenter}
        tasks = [t for t in tasks if not t.table.startswith(("outline", "unnamed", "alone"))]
    record = {}
    for name, segment in segmenters.items():
        rows = [
            (task, *simulate_reader(task, segment, scribbles=options.scribbles)) for task in tasks
        ]
        record[name] = summary(rows)
        print(name, json.dumps(record[name], indent=1), flush=True)
        for task, scores, _ in rows:
            print(name, task.table, task.name, [round(s, 3) for s in scores])
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
