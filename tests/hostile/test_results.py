"""A result that was tampered with is refused in one message, and steers nothing that is written."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command import digests, lesionlens
from tests.corpus import copy_of

from lesionlens import Result
from lesionlens.plugin import LesionLensError

FILES = (
    "findings.json", "run.json", "segmentation.nii.gz", "candidates.nii.gz",
    "probability_wt.nii.gz",
)  # fmt: skip
DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda place: place.write_bytes(b"") and None,
    "cut": lambda place: place.write_bytes(place.read_bytes()[:-30]) and None,
    "garbage": lambda place: place.write_bytes(b"\xff\xfe\0" * 99) and None,
    "deep": lambda place: place.write_text("[" * 100_000) and None,
    "null": lambda place: place.write_text("null") and None,
    "a folder": lambda place: place.mkdir(),
    "a fifo": lambda place: os.mkfifo(place),
    "a bomb": lambda place: place.write_bytes(gzip.compress(bytes(2**27), 1)) and None,
}  # fmt: skip
NONSENSE = (
    None, 7, "files", [None], [{}], [{"file": None, "sha256": None}], [{"file": 1, "sha256": 2}],
    [{"file": "../../x", "sha256": "0"}], [{"file": "x" * 9000, "sha256": "0"}],
)  # fmt: skip


@pytest.fixture
def result(corpus, tmp_path) -> Path:
    return copy_of(corpus.result("nifti"), tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_part_is_refused_by_name(result, how):
    for name in FILES:
        whole = (result / name).read_bytes()
        if how.startswith("a f"):
            (result / name).unlink()
        DAMAGE[how](result / name)
        with pytest.raises(LesionLensError) as refusal:
            Result.open(result)
        assert name in str(refusal.value)
        assert len(str(refusal.value)) < 2000
        if (result / name).is_dir():
            (result / name).rmdir()
        elif (result / name).is_fifo():
            (result / name).unlink()
        (result / name).write_bytes(whole)
    assert len(Result.open(result).candidates) == 1


@pytest.mark.parametrize("rows", NONSENSE)
def test_a_list_of_nonsense_removes_and_overwrites_nothing(corpus, result, rows):
    run = json.loads((result / "run.json").read_text("utf-8"))
    (result / "run.json").write_text(json.dumps({**run, "files": rows}), "utf-8")
    (result / "mine.txt").write_text("mine")
    before = digests(result.parent)
    ended = lesionlens("analyze", corpus.study("nifti"), "--out", result)
    assert ended.status == 2
    assert digests(result.parent) == before
