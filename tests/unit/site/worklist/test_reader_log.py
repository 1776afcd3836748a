"""What tells the studies apart that are read outside a list."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace

import pytest
from tests.kept_reads import decide
from tests.phantoms.analysis import make_reviewed

from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.review import Review
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.review import store
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.worklist import reader_log
from lesionlens.site.worklist.read_session import ReadSession


@pytest.fixture
def reviewed(tmp_path):
    return make_reviewed(tmp_path / "study", (MrSequence.T1C, MrSequence.FLAIR), "RAS")


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


@pytest.mark.parametrize("earlier", [False, True])
def test_decisions_are_found_again_after_the_files_are_renamed(reviewed, earlier):
    """The order of the names counted, and the decisions of the log were not shown any more."""
    digests = sorted(sha256 for _, sha256 in reviewed.run.inputs)
    assert len(digests) > 1
    first, renamed = (
        replace(
            reviewed,
            run=replace(reviewed.run, inputs=tuple(zip("abcd", order, strict=False))),
            review=Review(),
        )
        for order in (digests[::-1], digests)
    )
    key, folder = reader_log.read_key_of_study(reviewed.study, "A. Reader"), reader_log.own_folder()
    name = store.analysis_keys(first.run)[-1 if earlier else 0]
    with closing(open_worklist_database(folder)) as database:
        read_session = ReadSession(database, key)
        read_session.continue_from(name, Review())
        uid = reviewed.findings.candidates[0].tracking_uid
        decide(read_session, uid, ReviewState.REJECTED)
    found = reader_log.recover_review(first if earlier else renamed, key, folder).review
    assert found.state_of(uid) is ReviewState.REJECTED
    (log, *_) = reader_log.logged_reviews(
        (first if earlier else renamed).run, ["A. Reader"], folder
    )
    assert log.state_of(uid) is ReviewState.REJECTED


def test_a_study_whose_files_are_gone_keeps_its_log(make_study):
    study = open_study(make_study(sequences={"t1c"}))
    key = reader_log.read_key_of_study(study, "A")
    shutil.rmtree(study.root)
    assert reader_log.read_key_of_study(study, "A") == key
