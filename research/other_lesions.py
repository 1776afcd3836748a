r"""What weights make of metastases, meningiomas, isointense cores, haematomas and infarcts.

    python research/other_lesions.py WEIGHTS.safetensors [...] [--patients 25] [--sets men blood]

Synthetic heads whose seeds no step has seen; the whole engine runs. Printed for each set: mean
Dice of what is flagged, flagged candidates without tumour a scan, and of the pieces of tumour core
the share found (a tenth of the piece is flagged) by size. A head without a tumour in which nothing
is flagged has a Dice of 1.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from calibration.calibrate import prepared_of
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.evaluation.label_conventions import region_mask
from lesionlens.analysis.evaluation.metrics import dice
from lesionlens.analysis.findings.component_scores import score_components
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    component_voxels,
    segment_components,
)
from lesionlens.base.labels import Region
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.network.synth.generator import GeneratorConfig, draw
from lesionlens.network.synth.other_lesions import LesionFrequencies
from lesionlens.training.data import FIRST_VALIDATION_SEED

FIRST_SEED = FIRST_VALIDATION_SEED + 900_000_000
EDGES_ML = (0.05, 0.3, 1.0, 3.0, 1000.0)
ALL, NO_T1C, T1C = (1, 1, 1, 1), (1, 0, 1, 1), (0, 1, 0, 0)
NEIGHBOURS = np.ones((3, 3, 3))
FOUND = 0.1
"""Share of a piece of core that must be flagged, and of a candidate that must be tumour."""


class LesionSet(NamedTuple):
    """One kind of patients."""

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


def flagged(engine: LensEngine, study: PreparedStudy) -> tuple[NDArray, NDArray]:
    """Return labels and numbers of the candidates above the threshold, both (I, J, K)."""
    prediction = engine.predict(study, context=SILENT)
    marked = segment_components(
        prediction.probability or {}, study.working, CandidateCriteria(prediction.thresholds)
    )
    unperturbed = prediction.unperturbed
    if unperturbed is None or not marked.count:
        return np.zeros_like(marked.labels), np.zeros_like(marked.components)
    scores = score_components(
        unperturbed, component_voxels(marked, unperturbed.grid), prediction.scoring
    )[0]
    is_flagged = np.concatenate([[False], np.asarray(scores) >= prediction.scoring.floor])
    inside = is_flagged[marked.components]
    return np.where(inside, marked.labels, 0), np.where(inside, marked.components, 0)


def measure(engine: LensEngine, name: str, number: int) -> tuple[list[float], int, list]:
    """Return Dice of WT, TC, ET, false candidates, and (ml, found) of each piece of core."""
    lesion_set = SETS[name]
    config = GeneratorConfig(
        (92, 112, 88),
        (2.0, 2.0),
        tumour_free=lesion_set.tumour_free,
        cavity=0.0,
        kinds=lesion_set.kinds,
    )
    batch = draw(config, [FIRST_SEED + number])
    study = prepared_of(batch, np.array(lesion_set.present, bool))
    truth = batch.labels[0].numpy() > 0
    labels, parts = flagged(engine, study)
    overlap = [dice(region_mask(labels, r), t) for r, t in zip(Region, truth, strict=True)]
    numbers = [n for n in np.unique(parts) if n]
    false = sum(float(truth[0][parts == n].mean()) < FOUND for n in numbers)
    cores, _ = ndimage.label(truth[1], NEIGHBOURS)
    pieces = []
    for n, box in enumerate(ndimage.find_objects(cores), start=1):
        piece_mask = cores[box] == n
        flagged_fraction = float((labels[box][piece_mask] > 0).mean())
        pieces.append((float(piece_mask.sum()) * study.working.voxel_ml, flagged_fraction >= FOUND))
    return overlap, false, pieces


def row(engine: LensEngine, name: str, patients: int) -> str:
    """Return a row of the table."""
    results = [measure(engine, name, number) for number in range(patients)]
    overlap = "/".join(f"{value:.3f}" for value in np.mean([s[0] for s in results], axis=0))
    false = np.mean([s[1] for s in results])
    cells = []
    for low, high in itertools.pairwise(EDGES_ML):
        hits = [hit for _, _, pieces in results for ml, hit in pieces if low <= ml < high]
        cells.append(f"{np.mean(hits):.2f} of {len(hits)}" if hits else "none")
    return f"| {name} | {overlap} | {false:.2f} | {' | '.join(cells)} |"


def main() -> None:
    """Print a table for each file of weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="+", help="files, or the name of shipped ones")
    parser.add_argument("--patients", type=int, default=25)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [f"{low:g} to {high:g} ml" for low, high in itertools.pairwise(EDGES_ML)]
    for name_or_path in options.weights:
        file = Path(name_or_path)
        engine = LensEngine("cpu", file if file.is_file() else name_or_path)
        print(f"{name_or_path}\n| set | WT/TC/ET | false a scan | {' | '.join(sizes)} |")
        print("|" + "---|" * (3 + len(sizes)))
        for name in options.sets:
            print(row(engine, name, options.patients), flush=True)


if __name__ == "__main__":
    main()
