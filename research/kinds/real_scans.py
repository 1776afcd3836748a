"""Real scans with reference outlines and those of the engine's first pass, to evaluate kinds.

    python -m research.kinds.real_scans --data CASES --kept FOLDER --weights default

Nothing is fitted on them. The folder gets one file per study, at 2 mm; none of it may be committed.
There is no reference for the patient with multiple sclerosis: voxels bright on FLAIR, and too deep
for cortex, stand for plaques.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from lesionlens.analysis.findings import preliminary
from lesionlens.analysis.findings.anatomy import head_of
from lesionlens.analysis.findings.components import merged, without_specks
from lesionlens.analysis.findings.kind_features import coarse_of
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.reading.readers import open_study
from research.common.cases import restricted_to, sequence_files, subset_name

ALL = frozenset(MrSequence)
SUBSETS = (ALL, ALL - {MrSequence.T1C})
_FLAIR_QUANTILE, _MIN_DEPTH_MM, _MIN_ML = 0.985, 9.0, 0.1


def _outlines(
    engine: LensEngine, study: PreparedStudy, reference: NDArray[np.bool_] | None
) -> Iterator[tuple[str, NDArray[np.int32]]]:
    min_voxels = round(_MIN_ML / study.native.voxel_ml)
    if reference is not None:
        yield "reference", merged(without_specks(reference, min_voxels), study.native, 3.0)[0]
    available = frozenset(
        s for s, present in zip(MrSequence, study.present, strict=True) if present
    )
    for subset in dict.fromkeys(s & available for s in SUBSETS):
        if subset:
            restricted = restricted_to(study, subset)
            yield subset_name(subset), preliminary.flag(engine, restricted, SILENT).components


def store_scan(engine: LensEngine, folder: Path, file: Path) -> None:
    """Store a prepared study with its reference outlines and those of the first pass."""
    study = prepare(open_study(folder, named=sequence_files(folder)), SILENT)
    head = head_of(study)
    coarse = None if head is None else coarse_of(study, head)
    if coarse is None:
        raise ValueError(folder.name)
    reference = None
    if (folder / "seg.nii.gz").is_file():
        image = nib.load(folder / "seg.nii.gz")
        grid = Grid(image.shape[:3], np.asarray(image.affine))
        labels = np.asarray(image.dataobj, np.float32).reshape(grid.shape)
        reference = resample(labels, grid, study.native, nearest=True) > 0
    outlines: dict[str, Any] = {
        f"of_{n}": coarse.sampled(o) for n, o in _outlines(engine, study, reference)
    }
    images: dict[str, Any] = {s.value: v.astype(np.float32) for s, v in coarse.images.items()}
    if reference is None:
        flair = coarse.images[MrSequence.FLAIR]
        bright = flair > np.quantile(flair[coarse.brain], _FLAIR_QUANTILE)
        spots = without_specks(bright & (coarse.depth_mm > _MIN_DEPTH_MM), 12)
        outlines["of_bright on FLAIR"] = merged(spots, coarse.grid, 3.0)[0]
    np.savez(
        file,
        brain=coarse.brain,
        affine=coarse.grid.affine,
        midline=coarse.head.midline,
        offset=coarse.head.offset,
        scale=coarse.head.scale,
        **images,
        **outlines,
    )


def main() -> None:
    """Store every study that the folder lacks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--weights", default="default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.kept.mkdir(parents=True, exist_ok=True)
    engine = LensEngine("cpu", options.weights)
    for group in ("with_skull", "non_tumour_ms", "tumour"):
        for folder in sorted((options.data / group).iterdir()):
            file = options.kept / f"{folder.name}.npz"
            if not file.is_file():
                store_scan(engine, folder, file)


if __name__ == "__main__":
    main()
