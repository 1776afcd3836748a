"""Hostile NIfTI studies end in a message or are read; nothing hangs, and memory is bounded."""

from __future__ import annotations

import pytest
from tests.hostile import nifti
from tests.hostile.judge import judged


@pytest.mark.parametrize("name", nifti.STUDIES)
def test_a_hostile_study_ends_well(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "study"
    folder.mkdir()
    nifti.STUDIES[name](folder)
    judged(folder)
