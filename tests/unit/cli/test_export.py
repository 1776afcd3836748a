"""`lesionlens export` writes what the readers decided, and nothing where it cannot."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.cli.export import export
from lesionlens.engines.testing.acquire import Acquisition
from lesionlens.engines.testing.analysis import make_analysis, write_study
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.results.export.exporter import save
from lesionlens.results.review.log import ReviewLog

LESIONS = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """A study, and a result of it whose second candidate was rejected."""
    folder = tmp_path_factory.mktemp("reviewed")
    patient = make_patient(spacing_mm=4.0, lesions=LESIONS)
    study = write_study(
        patient, folder / "study", sequences=(MrSequence.T1C,), how=Acquisition("LPS")
    )
    analysis = make_analysis(patient, study)
    log = ReviewLog()
    log.mark(analysis.findings.candidates[1].tracking_uid, ReviewState.REJECTED, reason="vessel")
    save(replace(analysis, review=log.review), folder / "result")
    return folder / "study", folder / "result"


def test_the_new_result_says_what_the_readers_decided(reviewed, tmp_path):
    study, result = reviewed
    answer = export(result, study, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "findings.json").read_text())
    states = [candidate["review"]["state"] for candidate in written["candidates"]]
    assert states == ["unreviewed", "rejected"]
    assert "1 rejected" in str(answer.output[0])
    assert (tmp_path / "out" / "report.html").exists()


def test_another_study_is_refused_and_nothing_is_written(reviewed, make_study, tmp_path):
    _, result = reviewed
    other = make_study(sequences={"t1c"}, spacing_mm=(4.0, 4.0, 5.0))
    with pytest.raises(ReadError, match="another study"):
        export(result, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_result_is_refused(reviewed, tmp_path):
    study, _ = reviewed
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError):
        export(tmp_path / "empty", study, tmp_path / "out")


def test_the_study_is_never_written_to(reviewed):
    study, result = reviewed
    with pytest.raises(UnusableInputError, match="within the study"):
        export(result, study, study / "out")
