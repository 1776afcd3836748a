"""Where analysed studies are is kept for all of them, whoever ends at the same time."""

from __future__ import annotations

import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lesionlens.analysis.followup import study_locations
from lesionlens.base.records.study import Study, StudyKind


@pytest.mark.skipif(sys.platform == "win32", reason="no folder is locked there")
def test_studies_that_end_together_keep_each_others_locations(tmp_path, monkeypatch):
    """Of 200 that eight processes stored in two seconds, 71 were left."""
    study = Study("one", StudyKind.NIFTI, {}, tmp_path)
    file = tmp_path / "new" / "studies.json"  # of a user's first batch
    monkeypatch.setattr(study_locations, "location_file", lambda: file)
    inputs = [(("t1.nii", str(number)),) for number in range(80)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: study_locations.remember(one, study), inputs))
    assert all(study_locations.recall(one) == (tmp_path, None) for one in inputs)


@pytest.mark.skipif(sys.platform == "win32", reason="no folder is closed that way there")
def test_a_study_in_a_folder_that_is_closed_now_has_no_known_location(tmp_path, monkeypatch):
    monkeypatch.setattr(study_locations, "location_file", lambda: tmp_path / "studies.json")
    inputs, closed, stat = [("t1.nii", "0")], tmp_path / "closed" / "one", os.stat
    study_locations.remember(inputs, Study("one", StudyKind.NIFTI, {}, closed))

    def refused(path, **options):
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refused)
    assert study_locations.recall(inputs) is None
