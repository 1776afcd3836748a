"""A result as code and a notebook meet it: opened again, as a table, as a page."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.phantoms.analysis import make_reviewed

import lesionlens
from lesionlens import Candidate, Region, Result
from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.cli.sentence import sentence

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A reviewed result, and the folder it was saved to."""
    folder = tmp_path_factory.mktemp("saved")
    result = Result(make_reviewed(folder / "study", (MrSequence.T1C, MrSequence.FLAIR), "PIR"))
    return result, result.save(folder / "out")


def test_a_folder_alone_gives_candidates_maps_and_decisions(saved):
    result, folder = saved
    again = Result.open(folder)
    assert [c.tracking_uid for c in again.candidates] == [c.tracking_uid for c in result.candidates]
    assert again.attention["wt"].grid.matches(result.labels.grid)
    np.testing.assert_array_equal(again.labels.data, result.labels.data)
    assert again.review.state_of(again.candidates[1].tracking_uid) is ReviewState.REJECTED
    with pytest.raises(UnusableInputError, match="without its study"):
        again.save(folder.parent / "elsewhere")


def test_with_its_study_it_can_be_saved_again(saved, tmp_path):
    result, folder = saved
    again = Result.open(folder, result.analysis.study)
    assert (again.save(tmp_path / "again") / "report.html").is_file()


def test_a_result_is_never_saved_into_its_study_or_into_an_unnamed_folder(saved):
    """The command line refused both, code did not: an unset variable filled the working folder."""
    result, _ = saved
    root = result.analysis.study.root
    before = sorted(root.rglob("*"))
    for place in (root, root / "deep" / "out", ""):
        with pytest.raises(UnusableInputError):
            result.save(place)
    assert sorted(root.rglob("*")) == before


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(ReadError, match="no result"):
        Result.open(tmp_path)


def test_the_data_frame_has_the_columns_and_rows_of_findings_csv(saved):
    pytest.importorskip("pandas")
    result, folder = saved
    frame = result.to_dataframe()
    with (folder / "findings.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(frame.columns) == list(rows[0])
    assert frame["volume_ml_wt"].tolist() == [float(row["volume_ml_wt"]) for row in rows]
    assert frame["review_state"].tolist() == ["unreviewed", "rejected"]
    assert Result.open(folder).to_dataframe().equals(frame)


def test_an_analysis_without_a_candidate_is_an_empty_table_with_its_columns(saved):
    pytest.importorskip("pandas")
    result, _ = saved
    findings = replace(result.analysis.findings, candidates=())
    frame = Result(replace(result.analysis, findings=findings)).to_dataframe()
    assert frame.empty
    assert "score" in frame.columns


def test_a_notebook_shows_pictures_and_escapes_every_text(saved):
    result, folder = saved
    study = replace(result.analysis.study, name="<script>alert(1)</script>")
    first = result.candidates[0]
    hostile = replace(first, location=replace(first.location, region="<img src=x>"))
    pages = [
        study._repr_html_(),
        hostile._repr_html_(),
        Result(
            replace(
                result.analysis,
                findings=replace(result.analysis.findings, candidates=(hostile,)),
            )
        )._repr_html_(),
        Result.open(folder)._repr_html_(),
    ]
    assert not [page for page in pages if "<script" in page or "<img src=x" in page]
    assert [page.count("data:image/png") for page in pages] == [2, 0, 1, 2]
    assert "Research use only" in pages[-1]


def test_keys_may_be_strings(saved):
    result, _ = saved
    assert result.probability["wt"] is result.probability[Region.WT]
    assert result.analysis.study["t1c"] is result.analysis.study[MrSequence.T1C]
    with pytest.raises(KeyError, match="whole"):
        result.probability["whole"]  # type: ignore[index]


def test_every_public_name_is_there():
    assert lesionlens.Candidate is Candidate
    assert [name for name in lesionlens.__all__ if not getattr(lesionlens, name, None)] == []


@pytest.mark.slow
def test_the_examples_pass_strict_type_checks():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            *map(str, (REPOSITORY / "examples").glob("*.py")),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_sentence_is_of_the_study_or_of_one_of_its_candidates(saved):
    _, folder = saved
    again = Result.open(folder)
    assert again.sentence(1).startswith("Candidate region 1 (")
    assert again.sentence(1) in again.sentence()
    with pytest.raises(UnusableInputError, match=r"no candidate 7.*one of: 1, 2"):
        again.sentence(7)
    assert sentence(folder, 1).output == (again.sentence(1),)
    with pytest.raises(UnusableInputError, match="no candidate 7"):
        sentence(folder, 7)
