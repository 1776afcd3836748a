"""Fit the score of small enhancing lesions, and measure the sensitivity of their search.

    python -m research.small_lesions.scores POOL [POOL ...] --keep KEPT [--weights default]

Each volume of the pools of `prompts/pool.py` is analysed; all outlines of the search, whatever
their score, are stored in the folder KEPT and read from there the next time. Printed: the fitted
model, and by size the share of lesions found by the outlines alone and with the search, at several
thresholds of the score, with the false ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.components import CandidateCriteria, segment_components
from lesionlens.analysis.findings.find import split_by_score
from lesionlens.base.geometry import TOUCHING
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens import small_lesions
from lesionlens.engines.lens.engine import LensEngine
from research.training.calibration.scoring import fit_logistic

EDGES_ML = (0.03, 0.1, 0.3, 1.0, 3.0, 1000.0)
MIN_FRACTION = 0.1
_PADDING_VOX = 4  # around the brain


class SearchOutline(NamedTuple):
    """An outline of the search."""

    certainty: float
    suspicion: float
    lesion: int
    """Number of the true lesion that it overlaps, 0 for none."""


class VolumeResult(NamedTuple):
    """Outlines and true lesions of one volume."""

    name: str
    outlines: list[SearchOutline]
    sizes: list[float]
    """Volume in ml of each enhancing true lesion."""
    numbers: list[int]
    outlined: list[bool]
    """Whether each is flagged without the search."""


def study_of(folder: Path) -> tuple[PreparedStudy, NDArray[np.uint8]]:
    """Return a volume of the pool as a prepared study, and its `code.npy`, padded."""
    padding = [(_PADDING_VOX, _PADDING_VOX)] * 3
    code = np.pad(np.load(folder / "code.npy"), padding)
    brain = code > 0
    image = np.pad(np.load(folder / "image.npy").astype(np.float32), [(0, 0), *padding]) * brain
    affine = np.eye(4)
    affine[:3, 3] = -np.array(code.shape) / 2
    grid = Grid(code.shape, affine)
    present = np.array(json.loads((folder / "about.json").read_text())["present"], bool)
    return PreparedStudy(
        channels=image, present=present, brain=brain, working=grid, native=grid,
        to_native=np.eye(4), reference=MrSequence.T1C,
    ), code  # fmt: skip


def search_volume(engine: LensEngine, folder: Path) -> VolumeResult:
    """Analyse a volume without the search, and return all outlines of the search."""
    study, code = study_of(folder)
    small_lesions.FLOOR = 2.0  # no outline is added
    prediction = engine.predict(study, context=SILENT)
    assert prediction.unperturbed is not None
    components = segment_components(
        prediction.probability, study.working, CandidateCriteria(prediction.thresholds)
    )
    flagged = (
        split_by_score(components, prediction.unperturbed, prediction.scoring).components.components
        > 0
    )
    engine.forget()
    small_lesions.FLOOR = 0.0
    cores, count = ndimage.label(code >= 3, TOUCHING)
    dilated = ndimage.grey_dilation(cores, size=5)
    outlines, search_result = [], engine.small_lesions_of(study, SILENT)
    for lesion in [] if search_result is None else search_result.lesions:
        assert search_result is not None
        voxels = np.argwhere(lesion.mask) + [side.start for side in lesion.box]
        is_outlined = search_result.probability[tuple(voxels.T)] >= 0.5
        index = np.rint(
            study.working.to_voxel(search_result.network_input.grid.to_mm(voxels[is_outlined]))
        ).astype(int)
        overlap = np.bincount(dilated[tuple(index.T)], minlength=2)
        number = int(overlap[1:].argmax() + 1) if overlap[1:].any() else 0
        outlines.append(SearchOutline(lesion.certainty, lesion.suspicion, number))
    numbers, sizes, outlined = [], [], []
    for number in range(1, count + 1):
        mask = cores == number
        if (code[mask] == 4).mean() > 0.3:
            numbers.append(number)
            sizes.append(float(mask.sum()) / 1000)
            outlined.append(bool(flagged[mask].mean() >= MIN_FRACTION))
    return VolumeResult(folder.name, outlines, sizes, numbers, outlined)


def cached_result(engine: LensEngine, folder: Path, cache: Path) -> VolumeResult:
    """Return the result of a volume, from the cache if it is there."""
    file = cache / f"{folder.name}.json"
    if not file.is_file():
        file.write_text(json.dumps(search_volume(engine, folder)))
    name, outlines, *remaining = json.loads(file.read_text())
    return VolumeResult(name, [SearchOutline(*outline) for outline in outlines], *remaining)


def fit(results: list[VolumeResult]) -> tuple[float, float, float]:
    """Return intercept, and slopes of certainty and suspicion, of the logistic model."""
    outlines = [p for r in results for p in r.outlines]
    features = np.array([_features(p) for p in outlines])
    intercept, certainty, suspicion = fit_logistic(
        features, np.array([p.lesion > 0 for p in outlines])
    )
    return float(intercept), float(certainty), float(suspicion)


def _features(outline: SearchOutline) -> tuple[float, float]:
    return outline.certainty, max(outline.suspicion, small_lesions.MIN_SUSPICION)


def table(results: list[VolumeResult], model: tuple[float, float, float], floor: float) -> str:
    """Return a line: lesions found by size, and false outlines per volume."""
    min_logit = np.log(floor / (1 - floor))

    def added(volume: VolumeResult) -> list[SearchOutline]:
        return [
            p for p in volume.outlines if model[0] + np.dot(model[1:], _features(p)) >= min_logit
        ]

    cells = []
    for low, high in itertools.pairwise(EDGES_ML):
        flagged_before, flagged_after = [], []
        for volume in results:
            found_lesions = {p.lesion for p in added(volume)}
            for number, ml, was_outlined in zip(
                volume.numbers, volume.sizes, volume.outlined, strict=True
            ):
                if low <= ml < high:
                    flagged_before.append(was_outlined)
                    flagged_after.append(was_outlined or number in found_lesions)
        cells.append(
            f"{np.mean(flagged_before):.2f} to {np.mean(flagged_after):.2f} of {len(flagged_after)}"
            if flagged_after
            else "none"
        )
    false = {}
    for kind in ("synthetic-18003000", "synthetic-18003100", "B", "MSD"):
        volumes = [volume for volume in results if volume.name.startswith(kind)]
        false[kind] = sum(p.lesion == 0 for volume in volumes for p in added(volume)) / max(
            1, len(volumes)
        )
    return f"{floor}: {' | '.join(cells)} | false {false}"


def main() -> None:
    """Analyse the volumes, fit the score, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--weights", default="default")
    options = parser.parse_args()
    options.keep.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    engine = LensEngine("cpu", options.weights)
    folders = sorted(f for pool in options.pools for f in pool.iterdir())
    heads = [f for f in folders if not f.name.startswith((".", "anatomy"))]
    results = [cached_result(engine, folder, options.keep) for folder in heads]
    model = fit(results)
    print("intercept, certainty, suspicion", np.round(model, 3))
    for floor in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        print(table(results, model, floor))


if __name__ == "__main__":
    main()
