"""Measure what prompts reach, by a simulated reader with one prompt a round.

    python research/prompt_eval.py WEIGHTS [SMALL] --cases EVAL [--synthetic POOL]
        [--label-maps MAPS]
    python research/prompt_eval.py --baselines --cases EVAL [--synthetic POOL]

EVAL and POOL are pools of `prompt_pool.py` whose volumes nobody trained on. The reader always
points into the middle of the largest error of the whole volume; there is no chance in it. With
--scribbles it draws a line there instead: the longest path of the error's skeleton, on whichever
slice through that point shows most of the error.
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
from prompt_anatomies import HELD_OUT_CLASSES, painted
from prompt_samples import HELD_OUT, Thing, Volume, next_click
from scipy import ndimage, sparse
from scipy.sparse.csgraph import shortest_path
from skimage.morphology import skeletonize

from lesionlens.analysis.evaluation.metrics import dice
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.engines.prompting.prompts import Prompter
from lesionlens.engines.prompting.study_features import PromptStudy
from lesionlens.network.prompt.crop import Crop, paste, sample
from lesionlens.network.prompt.weights import load_file

Mask = NDArray[np.bool_]
_RNG = np.random.default_rng(0)  # `next_click(exact=True)` never asks it
_WORSE = 0.01
_SMALL_ML = (0.05, 3.0)
_SMALL_A_HEAD = 6
_MIN_STRUCTURE = 500  # voxels
_LONGEST = 80  # voxels of a scribble


@dataclass(eq=False)
class Task:
    """One thing that the reader wants outlined."""

    table: str
    name: str
    study: PromptStudy
    truth: Mask
    start: Mask | None
    region: int | None
    rounds: int


Answer = Callable[[Task, PromptRequest], Mask]


def scribble_through(
    error: Mask, at: NDArray[np.int64], axes: Sequence[int] = (0, 1, 2)
) -> NDArray[np.int64]:
    """Draw a line along an error of one sign through a voxel, on a slice across one of the axes."""
    parts, _ = ndimage.label(error)
    own = parts == parts[tuple(at)]
    slices = {}
    for axis in axes:
        flat, _ = ndimage.label(np.take(own, at[axis], axis))
        slices[axis] = flat == flat[tuple(np.delete(at, axis))]
    axis = max(slices, key=lambda one: int(slices[one].sum()))
    line = np.insert(_longest_path(skeletonize(slices[axis])), axis, at[axis], axis=1)
    middle = int(np.abs(line - at).sum(1).argmin()) if len(line) else 0
    part = line[max(0, middle - _LONGEST // 2) : middle + _LONGEST // 2]
    return part if len(part) > 1 else at[None]


def _longest_path(skeleton: Mask) -> NDArray[np.int64]:
    """Return the voxels (N, 2) of the longest of the shortest paths within a skeleton."""
    at = np.argwhere(skeleton)
    if len(at) < 3:
        return at
    steps = np.abs(at[:, None] - at[None]).max(-1) == 1
    graph = sparse.csr_matrix(steps * np.linalg.norm(at[:, None] - at[None], axis=-1))
    far = shortest_path(graph, indices=0)
    begin = int(np.where(np.isinf(far), -1, far).argmax())
    far, before = shortest_path(graph, indices=begin, return_predecessors=True)
    path = [int(np.where(np.isinf(far), -1, far).argmax())]
    while path[-1] != begin:
        path.append(int(before[path[-1]]))
    return at[path]


def played(
    task: Task, answer: Answer, *, scribbles: bool = False
) -> tuple[list[float], list[float]]:
    """Dice before and after each prompt, and seconds of processor a prompt."""
    mask = np.zeros_like(task.truth) if task.start is None else task.start.copy()
    scores, seconds = [dice(mask, task.truth)], []
    points: dict[bool, list[NDArray[np.int64]]] = {True: [], False: []}
    outline = task.start
    for _ in range(task.rounds):
        found = next_click(task.truth, mask, _RNG, exact=True)
        if found is not None:
            at, belongs = found
            wrong = (task.truth != mask) & (task.truth == belongs)
            points[belongs] += list(scribble_through(wrong, at)) if scribbles else [at]
            region = None if task.region is None else list(Region)[task.region]
            asked = PromptRequest(_array(points[True]), _array(points[False]), outline, region)
            begun = time.process_time()
            with contextlib.suppress(UnusableInputError):  # the reader sees the words, points again
                mask = answer(task, asked)
            seconds.append(time.process_time() - begun)
            outline = mask if mask.any() else None
        scores.append(dice(mask, task.truth))
    return scores, seconds


def _array(points: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.array(points, np.int64).reshape(-1, 3)


def study_of(volume: Volume, chances: NDArray[np.floating] | None) -> PromptStudy:
    """Make what the product would know of a volume."""
    image = np.asarray(volume.image, np.float32)
    brain = np.asarray(volume.code > 0)
    return PromptStudy(image, brain, tuple(bool(p) for p in volume.present), chances)


def real_tasks(pool: Path) -> Iterator[Task]:
    """From nothing, named or not, and from the automatic outline."""
    for folder in sorted(pool.iterdir()):
        volume, about = Volume(folder), json.loads((folder / "about.json").read_text())
        chances = np.load(folder / "exact.npy").astype(np.float32)
        with_analysis, without = study_of(volume, chances), study_of(volume, None)
        for index, region in enumerate(Region):
            truth = np.asarray(volume.code > 1 + index)
            if truth.sum() < 100:
                continue
            start = chances[index] >= about["thresholds"][index]
            name = f"{folder.name} {region}"
            yield Task(f"outline {region}", name, with_analysis, truth, start, index, 5)
            if region is Region.TC:
                continue
            yield Task(f"named {region}", name, with_analysis, truth, None, index, 5)
            yield Task(f"unnamed {region}", name, with_analysis, truth, None, None, 5)
            yield Task(f"alone {region}", name, without, truth, None, None, 5)


def synthetic_tasks(pool: Path) -> Iterator[Task]:
    """Small lesions, and structures that were held out of training."""
    for folder in sorted(pool.iterdir()):
        volume = Volume(folder)
        chances = guess_of(volume)
        study = study_of(volume, chances)
        things = np.asarray(volume.things)
        small = [t for t in volume.list if t.number < 1000 and _is_small(t)]
        kept = small[:: max(1, len(small) // _SMALL_A_HEAD)]
        for thing in [*kept, *(t for t in volume.list if t.number >= HELD_OUT)]:
            ml = thing.voxels / 1000
            truth = things == thing.number
            name = f"{folder.name} {thing.number}"
            if thing.number < HELD_OUT:
                yield Task("small", name, study, truth, None, None, 3)
            elif ml > 1:
                yield Task("held out", name, study, truth, None, None, 3)


def structure_tasks(pool: Path, heads: int = 6) -> Iterator[Task]:
    """Single nuclei of the label maps, painted once: classes that were held out of training."""
    folders = [f for f in sorted(pool.iterdir()) if f.name.startswith("anatomy-")]
    for number, folder in enumerate(folders[:heads]):
        volume = Volume(folder)
        labels, brain = np.asarray(volume.labels), np.asarray(volume.code > 0)
        cube = np.zeros((max(labels.shape),) * 3, np.uint8)
        inside = tuple(slice(size) for size in labels.shape)
        cube[inside] = labels
        images = painted(cube, volume.groups, 1.0, np.random.default_rng(number))
        study = PromptStudy(images[(slice(None), *inside)] * brain, brain, (True,) * 4)
        for value, group in enumerate(volume.groups):
            parts, count = ndimage.label(labels == value)
            if value == 0 or group not in HELD_OUT_CLASSES or not count:
                continue
            sizes = np.bincount(parts.ravel())[1:]
            if sizes.max() >= _MIN_STRUCTURE:
                truth = parts == sizes.argmax() + 1
                yield Task("structures", f"{folder.name} {value}", study, truth, None, None, 3)


def _is_small(thing: Thing) -> bool:
    return _SMALL_ML[0] <= thing.voxels / 1000 <= _SMALL_ML[1]


def guess_of(volume: Volume) -> NDArray[np.float32]:
    """Bring the analysis network's answer with all sequences from 2 mm to 1 mm."""
    shape = volume.code.shape
    out = np.zeros((3, *shape), np.float32)
    size = max(volume.guess.shape[2:]) + 1
    middle = (np.array(volume.guess.shape[2:]) - 1) / 2
    cube = sample(volume.guess[0], Crop.straight(middle, 1.0, size)) / 255
    fine = Crop.straight((np.array(shape) - 1) / 2, 2.0, size)
    for index in range(3):
        box, values = paste(cube[index], fine, shape)
        out[index][box] = values
    return out


def network_answer(prompter: Prompter) -> Answer:
    """Answer by the prompt network."""

    def answer(task: Task, asked: PromptRequest) -> Mask:
        return prompter.answer(task.study, asked).mask_over(asked.outline, task.truth.shape)

    return answer


def _crop(task: Task, asked: PromptRequest) -> tuple[Crop, NDArray[np.float32], NDArray[np.int32]]:
    """Return a crop of 96 mm (48 mm for small things), its images, and the prompts as seeds."""
    points = np.concatenate([asked.foreground, asked.background])
    small = task.truth.sum() < 3000
    spacing = 0.75 if small else max(1.5, (np.ptp(points, axis=0).max() + 24) / 64)
    place = Crop.straight((points.min(0) + points.max(0)) / 2, spacing, 64)
    images = sample(task.study.images, place).numpy()
    seeds = np.full((64,) * 3, 2, np.int32)
    seeds[1:-1, 1:-1, 1:-1] = 0
    for value, some in ((1, asked.foreground), (2, asked.background)):
        near = np.zeros(seeds.shape, bool)
        near[tuple(place.inside(some).T)] = True
        if near.any():
            near = ndimage.binary_dilation(near, iterations=1)
        seeds[near] = value
    return place, images, seeds


def _whole(task: Task, place: Crop, mask: Mask) -> Mask:
    out = np.zeros_like(task.study.brain)
    box, values = paste(torch.from_numpy(mask.astype(np.float32)), place, out.shape)
    out[box] = values >= 0.5
    return out & task.study.brain


def walker_answer(task: Task, asked: PromptRequest) -> Mask:
    """Answer by the random walker (Grady 2006) of scikit-image on all sequences."""
    from skimage.segmentation import random_walker  # noqa: PLC0415

    place, images, seeds = _crop(task, asked)
    data = np.moveaxis(images, 0, -1)
    found = random_walker(data, seeds, beta=90, mode="cg_j", tol=1e-2, channel_axis=-1)
    return _whole(task, place, found == 1)


def watershed_answer(task: Task, asked: PromptRequest) -> Mask:
    """Answer by the watershed of scikit-image on the gradient of all sequences."""
    from skimage.segmentation import watershed  # noqa: PLC0415

    place, images, seeds = _crop(task, asked)
    gradient = sum(ndimage.gaussian_gradient_magnitude(one, 1.0) for one in images)
    return _whole(task, place, watershed(gradient, seeds) == 1)


def summary(rows: list[tuple[Task, list[float], list[float]]]) -> dict[str, dict[str, object]]:
    """Mean Dice after each prompt, by table, and the share of prompts that lower it."""
    tables = defaultdict(list)
    for task, scores, seconds in rows:
        tables[task.table].append((scores, seconds))
    out: dict[str, dict[str, object]] = {}
    for name, some in tables.items():
        scores = np.array([s for s, _ in some])
        steps = np.diff(scores[:, 1:] if not name.startswith("outline") else scores, axis=1)
        out[name] = {
            "n": len(some),
            "dice": [round(float(v), 3) for v in scores.mean(0)],
            "worse": round(float((steps < -_WORSE).mean()), 3),
            "seconds": round(float(np.median(np.concatenate([t for _, t in some if t]))), 3),
        }
    return out


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, nargs="*")
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--label-maps", type=Path)
    parser.add_argument("--baselines", action="store_true")
    parser.add_argument("--scribbles", action="store_true")
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    tasks = list(real_tasks(wanted.cases)) if wanted.cases else []
    tasks += list(synthetic_tasks(wanted.synthetic)) if wanted.synthetic else []
    tasks += list(structure_tasks(wanted.label_maps)) if wanted.label_maps else []
    tasks = [t for t in tasks if not wanted.only or t.table in wanted.only]
    answers: dict[str, Answer] = {}
    if wanted.weights:
        answers["network"] = network_answer(
            Prompter(*(load_file(one)[0] for one in wanted.weights))
        )
    if wanted.baselines:
        answers |= {"walker": walker_answer, "watershed": watershed_answer}
        tasks = [t for t in tasks if not t.table.startswith(("outline", "unnamed", "alone"))]
    record = {}
    for name, answer in answers.items():
        rows = [(task, *played(task, answer, scribbles=wanted.scribbles)) for task in tasks]
        record[name] = summary(rows)
        print(name, json.dumps(record[name], indent=1), flush=True)
        for task, scores, _ in rows:
            print(name, task.table, task.name, [round(s, 3) for s in scores])
    if wanted.json:
        wanted.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
