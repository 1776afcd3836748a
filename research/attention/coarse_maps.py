r"""Test the checks of coarse maps, such as Grad-CAM, on real cases and on perfect maps.

    python -m research.attention.coarse_maps --data CASES --cases A B C --weights synthetic \
        --json OUT.json

Grad-CAM is taken from the Lens network at the layer that a bundle's would be taken from (a quarter
of the resolution, values 8 mm apart), and from the randomised networks of `broken_maps`. A perfect
map of N mm is the outline itself, averaged over cubes of N mm and interpolated: whatever it lacks
is due to its resolution alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lesionlens.analysis.explain.faithfulness import as_coarse
from lesionlens.base.labels import Region
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.engine import Target
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.readers import open_study
from research.attention.broken_maps import (
    SwappableEngine,
    check_attention_maps,
    flagged_components,
    randomised_networks,
)
from research.common.cases import sequence_files

EDGES_MM = (4, 8, 16)
CAM_MM = 8.0


def maps_by_resolution(
    engine: SwappableEngine, study: PreparedStudy, labels: NDArray[np.uint8]
) -> Iterator[tuple[str, float, dict[Region, NDArray[np.float32]]]]:
    """Yield the name, the distance between values in mm, and the map of each region."""
    native = study.native.affine @ study.to_native
    grid = replace(study.working, affine=native)
    masks = {
        r: resample(np.isin(labels, r.labels).astype(np.float32), study.native, grid) > 0.5
        for r in Region
    }
    masks = {r: mask for r, mask in masks.items() if mask.any()}
    for name, network in randomised_networks(engine).items():
        engine.use(network)
        cams = {r: engine.attribute(study, Target(r), "grad-cam").data for r in masks}
        engine.use(engine.trained_network)
        yield f"Grad-CAM, {name}", CAM_MM, cams
    edge = float(study.working.spacing_mm[0])
    for mm in EDGES_MM:
        factor = round(mm / edge)
        coarse = {
            r: as_coarse(m.astype(np.float32), factor) * study.brain for r, m in masks.items()
        }
        yield f"perfect, {mm} mm", mm, coarse


def main() -> None:
    """Check the maps of each case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", required=True)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine, rows = SwappableEngine(options.weights), list[dict[str, Any]]()
    for case in options.cases:
        folder = options.data / case
        study = prepare(open_study(folder, named=sequence_files(folder)), SILENT)
        prediction = engine.predict(study, context=SILENT)
        assert prediction.trace is not None
        components = flagged_components(prediction, study)
        for name, mm, maps in maps_by_resolution(engine, study, components.labels):
            with_map = replace(
                prediction, trace=replace(prediction.trace, cross=maps, spacing_mm=mm)
            )
            for region, checks in check_attention_maps(engine, study, with_map, components).items():
                rows.append({"case": case, "map": name, "region": region.value, **asdict(checks)})
                print(case, name, region, checks.near, checks.reliable, checks.verdict, flush=True)
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
