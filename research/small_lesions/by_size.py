"""Measure the sensitivity by lesion size, in held-out synthetic patients with metastases.

    python -m research.small_lesions.by_size [WEIGHTS.safetensors] [--patients 150] [--spacing 2]

The whole engine runs with all four sequences. Patients with three components of tumour core
or more are used; a core is found if a tenth of it is flagged, and its enhancing part is scored by
the Dice within it. False candidates are those without a tumour voxel.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings.components import segment_components
from lesionlens.base.geometry import TOUCHING
from lesionlens.base.labels import Region
from lesionlens.base.masks import dice
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.network.synth.generator import GeneratorConfig, SyntheticBatch, draw
from lesionlens.training.data import FIRST_VALIDATION_SEED
from research.training.calibration.calibrate import prepared_of

FIRST_SEED = FIRST_VALIDATION_SEED + 800_000_000
EDGES_ML = (0.05, 0.3, 1.0, 3.0, 10.0, 1000.0)
MIN_CORES = 3
Row = tuple[float, float, float]


def core_components(batch: SyntheticBatch) -> tuple[NDArray[np.int32], int]:
    """Return the numbered components of the first patient's tumour core, and their count."""
    components, count = ndimage.label(batch.labels[0, 1].numpy() > 0, TOUCHING)
    return components, int(count)


def measure_patient(engine: LensEngine, batch: SyntheticBatch) -> tuple[list[Row], int]:
    """Return (ml, flagged fraction, Dice of ET) of each core, and the false candidates."""
    study = prepared_of(batch, np.ones(4, dtype=bool))
    prediction = engine.predict(study, context=SILENT)
    probability = {region: (prediction.probability or {})[region] for region in Region}
    whole, enhancing = probability[Region.WT] > 0.5, probability[Region.ET] > 0.5
    reference, rows = batch.labels[0].numpy() > 0, []
    cores, _ = core_components(batch)
    for number, box in enumerate(ndimage.find_objects(cores), start=1):
        core_mask = cores[box] == number
        ml = float(core_mask.sum()) * study.working.voxel_ml
        predicted_region, true_region = enhancing[box] & core_mask, reference[2][box] & core_mask
        rows.append((ml, float(whole[box][core_mask].mean()), dice(predicted_region, true_region)))
    components = segment_components(probability, study.working)
    is_true = [
        reference[0][components.components == n].any() for n in range(1, components.count + 1)
    ]
    return rows, len(is_true) - sum(is_true)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--patients", type=int, default=150, help="synthetic; few have metastases")
    parser.add_argument("--spacing", type=float, default=2.0, help="of the synthetic grid, mm")
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
        if core_components(batch)[1] >= MIN_CORES:
            core_rows, false_count = measure_patient(engine, batch)
            rows += core_rows
            false.append(false_count)
    print(f"{len(false)} patients, {np.mean(false):.2f} false candidates each")
    for low, high in itertools.pairwise(EDGES_ML):
        core_rows = [row for row in rows if low <= row[0] < high]
        found_count = sum(fraction >= 0.1 for _, fraction, _ in core_rows)
        overlap = np.mean([row[2] for row in core_rows]) if core_rows else float("nan")
        print(f"{low:5.2f} to {high:6.2f} ml: {found_count} of {len(core_rows)}, ET {overlap:.2f}")


if __name__ == "__main__":
    main()
