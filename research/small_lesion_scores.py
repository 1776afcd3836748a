"""Fit the score of small enhancing lesions, and measure what their search finds.

    python research/small_lesion_scores.py POOL [POOL ...] --keep KEPT [--weights default]

Each volume of the pools of `prompt_pool.py` is analysed; whatever the search draws is kept in the
folder KEPT, however it scores, and read from there the next time. Printed: the fitted model, and by
size the share of lesions that the outlines alone and those with the search find, at several
thresholds of the score, with what is false.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from calibration.scoring import fit_logistic
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.components import CandidateCriteria, draw_components
from lesionlens.analysis.findings.find import judged
from lesionlens.base.geometry import TOUCHING
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens import small_lesions
from lesionlens.engines.lens.engine import LensEngine

EDGES_ML = (0.03, 0.1, 0.3, 1.0, 3.0, 1000.0)
FOUND = 0.1
_ROOM = 4  # voxels round the brain


class Place(NamedTuple):
    """A place that the search drew."""

    certainty: float
    suspicion: float
    lesion: int
    """Number of the true one that it lies in, 0 for none."""


class Read(NamedTuple):
    """One volume."""

    name: str
    places: list[Place]
    sizes: list[float]
    """Ml of each true lesion that enhances."""
    numbers: list[int]
    outlined: list[bool]
    """Whether it is flagged without the search."""


def study_of(folder: Path) -> tuple[PreparedStudy, NDArray[np.uint8]]:
    """Make a prepared study of a volume of the pool; the true labels come second."""
    room = [(_ROOM, _ROOM)] * 3
    code = np.pad(np.load(folder / "code.npy"), room)
    brain = code > 0
    image = np.pad(np.load(folder / "image.npy").astype(np.float32), [(0, 0), *room]) * brain
    affine = np.eye(4)
    affine[:3, 3] = -np.array(code.shape) / 2
    grid = Grid(code.shape, affine)
    present = np.array(json.loads((folder / "about.json").read_text())["present"], bool)
    return PreparedStudy(
        channels=image, present=present, brain=brain, working=grid, native=grid,
        to_native=np.eye(4), reference=MrSequence.T1C,
    ), code  # fmt: skip


def read(engine: LensEngine, folder: Path) -> Read:
    """Analyse a volume without the search, and keep what the search draws beside it."""
    study, code = study_of(folder)
    small_lesions.FLOOR = 2.0  # adds nothing
    found = engine.predict(study, context=SILENT)
    drawn = draw_components(found.probability, study.working, CandidateCriteria(found.thresholds))
    flagged = judged(drawn, found.unperturbed, found.scoring).marked.components > 0
    engine.forget()
    small_lesions.FLOOR = 0.0
    cores, count = ndimage.label(code >= 3, TOUCHING)
    near = ndimage.grey_dilation(cores, size=5)
    places, small = [], engine.small_lesions_of(study)
    for lesion in [] if small is None else small.lesions:
        at = np.argwhere(lesion.mask) + [side.start for side in lesion.box]
        seen = small.probability[tuple(at.T)] >= 0.5
        index = np.rint(study.working.to_voxel(small.study.grid.to_mm(at[seen]))).astype(int)
        hit = np.bincount(near[tuple(index.T)], minlength=2)
        number = int(hit[1:].argmax() + 1) if hit[1:].any() else 0
        places.append(Place(lesion.certainty, lesion.suspicion, number))
    numbers, sizes, outlined = [], [], []
    for number in range(1, count + 1):
        own = cores == number
        if (code[own] == 4).mean() > 0.3:
            numbers.append(number)
            sizes.append(float(own.sum()) / 1000)
            outlined.append(bool(flagged[own].mean() >= FOUND))
    return Read(folder.name, places, sizes, numbers, outlined)


def kept_read(engine: LensEngine, folder: Path, kept: Path) -> Read:
    """Read a volume, or what was kept of it."""
    file = kept / f"{folder.name}.json"
    if not file.is_file():
        file.write_text(json.dumps(read(engine, folder)))
    name, places, *rest = json.loads(file.read_text())
    return Read(name, [Place(*place) for place in places], *rest)


def fit(reads: list[Read]) -> tuple[float, float, float]:
    """Return intercept, and slopes of certainty and suspicion."""
    places = [p for r in reads for p in r.places]
    features = np.array([_features(p) for p in places])
    intercept, certainty, suspicion = fit_logistic(
        features, np.array([p.lesion > 0 for p in places])
    )
    return float(intercept), float(certainty), float(suspicion)


def _features(place: Place) -> tuple[float, float]:
    return place.certainty, max(place.suspicion, small_lesions.MIN_SUSPICION)


def table(reads: list[Read], model: tuple[float, float, float], floor: float) -> str:
    """Return what is found by size, and false places a volume."""
    least = np.log(floor / (1 - floor))

    def added(one: Read) -> list[Place]:
        return [p for p in one.places if model[0] + np.dot(model[1:], _features(p)) >= least]

    cells = []
    for low, high in itertools.pairwise(EDGES_ML):
        before, after = [], []
        for one in reads:
            hit = {p.lesion for p in added(one)}
            for number, ml, known in zip(one.numbers, one.sizes, one.outlined, strict=True):
                if low <= ml < high:
                    before.append(known)
                    after.append(known or number in hit)
        cells.append(
            f"{np.mean(before):.2f} to {np.mean(after):.2f} of {len(after)}" if after else "none"
        )
    false = {}
    for kind in ("synthetic-18003000", "synthetic-18003100", "B", "MSD"):
        some = [one for one in reads if one.name.startswith(kind)]
        false[kind] = sum(p.lesion == 0 for one in some for p in added(one)) / max(1, len(some))
    return f"{floor}: {' | '.join(cells)} | false {false}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--weights", default="default")
    wanted = parser.parse_args()
    wanted.keep.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    engine = LensEngine("cpu", wanted.weights)
    folders = sorted(f for pool in wanted.pools for f in pool.iterdir())
    heads = [f for f in folders if not f.name.startswith((".", "anatomy"))]
    reads = [kept_read(engine, folder, wanted.keep) for folder in heads]
    model = fit(reads)
    print("intercept, certainty, suspicion", np.round(model, 3))
    for floor in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        print(table(reads, model, floor))


if __name__ == "__main__":
    main()
