"""What tells the studies apart that are read outside a list."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace

import pytest
from tests.helpers.stored_decisions import RESPONSE, decide
from tests.phantoms.analysis import make_reviewed

from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.review import store
from lesionlens.results.review.log import ReviewLog
from lesionlens.site.database.records import ReadKey
from lesionlens.site.database.worklist_database import NAME, open_worklist_database
from lesionlens.site.worklist import reader_log
from lesionlens.site.worklist.read_session import ReadSession


@pytest.fixture
def reviewed(tmp_path):
    return make_reviewed(tmp_path / "study", (MrSequence.T1C, MrSequence.FLAIR), "RAS")


@pytest.fixture
def own_log(tmp_path, monkeypatch):
    """The folder of a log that the test may damage."""
    monkeypatch.setattr(reader_log, "user_data", lambda: tmp_path / "data")
    return reader_log.own_folder()


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


def test_decisions_are_found_again_after_the_files_are_renamed(reviewed):
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
    with closing(open_worklist_database(folder)) as database:
        read_session = ReadSession(database, key)
        read_session.continue_from(store.analysis_key(first.run), Review())
        uid = reviewed.findings.candidates[0].tracking_uid
        decide(read_session, uid, ReviewState.REJECTED)
    found = reader_log.recover_review(renamed, key, folder).review
    assert found.state_of(uid) is ReviewState.REJECTED


def _log_decision(folder, key, run, uid, state, *, mark=None, shown=Review()):  # noqa: B008
    """Store one decision that follows the shown ones in a log, and a mark, as the window does."""
    with closing(open_worklist_database(folder)) as database:
        read_session = ReadSession(database, key)
        read_session.continue_from(store.analysis_key(run), shown)
        decide(read_session, uid, state, reader=key.reader)
        if mark is not None:
            read_session.mark(mark)


def test_a_reader_study_shows_no_decisions_of_the_same_case_in_another_list(reviewed, tmp_path):
    """The list copied for a pilot had the same cases, sessions and arms."""
    uid, key = reviewed.findings.candidates[0].tracking_uid, ReadKey("case", "A. Reader", 1)
    pilot, study_list = tmp_path / "pilot", tmp_path / "list"
    _log_decision(pilot, key, reviewed.run, uid, ReviewState.REJECTED)
    reader_log.record_last_folder(store.analysis_key(reviewed.run), key.reader, pilot)
    assert reader_log.recover_review(reviewed, key, study_list).review == Review()
    _log_decision(study_list, key, reviewed.run, uid, ReviewState.ACCEPTED)
    shown = reader_log.recover_review(reviewed, key, study_list).review
    assert shown.state_of(uid) is ReviewState.ACCEPTED


def test_a_later_read_without_decisions_on_these_candidates_hides_none(reviewed, tmp_path):
    unreviewed = replace(reviewed, review=Review())
    uid = reviewed.findings.candidates[0].tracking_uid
    first, second = ReadKey("first", "A. Reader"), ReadKey("second", "A. Reader")
    _log_decision(tmp_path / "list", first, reviewed.run, uid, ReviewState.REJECTED)
    _log_decision(tmp_path / "list", second, reviewed.run, "2.25.99", ReviewState.ACCEPTED)
    shown = reader_log.recover_review(unreviewed, first, tmp_path / "list").review
    assert shown.state_of(uid) is ReviewState.REJECTED


@pytest.mark.parametrize("saves_decisions", [False, True])
def test_a_signed_response_is_shown_with_later_decisions_of_the_result(
    reviewed, tmp_path, saves_decisions
):
    key, uid = ReadKey("case", "A. Reader"), reviewed.findings.candidates[0].tracking_uid
    shown = reviewed.review if saves_decisions else Review()
    with closing(open_worklist_database(tmp_path)) as database:
        read_session = ReadSession(database, key)
        read_session.continue_from(store.analysis_key(reviewed.run), shown)
        read_session.store_decisions(replace(shown, responses=(RESPONSE,)))
    log = ReviewLog(reviewed.review)
    log.decide(uid, ReviewState.ACCEPTED, reader="B. Reader")
    saved = replace(reviewed, review=log.review)
    recovered = reader_log.recover_review(saved, key, tmp_path)
    assert recovered.review == replace(log.review, responses=(RESPONSE,))
    assert recovered.conflicting == Review()


@pytest.mark.parametrize("damaged", ["the last list", "the own log"])
def test_a_damaged_log_hides_no_decisions_of_another(reviewed, own_log, tmp_path, damaged, caplog):
    """The decisions in the log of the list were not shown, because those elsewhere were lost."""
    unreviewed = replace(reviewed, review=Review())
    uid, key = reviewed.findings.candidates[0].tracking_uid, ReadKey("case", "A. Reader")
    earlier, here = tmp_path / "earlier", tmp_path / "here"
    _log_decision(earlier, key, reviewed.run, uid, ReviewState.ACCEPTED)
    reader_log.record_last_folder(store.analysis_key(reviewed.run), key.reader, earlier)
    _log_decision(here, key, reviewed.run, uid, ReviewState.REJECTED)
    folder = earlier if damaged == "the last list" else own_log
    (folder / NAME).write_bytes(b"no database" * 100)
    shown = reader_log.recover_review(unreviewed, key, here).review
    assert shown.state_of(uid) is ReviewState.REJECTED
    assert "The log of your decisions is not used: " in caplog.text
    (here / NAME).write_bytes(b"no database" * 100)
    assert reader_log.recover_review(unreviewed, key, here).review == Review()


@pytest.mark.parametrize("made", ["2020-01-05T10:00:00Z", ""], ids=["earlier", "no time"])
def test_a_reader_saw_no_analysis_when_decisions_were_made_that_the_read_took_over(
    reviewed, own_log, made
):
    """An unaided read stated another reader's day, or none after decisions without a time."""
    study, log = reviewed.study, reader_log.ReaderLog()
    key = reader_log.read_key_of_study(study, "A")
    saved = Review((ReviewEvent("1.2.3", ReviewState.ACCEPTED, "B", made),))
    session, continued = ReadSession(log.database, key), ReviewLog(saved)
    session.continue_from("analysis", saved)
    continued.decide("1.2.4", ReviewState.REJECTED, reader="A")
    session.store_decisions(continued.review)
    session.close()
    assert len(log.database.read(key).verdicts) == 2
    assert log.shown_before(study, key) == session.read.begun[:10]
    assert own_log.is_dir()


def test_conflicting_decisions_are_saved_for_the_user_or_are_said_to_be_lost(reviewed, own_log):
    other = ReviewLog()
    other.decide(reviewed.findings.candidates[0].tracking_uid, ReviewState.REJECTED)
    notice = reader_log.save_conflicting(reviewed, other.review)
    (folder,) = (own_log / "set_aside").iterdir()
    assert notice.endswith(f"are saved in {folder}.")
    shutil.rmtree(folder.parent)
    folder.parent.write_text("a file")
    notice = reader_log.save_conflicting(reviewed, other.review)
    assert "your other decisions on this result could not be saved: " in notice


def test_that_the_analysis_was_shown_is_recorded_once_for_each_reader(reviewed):
    log, study = reader_log.ReaderLog(), reviewed.study
    keys = [reader_log.read_key_of_study(study, reader) for reader in ("A", "B")]
    for key in (keys[0], keys[0], keys[1]):
        log.record_shown(study, key)
    assert [len(log.database.read(key).acts) for key in keys] == [1, 1]
    log.close()
