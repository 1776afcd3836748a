"""Folders of one case each, with a file for each sequence: t1.nii.gz, t1c.nii.gz and so on."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.labels import MrSequence


def sequence_files(folder: Path) -> dict[MrSequence, str]:
    """Return the file of each sequence that a case has, as `open_study` takes them by name."""
    return {s: str(p) for s in MrSequence if (p := folder / f"{s.value}.nii.gz").is_file()}
