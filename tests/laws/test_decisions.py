"""Decisions are never lost, and never on another study; results never on another patient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command import digests, lesionlens
from tests.corpus import READER, REASON, copy_of, decide, states_of

from lesionlens import Result

pytestmark = pytest.mark.usefixtures("coarse", "third_party")
STATES = ("accepted", "rejected")


@pytest.fixture
def decided(corpus, tmp_path) -> Path:
    """A result of two candidates, the first accepted, the second rejected."""
    out = copy_of(corpus.result("nifti two"), tmp_path / "out")
    decide(out, corpus.study("nifti two"), *STATES)
    return out


def again(study: Path, out: Path) -> None:
    ended = lesionlens("analyze", study, "--out", out, "--engine", "by-rule")
    assert ended.status == 0, ended.stderr


def holds(out: Path, *words: str) -> bool:
    """Return whether one file below a folder, besides those of the result itself, has these."""
    texts = [path.read_text("utf-8") for path in out.rglob("*.json") if path.is_file()]
    return any(all(word in text for word in words) for text in texts)


def test_a_decision_is_in_the_result_with_reader_time_and_reason(corpus, decided):
    assert states_of(decided) == list(STATES)
    reopened = Result.open(decided)
    uids = [candidate.tracking_uid for candidate in reopened.candidates]
    assert [reopened.review.state_of(uid) for uid in uids] == list(STATES)
    for candidate in json.loads((decided / "findings.json").read_text("utf-8"))["candidates"]:
        review = candidate["review"]
        assert (review["reader"], review["reason"]) == (READER, REASON)
        assert review["time"]


def test_decisions_stay_when_the_study_is_analysed_again(corpus, decided):
    again(corpus.study("nifti two"), decided)
    assert states_of(decided) == list(STATES)


def test_decisions_of_one_study_are_not_those_of_another_and_are_kept(corpus, decided):
    """Two lesions at the same places, of another patient."""
    again(corpus.study("dicom two"), decided)
    assert states_of(decided) == ["unreviewed", "unreviewed"]
    assert holds(decided, READER, REASON), "what the reader decided is lost"


def test_a_result_is_not_exported_beside_another_patient_s_images(corpus, tmp_path):
    result = corpus.result("dicom two")
    before = digests(result)
    ended = lesionlens("export", result, corpus.study("dicom other"), "--out", tmp_path / "out")
    assert ended.status == 2
    assert not (tmp_path / "out").exists()
    assert digests(result) == before


def test_a_prior_of_another_patient_is_refused(corpus, tmp_path):
    words = ("analyze", corpus.study("dicom other"), "--out", tmp_path / "out", "--prior")
    prior = (corpus.result("dicom two"), "--prior-study", corpus.study("dicom two"))
    ended = lesionlens(*words, *prior, "--engine", "by-rule")
    assert ended.status == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_growth_is_measured_against_the_lesion_at_the_same_place(corpus, tmp_path):
    words = ("analyze", corpus.study("dicom later"), "--out", tmp_path / "out", "--prior")
    prior = (corpus.result("dicom two"), "--prior-study", corpus.study("dicom two"))
    ended = lesionlens(*words, *prior, "--engine", "by-rule")
    assert ended.status == 0, ended.stderr
    followup = (tmp_path / "out" / "followup.json").read_text("utf-8")
    (now,) = json.loads((tmp_path / "out" / "findings.json").read_text("utf-8"))["candidates"]
    was = json.loads((corpus.result("dicom two") / "findings.json").read_text("utf-8"))
    assert now["volume_ml"]["wt"] > 1.3 * was["candidates"][0]["volume_ml"]["wt"]
    assert all(one["tracking_uid"] in followup for one in was["candidates"])
