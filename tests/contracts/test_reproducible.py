"""One study gives one result, whatever it is computed with and beside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

COMMAND = str(Path(sys.executable).with_name("lesionlens"))
SAMPLE = Path(__file__).resolve().parents[2] / "sample_data" / "study"


def lesionlens(*arguments: object) -> None:
    subprocess.run([COMMAND, *map(str, arguments)], check=True, timeout=1500, capture_output=True)


def assert_same(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("*.nii.gz"))
    assert "segmentation.nii.gz" in names
    for name in names:
        ours, theirs = (np.asarray(nib.load(folder / name).dataobj) for folder in (one, other))
        if name.startswith("probability"):
            np.testing.assert_allclose(ours, theirs, atol=1e-3, err_msg=name)
        elif name == "segmentation.nii.gz":
            both = np.count_nonzero((ours > 0) & (theirs > 0))
            assert 2 * both >= 0.995 * (np.count_nonzero(ours) + np.count_nonzero(theirs))
    ours, theirs = (
        [row["tracking_uid"] for row in json.loads((d / "findings.json").read_text())["candidates"]]
        for d in (one, other)
    )
    assert ours == theirs


@pytest.mark.slow
def test_a_study_gives_the_same_result_with_one_thread_and_with_three(tmp_path):
    for count in (1, 3):
        lesionlens("analyze", SAMPLE, "--out", tmp_path / str(count), "--threads", count)
        run = json.loads((tmp_path / str(count) / "run.json").read_text())
        assert (run["precision"], run["threads"]) == ("float32", count)
    assert_same(tmp_path / "1", tmp_path / "3")


@pytest.mark.slow
def test_a_cohort_gives_the_same_results_with_one_worker_and_with_two(tmp_path):
    pytest.importorskip("distributed")
    for name in ("a", "b"):
        shutil.copytree(SAMPLE, tmp_path / "studies" / name)
    for count in (1, 2):
        lesionlens(
            "batch", tmp_path / "studies", "--out", tmp_path / str(count), "--workers", count
        )
    for name in ("a", "b"):
        assert_same(tmp_path / "1" / name, tmp_path / "2" / name)
    assert_same(tmp_path / "1" / "a", tmp_path / "1" / "b")
