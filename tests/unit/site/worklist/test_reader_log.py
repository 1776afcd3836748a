"""What tells the studies apart that are read outside a list."""

from __future__ import annotations

import shutil

from lesionlens.imaging.reading.readers import open_study
from lesionlens.site.worklist import reader_log


def test_another_patient_in_the_same_folder_has_no_marks_of_the_one_before(make_study, tmp_path):
    """A folder of NIfTI files was known by its path: the next patient in it was signed already."""
    first = make_study(sequences={"t1c", "flair"})
    other = make_study(name="other", sequences={"t1c", "flair"}, tilt_deg=9.0)
    place = tmp_path / "current"
    shutil.copytree(first, place)
    key = reader_log.read_key_of_study(open_study(place), "A")
    assert reader_log.read_key_of_study(open_study(first), "A") == key
    shutil.rmtree(place)
    shutil.copytree(other, place)
    assert reader_log.read_key_of_study(open_study(place), "A") != key


def test_a_study_whose_files_are_gone_keeps_its_log(make_study):
    study = open_study(make_study(sequences={"t1c"}))
    key = reader_log.read_key_of_study(study, "A")
    shutil.rmtree(study.root)
    assert reader_log.read_key_of_study(study, "A") == key
