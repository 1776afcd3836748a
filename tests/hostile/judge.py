"""What becomes of any study whatever: read, read without a part, or refused in one message."""

from __future__ import annotations

import resource
import warnings
from pathlib import Path

import numpy as np
from tests.corpus import COARSE, rule_engine

from lesionlens import Lens, open_study
from lesionlens.plugin import LesionLensError, UnusableInputError

MAX_MIB = 200
READ, AS_STATED, SET_ASIDE, REFUSED = "read", "as stated", "set aside", "refused"
"""Read with its voxels as they were; with those that the damaged file states; without a part, which
is named; refused on opening, loading or analysing."""


def verdict(study: Path, voxels: np.ndarray) -> str:
    """Open a study, load it and, where its voxels are others than these, analyse it."""
    before = {p: p.lstat().st_mtime_ns for p in study.rglob("*")}
    memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal: LesionLensError | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = open_study(study)
            loaded = [series.load() for series in opened.series.values()]
            is_same = len(loaded) == 1 and np.array_equal(loaded[0], voxels)
            found = SET_ASIDE if opened.notices or opened.set_aside else READ
            if found == READ and not is_same:
                Lens(engine=rule_engine())(opened, COARSE)
                found = AS_STATED
    except LesionLensError as error:
        refusal, found = error, REFUSED
    if refusal is not None:
        assert isinstance(refusal, UnusableInputError), repr(refusal)
        assert 0 < len(str(refusal)) < 2000
        assert str(study.parent) not in str(refusal)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kib) / 1024
    assert grown_mib < MAX_MIB, f"{grown_mib:.0f} MiB more memory"
    assert {p: p.lstat().st_mtime_ns for p in study.rglob("*")} == before
    return found
