"""Synthetic scans of every kind of lesion, with reference outlines and those that the engine found.

    python -m research.kinds.synthetic_scans --patients 200 --kept FOLDER --weights default

Writes one file per patient: two scans of one anatomy, outlined on all sequences and on some of
them. Patients in the folder are not generated again. Their seeds are not used in training.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lesionlens.analysis.findings.components import CandidateCriteria, segment_components
from lesionlens.analysis.findings.find import split_by_score
from lesionlens.base.labels import LesionKind, Region
from lesionlens.base.run_context import SILENT
from lesionlens.engines import native_grid
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.network.synth import tumour as lesions
from lesionlens.network.synth.anatomy import sample_pose
from lesionlens.network.synth.atlas import choose
from lesionlens.network.synth.fields import RandomStreams
from lesionlens.network.synth.generator import (
    GeneratorConfig,
    Geometry,
    SyntheticBatch,
    generate_geometry,
    paint,
)
from lesionlens.network.synth.instances import CAVITY, ENHANCEMENT, WHITE_SPOTS
from lesionlens.network.synth.other_lesions import LesionFrequencies
from research.kinds.measure import DISMISSED, SPACING_MM
from research.training.calibration.calibrate import FIRST_SEED, prepared_of

CONFIG = GeneratorConfig(
    shape=(92, 112, 88),
    spacing_mm=(SPACING_MM, SPACING_MM),
    tumour_free=0.3,
    cavity=0.3,
    kinds=LesionFrequencies(
        metastases=0.3, meningioma=0.3, isointense=0.2, haematoma=0.35, infarct=0.35
    ),
)
TUMOURS = dataclasses.replace(
    CONFIG, tumour_free=0.0, cavity=0.0, kinds=LesionFrequencies(metastases=0.1, meningioma=0.2)
)
"""Patients from `FIRST_TUMOUR` on: half of them with gliomas, which are rare with `CONFIG`."""
MIMICS = dataclasses.replace(
    CONFIG,
    tumour_free=0.7,
    cavity=0.35,
    kinds=LesionFrequencies(haematoma=0.4, infarct=0.5, plaques=0.6),
)
"""Patients from `FIRST_MIMIC` on: mostly without a tumour."""
FIRST_TUMOUR, FIRST_MIMIC = 1000, 2000
SEED = FIRST_SEED + 20_000
ALL = (True, True, True, True)
SUBSETS = (
    (False, True, False, False),
    (False, False, False, True),
    (False, False, True, False),
    (True, False, True, True),
    (False, True, False, True),
    (True, True, False, True),
    (True, True, False, False),
)
"""Sequences of the second outline, T1, T1c, T2, FLAIR."""
SCANNERS = 2
_SATELLITE_MM = 3.5
_LARGE_MM = 6.5


def config_of(number: int) -> GeneratorConfig:
    """Return the generator's configuration for a patient."""
    if number >= FIRST_MIMIC:
        return MIMICS
    return CONFIG if number < FIRST_TUMOUR else TUMOURS


def has_metastatic_sizes(seed: int, config: GeneratorConfig) -> bool:
    """Return whether the generator's tumours for this seed have the sizes of metastases."""
    streams, heads = RandomStreams([seed], torch.device("cpu")), choose([seed], config.individuals)
    streams.uniform(*config.spacing_mm)
    radius = lesions.plan_lesions(streams, heads, sample_pose(streams), config.tumour_free).radius
    return bool(radius[0, 0] < _LARGE_MM or radius[0, 1:].min() < _SATELLITE_MM)


def tumour_kind(seed: int, geometry: Geometry, config: GeneratorConfig) -> LesionKind:
    """Return the kind of a synthetic patient's tumours."""
    kind = int(geometry.kind[0])
    if kind == lesions.MENINGIOMA:
        return LesionKind.MENINGIOMA
    if kind == lesions.METASTASES or has_metastatic_sizes(seed, config):
        return LesionKind.METASTASIS
    return LesionKind.GLIOMA


def true_outlines(geometry: Geometry) -> dict[str, NDArray[np.bool_]]:
    """Return the reference outline of each sort of lesion, (I, J, K) each."""
    parts, mimics = geometry.instances[0].numpy(), geometry.mimics
    outlines = {
        "tumour": geometry.labels[0, 0].numpy() > 0,
        "spots": parts == WHITE_SPOTS,
        "cavity": parts == CAVITY,
        "normal": parts == ENHANCEMENT,
    }
    if mimics is not None:
        outlines["blood"] = mimics.blood[0, 0].numpy() > 0.5
        outlines["bleeding"] = (mimics.blood + mimics.swelling)[0, 0].numpy() > 0.5
        outlines["infarct"] = mimics.infarct[0, 0].numpy() > 0.5
    if geometry.plaques is not None:
        outlines["plaques"] = geometry.plaques.every[0, 0].numpy() > 0.5
    return outlines


def first_pass_components(
    engine: LensEngine, batch: SyntheticBatch, present: tuple[bool, ...]
) -> NDArray[np.uint8]:
    """Return the numbered components of the engine's first pass on some of the sequences."""
    study = prepared_of(batch, np.array(present))
    first_pass = engine.first_pass(study, context=SILENT)
    whole_tumour = native_grid.resample_map(
        first_pass.seen.probability[0], study, first_pass.seen.grid
    )
    core = np.zeros(whole_tumour.shape, np.float32)
    rules = CandidateCriteria({**dict.fromkeys(Region, 1.0), Region.WT: first_pass.threshold})
    regions = {Region.WT: whole_tumour, Region.TC: core, Region.ET: core}
    split = split_by_score(
        segment_components(regions, study.native, rules), first_pass.seen, first_pass.scoring
    )
    numbers = split.components.components.copy()
    if split.dismissed is not None:
        below = split.dismissed.components
        numbers[below > 0] = below[below > 0] + DISMISSED
    return numbers.clip(0, 255).astype(np.uint8)


def store_patient(engine: LensEngine, number: int, file: Path) -> None:
    """Generate a patient and store the scans and outlines."""
    seed, config = SEED + number, config_of(number)
    geometry, rng = generate_geometry(config, [seed]), np.random.default_rng(seed)
    scans, components, subsets = [], [], []
    batches = [paint(config, geometry, [seed], scanner) for scanner in range(SCANNERS)]
    for batch in batches:
        channels = batch.channels[0].numpy()
        subsets_shown = (ALL, SUBSETS[int(rng.integers(len(SUBSETS)))])
        components.append(
            [first_pass_components(engine, batch, present) for present in subsets_shown]
        )
        subsets.append(subsets_shown)
        peak = channels.reshape(4, -1).max(1)[:, None, None, None]
        scans.append((channels / peak * 1000).astype(np.float16))
    outlines: dict[str, Any] = {f"true_{n}": mask for n, mask in true_outlines(geometry).items()}
    temporary = file.with_suffix(".tmp.npz")
    np.savez(
        temporary,
        scans=np.stack(scans),
        brain=batches[-1].brain[0].numpy(),
        found=np.array(components),
        subsets=np.array(subsets),
        tumour=tumour_kind(seed, geometry, config).value,
        **outlines,
    )
    temporary.rename(file)


def main() -> None:
    """Generate the patients that the folder lacks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--tumours", type=int, default=100, help="further ones, all with tumours")
    parser.add_argument("--mimics", type=int, default=100, help="further ones, mostly tumour-free")
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--minutes", type=float, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.kept.mkdir(parents=True, exist_ok=True)
    engine, started = LensEngine("cpu", options.weights), time.monotonic()
    tumours = range(FIRST_TUMOUR, FIRST_TUMOUR + options.tumours)
    mimics = range(FIRST_MIMIC, FIRST_MIMIC + options.mimics)
    for number in (*range(options.patients), *tumours, *mimics):
        file = options.kept / f"{number:04}.npz"
        if not file.is_file() and time.monotonic() - started < 60 * options.minutes:
            store_patient(engine, number, file)


if __name__ == "__main__":
    main()
