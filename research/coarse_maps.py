r"""How coarse maps, such as Grad-CAM, are judged: the verdict on real cases, and on perfect ones.

    python research/coarse_maps.py --data CASES --cases A B C --weights synthetic --json OUT.json

Grad-CAM is taken from the Lens network at the layer that a bundle's would be taken from (a quarter
of the resolution, values 8 mm apart). A perfect map of N mm is the outline itself, averaged over
cubes of N mm and interpolated back: what it lacks, it lacks by its coarseness alone.
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
from broken_maps import Exchangeable, judged, outlined
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.engine import Target
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.readers import open_study

EDGES_MM = (4, 8, 16)


def perfect(inside: NDArray[np.bool_], factor: int) -> NDArray[np.float32]:
    """Return an outline as a map of one value a cube of `factor` voxels, interpolated."""
    padded = [-(-n // factor) * factor for n in inside.shape]
    whole = np.zeros(padded, np.float32)
    whole[tuple(slice(n) for n in inside.shape)] = inside
    i, j, k = (n // factor for n in padded)
    coarse = whole.reshape(i, factor, j, factor, k, factor).mean((1, 3, 5))
    fine = ndimage.zoom(coarse, factor, order=1, grid_mode=True, mode="nearest")
    return fine[tuple(slice(n) for n in inside.shape)].astype(np.float32)


def maps_of(
    engine: Exchangeable, study: PreparedStudy, labels: NDArray[np.uint8]
) -> Iterator[tuple[str, dict[Region, NDArray[np.float32]]]]:
    """Yield the name and the maps of the network's own attention, Grad-CAM and perfect maps."""
    native = study.native.affine @ study.to_native
    grid = replace(study.working, affine=native)
    drawn = {
        r: resample(np.isin(labels, r.labels).astype(np.float32), study.native, grid) > 0.5
        for r in Region
    }
    drawn = {r: mask for r, mask in drawn.items() if mask.any()}
    yield (
        "Grad-CAM",
        {r: engine.attribute(study, Target(r), "grad-cam").data for r in drawn},
    )
    edge = float(study.working.spacing_mm[0])
    for mm in EDGES_MM:
        made = {r: perfect(mask, round(mm / edge)) * study.brain for r, mask in drawn.items()}
        yield f"perfect, {mm} mm", made


def main() -> None:
    """Judge the maps of each case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", required=True)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine, rows = Exchangeable(options.weights), list[dict[str, Any]]()
    for case in options.cases:
        folder = options.data / case
        named = {s: str(p) for s in MrSequence if (p := folder / f"{s.value}.nii.gz").is_file()}
        study = prepare(open_study(folder, named=named), SILENT)
        found = engine.predict(study, context=SILENT)
        marked = outlined(found, study)
        for name, maps in maps_of(engine, study, marked.labels):
            shown = replace(found, trace=replace(found.trace, cross=maps))
            for region, one in judged(engine, study, shown, marked).items():
                rows.append({"case": case, "map": name, "region": region.value, **asdict(one)})
                print(case, name, region, one.near, one.reliable, one.verdict, flush=True)
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
