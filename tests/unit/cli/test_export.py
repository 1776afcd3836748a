"""`lesionlens export` writes what the readers decided, and nothing where it cannot."""

from __future__ import annotations

import json

import pytest
from tests.phantoms.analysis import make_reviewed

from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.cli.export import export
from lesionlens.cli.review import review
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.exporter import save
from lesionlens.results.review.reopen import read_run

pytestmark = pytest.mark.usefixtures("coarse")


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """A study, and a result of it whose second candidate was rejected."""
    folder = tmp_path_factory.mktemp("reviewed")
    save(make_reviewed(folder / "study", (MrSequence.T1C,), "LPS"), folder / "result")
    return folder / "study", folder / "result"


def test_the_new_result_says_what_the_readers_decided(reviewed, tmp_path):
    study, result = reviewed
    answer = export(result, study, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "findings.json").read_text())
    states = [candidate["review"]["state"] for candidate in written["candidates"]]
    assert states == ["unreviewed", "rejected"]
    assert "1 rejected" in str(answer.output[0])
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("command", [export, review])
def test_the_study_of_what_was_written_is_found_where_it_is_a_prior(
    reviewed, tmp_path, monkeypatch, command
):
    """Only `analyze` remembered where its images lie: --prior asked for them."""
    monkeypatch.setattr(study_locations, "location_file", lambda: tmp_path / "studies.json")
    study, result = reviewed
    command(result, study, tmp_path / "out")
    known = study_locations.recall(read_run(tmp_path / "out").inputs)
    assert known == (study, open_study(study).uid)


def test_the_study_is_never_written_to(reviewed):
    study, result = reviewed
    with pytest.raises(UnusableInputError, match="within the study"):
        export(result, study, study / "out")
