"""Cases: folders with a file for each sequence (t1.nii.gz, t1c.nii.gz …), and their subsets."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.resampling import resample


def sequence_files(folder: Path) -> dict[MrSequence, str]:
    """Return the file of each sequence of a case, as the argument `named` of `open_study`."""
    return {s: str(p) for s in MrSequence if (p := folder / f"{s.value}.nii.gz").is_file()}


def segmented_cases(data: Path) -> list[Path]:
    """Return the folders of the cases with a reference (seg.nii.gz), by name."""
    return sorted(folder for folder in data.iterdir() if (folder / "seg.nii.gz").is_file())


def resample_labels(labels: NDArray[np.generic], source: Grid, target: Grid) -> NDArray[np.uint8]:
    """Return labels resampled to another grid by nearest neighbour."""
    return resample(labels.astype(np.float32), source, target, nearest=True).astype(np.uint8)


def subset_name(subset: Collection[MrSequence]) -> str:
    """Return the display names of sequences, joined by plus signs."""
    return " + ".join(s.display_name for s in MrSequence if s in subset)


def restricted_to(prepared: PreparedStudy, subset: Collection[MrSequence]) -> PreparedStudy:
    """Return a prepared study with only these of its sequences; the others are zero and absent."""
    present = prepared.present & np.array([s in subset for s in MrSequence])
    channels = prepared.channels * present[:, None, None, None]
    return replace(prepared, channels=channels, present=present)
