r"""Score weights on synthetic metastases, meningiomas, isointense cores, haematomas and infarcts.

    python -m research.quality.other_lesions WEIGHTS.safetensors [...] [--patients 25] \
        [--sets men blood]
    python -m research.quality.other_lesions default --sets metastases --spacing 1
    python -m research.quality.other_lesions default --brains CASE [CASE ...]

The whole engine runs on synthetic heads with seeds not used in training. Printed for each set: the
mean Dice of flagged voxels, flagged candidates without tumour per scan, and the share of components
of the tumour core that are found (a tenth of the voxels is flagged), by size. A head without a
tumour in which nothing is flagged has a Dice of 1.

With `--brains`, the whole analysis runs on each case as it is and on a copy with metastases added
(`small_lesions/metastases.py`). Printed as JSON lines: for each added lesion its site, volume,
contrast, whether it is found and its Dice; the candidates that contain neither an added lesion nor
the tumour of the case.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.evaluation.label_conventions import region_mask
from lesionlens.analysis.findings.component_scores import score_components
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    ComponentMask,
    segment_components,
)
from lesionlens.base import geometry
from lesionlens.base.labels import Region
from lesionlens.base.masks import dice
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.network.synth.other_lesions import LesionFrequencies
from lesionlens.results.lens import Lens
from lesionlens.results.result import Result
from lesionlens.training.data import FIRST_VALIDATION_SEED
from research.small_lesions.metastases import (
    Brain,
    BrainWithMetastases,
    add_metastases,
    read_brain,
    write_study,
)
from research.training.calibration.calibrate import prepared_of

FIRST_SEED = FIRST_VALIDATION_SEED + 900_000_000
EDGES_ML = (0.05, 0.3, 1.0, 3.0, 1000.0)
ALL, NO_T1C, T1C = (1, 1, 1, 1), (1, 0, 1, 1), (0, 1, 0, 0)
NEIGHBOURS = np.ones((3, 3, 3))
MIN_FRACTION = 0.1
"""Fraction of a core that must be flagged, and of a candidate that must be tumour."""


Core = tuple[float, bool, float, float]
"""Of a tumour core: ml, whether it was found, and its two contrasts."""


class LesionSet(NamedTuple):
    """Synthetic patients of one kind, with the sequences that are present."""

    kinds: LesionFrequencies
    present: tuple[int, int, int, int] = ALL
    tumour_free: float = 0.0


SETS = {
    "glioma": LesionSet(LesionFrequencies()),
    "metastases": LesionSet(LesionFrequencies(metastases=1.0)),
    "meningioma": LesionSet(LesionFrequencies(meningioma=1.0)),
    "meningioma, T1c": LesionSet(LesionFrequencies(meningioma=1.0), T1C),
    "isointense, no T1c": LesionSet(LesionFrequencies(isointense=1.0), NO_T1C),
    "haematoma": LesionSet(LesionFrequencies(haematoma=1.0), ALL, 1.0),
    "infarct": LesionSet(LesionFrequencies(infarct=1.0), ALL, 1.0),
}


SHAPES = {2.0: (92, 112, 88), 1.0: (184, 224, 176)}
"""By voxel edge, mm."""


def flagged(engine: LensEngine, study: PreparedStudy) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return labels and candidate numbers of the flagged voxels, both (I, J, K)."""
    prediction = engine.predict(study, context=SILENT)
    marked = segment_components(
        prediction.probability or {}, study.working, CandidateCriteria(prediction.thresholds)
    )
    unperturbed = prediction.unperturbed
    if unperturbed is None or not marked.count:
        return np.zeros_like(marked.labels), np.zeros_like(marked.components)
    scores = score_components(unperturbed, marked.voxels_on(unperturbed.grid), prediction.scoring)[
        0
    ]
    is_flagged = np.concatenate([[False], np.asarray(scores) >= prediction.scoring.floor])
    inside = is_flagged[marked.components]
    return np.where(inside, marked.labels, 0), np.where(inside, marked.components, 0)


def contrast(
    t1c: NDArray[Any], brain: NDArray[Any], cores: NDArray[Any], number: int
) -> tuple[float, float]:
    """Return a core's T1c contrast with its surroundings, in SDs of the brain and of these."""
    box = geometry.grown(ndimage.find_objects(cores)[number - 1], 8, cores.shape)
    core = cores[box] == number
    distance = ndimage.distance_transform_edt(~core)
    shell = (distance > 2) & (distance <= 7) & brain[box] & (cores[box] == 0)
    if not shell.any():
        return float("nan"), float("nan")
    step = float(t1c[box][core].mean() - np.median(t1c[box][shell]))
    return step / float(t1c[brain].std()), step / float(t1c[box][shell].std())


def measure(
    engine: LensEngine, name: str, number: int, spacing_mm: float
) -> tuple[list[float], int, list[Core]]:
    """Return Dice of WT, TC, ET, false candidates, and (ml, found, contrast) of each core."""
    lesion_set = SETS[name]
    config = GeneratorConfig(
        SHAPES[spacing_mm],
        (spacing_mm, spacing_mm),
        tumour_free=lesion_set.tumour_free,
        cavity=0.0,
        kinds=lesion_set.kinds,
    )
    batch = draw(config, [FIRST_SEED + number])
    study = prepared_of(batch, np.array(lesion_set.present, bool))
    reference = batch.labels[0].numpy() > 0
    labels, parts = flagged(engine, study)
    overlap = [dice(region_mask(labels, r), t) for r, t in zip(Region, reference, strict=True)]
    numbers = [n for n in np.unique(parts) if n]
    false = sum(float(reference[0][parts == n].mean()) < MIN_FRACTION for n in numbers)
    cores, _ = ndimage.label(reference[1], NEIGHBOURS)
    core_rows = []
    for n, box in enumerate(ndimage.find_objects(cores), start=1):
        core_mask = cores[box] == n
        flagged_fraction = float((labels[box][core_mask] > 0).mean())
        ml = float(core_mask.sum()) * study.working.voxel_ml
        steps = contrast(study.channels[1], study.brain, cores, n)
        core_rows.append((ml, flagged_fraction >= MIN_FRACTION, *steps))
    return overlap, false, core_rows


def row(engine: LensEngine, name: str, patients: int, spacing_mm: float) -> str:
    """Return the table row of one set."""
    results = [measure(engine, name, number, spacing_mm) for number in range(patients)]
    overlap = "/".join(f"{value:.3f}" for value in np.mean([s[0] for s in results], axis=0))
    false = np.mean([s[1] for s in results])
    cells = []
    for low, high in itertools.pairwise(EDGES_ML):
        inside = [p[1:] for _, _, core_rows in results for p in core_rows if low <= p[0] < high]
        share, *steps = np.nanmean(inside, 0) if inside else (0, 0, 0)
        contrasts = "/".join(f"{step:.1f}" for step in steps)
        cells.append(f"{share:.2f} of {len(inside)} (T1c {contrasts} SD)" if inside else "none")
    return f"| {name} | {overlap} | {false:.2f} | {' | '.join(cells)} |"


def analyse(
    lens: Lens, brain: Brain, images: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], Result]:
    """Return labels and candidate numbers, both (I, J, K), and the result."""
    with TemporaryDirectory() as folder:
        write_study(Path(folder), images, brain.grid)
        result = lens(open_study(folder))
    marked = ComponentMask.of(result.analysis.findings, result.labels.grid)
    if result.labels.grid.shape != brain.grid.shape:
        raise ValueError(f"labels on {result.labels.grid.shape}, not on {brain.grid.shape}")
    return result.labels.data, marked.components, result


def evaluate_case(lens: Lens, folder: Path, seed: int) -> dict[str, Any]:
    """Analyse a case as it is and with synthetic metastases added."""
    brain = read_brain(folder)
    labels, parts, plain = analyse(lens, brain, brain.images)
    record = {
        "case": folder.name,
        "dice": dice(labels > 0, brain.tumour),
        "false": _false(parts, brain.tumour),
        "candidates": len(plain.candidates),
    }
    added = add_metastases(brain, seed)
    added_labels, parts, result = analyse(lens, brain, added.images)
    away = ~ndimage.binary_dilation(added.whole, iterations=5)
    record |= {
        "drawn_dice": dice((added_labels > 0) & away, brain.tumour & away),
        "drawn_false": _false(parts, brain.tumour | added.whole),
        "drawn_candidates": len(result.candidates),
        "lesions": [_lesion(added, n, added_labels, parts, labels) for n in _numbers(added.cores)],
        "notices": [n for n in result.analysis.run.notices if "search" in n],
    }
    return record


def _numbers(values: NDArray[Any]) -> list[int]:
    return [int(n) for n in np.unique(values) if n]


def _false(parts: NDArray[Any], reference: NDArray[Any]) -> int:
    return sum(float(reference[parts == n].mean()) < MIN_FRACTION for n in _numbers(parts))


def _lesion(
    added: BrainWithMetastases,
    number: int,
    labels: NDArray[Any],
    parts: NDArray[Any],
    before: NDArray[Any],
) -> dict[str, Any]:
    """Describe an added lesion and its detection."""
    core = added.cores == number
    near = ndimage.binary_dilation(core, iterations=6) & ((added.cores == 0) | core)
    brain = (added.images != 0).any(0)
    numbers = np.bincount(parts[core])
    return {
        "site": added.sites[number - 1],
        "ml": float(core.sum()) / 1000,
        "contrast": contrast(added.images[1], brain, added.cores, number),
        "found": float((labels[core] > 0).mean()) >= MIN_FRACTION,
        "before": float((before[core] > 0).mean()) >= MIN_FRACTION,
        "dice": dice(np.isin(labels, (1, 3)) & near, core),
        "candidate": int(numbers[1:].argmax() + 1) if numbers[1:].any() else 0,
    }


def main() -> None:
    """Print a table for each file of weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="+", help="files, or the name of shipped ones")
    parser.add_argument("--patients", type=int, default=25)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--spacing", type=float, choices=SHAPES, default=2.0)
    parser.add_argument("--brains", nargs="+", type=Path, default=())
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.brains:
        lens = Lens("cpu", weights=options.weights[0])
        for number, folder in enumerate(options.brains):
            print(json.dumps(evaluate_case(lens, folder, FIRST_SEED + number)), flush=True)
        return
    sizes = [f"{low:g} to {high:g} ml" for low, high in itertools.pairwise(EDGES_ML)]
    for name_or_path in options.weights:
        file = Path(name_or_path)
        engine = LensEngine("cpu", file if file.is_file() else name_or_path)
        print(f"{name_or_path}\n| set | WT/TC/ET | false per scan | {' | '.join(sizes)} |")
        print("|" + "---|" * (3 + len(sizes)))
        for name in options.sets:
            print(row(engine, name, options.patients, options.spacing), flush=True)


if __name__ == "__main__":
    main()
