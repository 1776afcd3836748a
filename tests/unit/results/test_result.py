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
from lesionlens import Candidate, Evaluation, Region, Result
from lesionlens.analysis.evaluation.summary import summarise
from lesionlens.base import plugins
from lesionlens.base.errors import MissingPluginError, ReadError, UnusableInputError
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


def test_a_probe_of_a_folder_alone_names_a_step_that_helps(saved):
    """It asked to open the result with its study, which has no single voxels' attention either."""
    again = Result.open(saved[1])
    with pytest.raises(UnusableInputError, match="without its study") as refused:
        again.probe((1, 2, 3))
    assert refused.value.next_step == "Analyse the study again"


def test_its_findings_name_the_folder_too(saved):
    _, folder = saved
    assert repr(Result.open(folder / "findings.json")) == repr(Result.open(folder))


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
        with pytest.raises(UnusableInputError, match=r"within the study|empty name"):
            result.save(place)
    assert sorted(root.rglob("*")) == before


def test_a_fraction_of_a_voxel_is_not_probed(saved):
    with pytest.raises(UnusableInputError, match="as a voxel"):
        saved[0].probe((1.7, 2, 3))


def test_a_probe_without_three_indices_is_not_refused_as_a_prompt(saved):
    with pytest.raises(UnusableInputError, match=r"\(1, 2\), a tuple as a voxel") as refusal:
        saved[0].probe((1, 2))
    assert "prompt" not in str(refusal.value)


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


def test_without_pandas_a_data_frame_names_the_extra(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    evaluation = Evaluation((), summarise(()), ())
    for one in (saved[0], evaluation):
        with pytest.raises(MissingPluginError, match=r"lesionlens\[cohort\]"):
            one.to_dataframe()


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


def test_a_candidate_is_drawn_while_its_result_is_held(saved):
    _, folder = saved
    result = Result.open(folder)
    shown = result.candidates[1]
    assert shown._repr_html_().count("data:image/png") == 1
    assert f"{shown.id}. {shown.location.text}" in shown._repr_html_()
    del result
    assert "data:image/png" not in shown._repr_html_()
    assert "<table>" in shown._repr_html_()


def test_a_candidate_is_drawn_by_its_own_result(saved):
    """Of two compared examinations, the same lesion was shown as at the one asked last."""
    result, _ = saved
    first, second = result.candidates
    others = (
        replace(first, tracking_uid=second.tracking_uid),
        replace(second, tracking_uid=first.tracking_uid),
    )
    findings = replace(result.analysis.findings, candidates=others)
    other = Result(replace(result.analysis, findings=findings))
    assert len(other.candidates) == 2
    assert f"{first.id}. {first.location.text}" in first._repr_html_()


def test_records_are_short_in_a_console(saved):
    result, _ = saved
    assert repr(result).startswith("<Result: 2 candidate regions (")
    assert "T1c, FLAIR" in repr(result.analysis.study)
    assert repr(result.candidates[0]).startswith("<Candidate 1: ")
    assert repr(result.labels) == f"<Volume {result.labels.data.shape} uint8>"
    assert repr(result.probability).startswith("ByRegion({'wt': <Volume (")


def test_keys_may_be_strings(saved):
    result, _ = saved
    assert result.probability["wt"] is result.probability[Region.WT]
    assert result.analysis.study["t1c"] is result.analysis.study[MrSequence.T1C]
    with pytest.raises(KeyError, match="whole"):
        result.probability["whole"]  # type: ignore[index]


def test_a_window_without_napari_names_the_extra(saved, monkeypatch):
    """It was called a defect: no module named napari."""
    result, _ = saved
    monkeypatch.setattr(plugins.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPluginError, match="gui"):
        result.show()


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
