"""What must hold for any study whatever: read, or refused in words, soon and in little memory."""

from __future__ import annotations

import warnings
from pathlib import Path

from lesionlens.base import scan_limits
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.process.peak_memory import peak_memory_mib
from lesionlens.cli.main import explain
from lesionlens.imaging.preparation.checks.lost_signal import replace_nonfinite
from lesionlens.imaging.reading.input_files import inputs_of
from lesionlens.imaging.reading.readers import open_study

MAX_MIB = 150
WORDS = ("Found ", "Expected ")


def judged(study: Path) -> str | None:
    """Read a study to its voxels; return what it was refused with, None where it was not."""
    before = {p: p.lstat().st_mtime_ns for p in study.rglob("*")}
    memory = peak_memory_mib()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = open_study(study)
            inputs_of(opened)
            for series in opened.series.values():
                scan_limits.check_grid(series.grid, "the scan")
                values, _ = replace_nonfinite(series.load(), series.grid, "the scan")
                scan_limits.check_voxels(values, "the scan")
        said = None
    except UnusableInputError as error:
        said = str(error)
        status, message = explain(error)
        assert (status, message) == (2, said)
        assert all(word in said for word in WORDS), said
        assert len(said) < 2000
        assert str(study.parent) not in said, said
    assert peak_memory_mib() - memory < MAX_MIB
    assert {p: p.lstat().st_mtime_ns for p in study.rglob("*")} == before
    return said
