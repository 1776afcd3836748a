"""Hostile NIfTI studies are read or refused as stated; nothing hangs, and memory is bounded."""

from __future__ import annotations

import pytest
from tests.hostile import nifti
from tests.hostile.judge import verdict


@pytest.mark.parametrize("name", nifti.STUDIES)
def test_the_verdict_is_the_stated_one(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "study"
    folder.mkdir()
    nifti.STUDIES[name](folder)
    assert verdict(folder, nifti.voxels()) == nifti.EXPECTED[name]
