"""One study gives one result, with any number of threads and workers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.command import lesionlens_process
from tests.conftest import REPOSITORY

SAMPLE = REPOSITORY / "sample_data" / "study"


def run(*arguments: object) -> None:
    ended = lesionlens_process(*arguments, timeout=1500)
    assert ended.status == 0, ended.stderr


def assert_same(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("*.nii.gz"))
    assert "segmentation.nii.gz" in names
    for name in names:
        ours, theirs = (np.asarray(nib.load(folder / name).dataobj) for folder in (one, other))
        if name.startswith("probability"):
            np.testing.assert_allclose(ours, theirs, atol=1e-3, err_msg=name)
        elif name == "segmentation.nii.gz":
            for label in np.unique(ours):
                both = ((ours == label) & (theirs == label)).sum()
                assert 2 * both / ((ours == label).sum() + (theirs == label).sum()) >= 0.995
    ours, theirs = (
        [row["tracking_uid"] for row in json.loads((f / "findings.json").read_text())["candidates"]]
        for f in (one, other)
    )
    assert ours == theirs


def test_with_one_thread_and_with_three(tmp_path):
    for count in (1, 3):
        run("analyze", SAMPLE, "--out", tmp_path / str(count), "--threads", count)
        assert json.loads((tmp_path / str(count) / "run.json").read_text())["threads"] == count
    assert_same(tmp_path / "1", tmp_path / "3")


def test_with_one_worker_and_with_two(tmp_path):
    pytest.importorskip("distributed")
    for name in ("a", "b"):
        shutil.copytree(SAMPLE, tmp_path / "studies" / name)
    for count in (1, 2):
        run("batch", tmp_path / "studies", "--out", tmp_path / str(count), "--workers", count)
    for name in ("a", "b"):
        assert_same(tmp_path / "1" / name, tmp_path / "2" / name)
