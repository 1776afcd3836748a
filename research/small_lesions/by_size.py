"""Measure the sensitivity by lesion size, in synthetic patients with metastases not trained on.

    python -m research.small_lesions.by_size [WEIGHTS.safetensors] [--patients 150] [--spacing 2]

The whole engine runs with all four sequences. Patients count whose tumour cores have three pieces
or more; a piece is found if a tenth of it is called tumour, and its enhancing part is scored by
the Dice within it. False candidates are those without a tumour voxel.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.components import segment_components
from lesionlens.base.labels import Region
from lesionlens.base.masks import dice
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.network.synth.generator import GeneratorConfig, SyntheticBatch, draw
from lesionlens.training.data import FIRST_VALIDATION_SEED
from research.training.calibration.calibrate import prepared_of

FIRST_SEED = FIRST_VALIDATION_SEED + 800_000_000
EDGES_ML = (0.05, 0.3, 1.0, 3.0, 10.0, 1000.0)
MIN_PIECES = 3
NEIGHBOURS = np.ones((3, 3, 3))
Row = tuple[float, float, float]


def pieces(batch: SyntheticBatch) -> tuple[NDArray[np.int32], int]:
    """Return the pieces of the first patient's tumour core, and how many."""
    components, count = ndimage.label(batch.labels[0, 1].numpy() > 0, NEIGHBOURS)
    return components, int(count)


def examine(engine: LensEngine, batch: SyntheticBatch) -> tuple[list[Row], int]:
    """Return (ml, share found, Dice of the enhancing part) a piece, and the false candidates."""
    study = prepared_of(batch, np.ones(4, dtype=bool))
    prediction = engine.predict(study, context=SILENT)
    probability = {region: (prediction.probability or {})[region] for region in Region}
    whole, enhancing = probability[Region.WT] > 0.5, probability[Region.ET] > 0.5
    truth, rows = batch.labels[0].numpy() > 0, []
    cores, _ = pieces(batch)
    for number, box in enumerate(ndimage.find_objects(cores), start=1):
        piece_mask = cores[box] == number
        ml = float(piece_mask.sum()) * study.working.voxel_ml
        drawn_region, true_region = enhancing[box] & piece_mask, truth[2][box] & piece_mask
        rows.append((ml, float(whole[box][piece_mask].mean()), dice(drawn_region, true_region)))
    marked = segment_components(probability, study.working)
    is_true = [truth[0][marked.components == n].any() for n in range(1, marked.count + 1)]
    return rows, len(is_true) - sum(is_true)


def main() -> None:
    """Print one line a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--patients", type=int, default=150, help="drawn; few have metastases")
    parser.add_argument("--spacing", type=float, default=2.0, help="of the drawn grid, mm")
    options = parser.parse_args()
    engine = LensEngine("cpu", options.weights)
    shape = [int(np.ceil(2.0 * n / options.spacing)) for n in (92, 112, 88)]
    grid = GeneratorConfig(
        (shape[0], shape[1], shape[2]), (options.spacing, options.spacing), tumour_free=0.0
    )
    rows: list[Row] = []
    false: list[int] = []
    for seed in range(FIRST_SEED, FIRST_SEED + options.patients):
        batch = draw(grid, [seed])
        if pieces(batch)[1] >= MIN_PIECES:
            piece_rows, false_count = examine(engine, batch)
            rows += piece_rows
            false.append(false_count)
    sys.stdout.write(f"{len(false)} patients, {np.mean(false):.2f} false candidates each\n")
    for low, high in itertools.pairwise(EDGES_ML):
        piece_rows = [row for row in rows if low <= row[0] < high]
        found_count = sum(fraction >= 0.1 for _, fraction, _ in piece_rows)
        overlap = np.mean([row[2] for row in piece_rows]) if piece_rows else float("nan")
        sys.stdout.write(
            f"{low:5.2f} to {high:6.2f} ml: {found_count} of {len(piece_rows)}, ET {overlap:.2f}\n"
        )


if __name__ == "__main__":
    main()
