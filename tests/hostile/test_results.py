"""A result that was tampered with is refused in words, and steers nothing that is written."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.phantoms.analysis import make_analysis

from lesionlens.base.errors import LesionLensError, UnusableInputError
from lesionlens.cli.main import explain
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.export.exporter import save
from lesionlens.results.review.reopen import read_result

FILES = (
    "findings.json", "run.json", "review.json", "segmentation.nii.gz", "candidates.nii.gz",
    "probability_wt.nii.gz",
)  # fmt: skip
DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda place: place.write_bytes(b"") and None,
    "cut": lambda place: place.write_bytes(place.read_bytes()[:-30]) and None,
    "garbage": lambda place: place.write_bytes(b"\xff\xfe\0" * 99) and None,
    "deep": lambda place: place.write_text("[" * 100_000) and None,
    "null": lambda place: place.write_text("null") and None,
    "a folder": lambda place: (place.unlink(), place.mkdir())[0],
    "a bomb": lambda place: place.write_bytes(gzip.compress(bytes(2**27), 1)) and None,
}  # fmt: skip


@pytest.fixture
def result(make_study, patient, tmp_path) -> Path:
    save(make_analysis(patient, open_study(make_study(sequences={"t1c"}))), tmp_path / "out")
    return tmp_path / "out"


def refused(folder: Path) -> str:
    with pytest.raises(LesionLensError) as caught:
        read_result(folder)
    status, said = explain(caught.value)
    assert status == 2
    assert "Expected" in said
    assert len(said) < 2000
    return said


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_part_is_refused_by_name(result, how):
    for name in FILES:
        whole = (result / name).read_bytes()
        DAMAGE[how](result / name)
        assert name in refused(result)
        if (result / name).is_dir():
            (result / name).rmdir()
        (result / name).write_bytes(whole)
    read_result(result)


def _fields(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(place.read_text(encoding="utf-8"))
    change(content)
    place.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    "rows",
    [None, 7, "files", [None], [{}], [{"file": None, "sha256": None}], [{"file": 1, "sha256": 2}],
     [{"file": "../../x", "sha256": "0"}], [{"file": "x" * 9000, "sha256": "0"}]],
)  # fmt: skip
def test_a_list_of_nonsense_removes_and_overwrites_nothing(result, make_study, patient, rows):
    _fields(result / "run.json", lambda run: run.update(files=rows))
    (result / "mine.txt").write_text("mine")
    other = make_analysis(patient, open_study(make_study(sequences={"t1c"})))
    with pytest.raises(UnusableInputError, match="not of an earlier result"):
        save(other, result)
    assert (result / "mine.txt").read_text() == "mine"


def test_a_fifo_among_the_files_of_a_result_blocks_nothing(result):
    (result / "segmentation.nii.gz").unlink()
    os.mkfifo(result / "segmentation.nii.gz")
    assert "segmentation.nii.gz" in refused(result)
