"""Bounds on the figures of an evaluation, and groups of cases."""

from __future__ import annotations

import json

import pytest

from lesionlens.analysis.evaluation.bounds import (
    ALL,
    Bounds,
    all_met,
    group_cases,
    judge,
    read_bounds,
)
from lesionlens.analysis.evaluation.evaluation import evaluate
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.errors import ConfigError
from lesionlens.cli.evaluate import evaluate as command

from . import evaluation


def scores(values):
    return [CaseScore(f"c{n}", False, None, {"wt": v}) for n, v in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "bound", "how", "verdict"),
    [
        ([0.8] * 10, 0.8, {}, "met"),  # sums to 7.999999999999999
        ([0.8 - 1e-6] * 10, 0.8, {}, "not met"),
        ([0.6, 0.9, 0.9, 0.9, 0.9], 0.8, {}, "met"),
        ([0.6, 0.9, 0.9, 0.9, 0.9], 0.8, {"use_confidence_bound": True}, "not met"),
        ([0.9, 0.9], 0.1, {}, "too few cases"),
        ([0.9], 0.1, {"min_cases": 1}, "met"),
        ([0.9], 0.1, {"min_cases": 1, "use_confidence_bound": True}, "too few cases"),
    ],
)
def test_a_bound_is_judged_by_the_mean_or_by_its_interval(values, bound, how, verdict):
    bounds = Bounds(**({"min_cases": 3, "overall": {"dice_wt": bound}} | how))
    (result,) = judge(scores(values), {}, bounds)
    assert (result.group, result.cases, result.verdict) == (ALL, len(values), verdict)
    assert all_met([result]) is (verdict == "met")


def test_one_failure_is_judged_in_the_smallest_group():
    bounds = Bounds(groups={"failures": 0.0})
    groups = {"one": [CaseScore("x", False, failed=True)], "two": [CaseScore("y", False)]}
    verdicts = {result.group: result.verdict for result in judge([], groups, bounds)}
    assert verdicts == {"one": "not met", "two": "too few cases"}


@pytest.mark.parametrize(
    "text",
    ["[overall]\ndice = 0.8\n", "[overall]\ndice_wt = 80\n", "[groups]\nhd95_wt_mm = -1\n",
     "min_cases = 'ten'\n", "surely = true\n", "[overall\n", None],
)  # fmt: skip
def test_bounds_that_cannot_be_used_are_refused(tmp_path, text):
    file = tmp_path / "bounds.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=r"bounds\.toml"):
        read_bounds(file)
    file.write_text("min_cases = 4\n[overall]\ndice_wt = 1\n")
    assert read_bounds(file) == Bounds(min_cases=4, overall={"dice_wt": 1.0})


@pytest.mark.parametrize(
    ("place", "name", "text"),
    [
        ("truth", "cases.csv", "case,Scanner\nc0,one\nc1,\n"),
        ("truth", "patients.tsv", "case\tpatient\tscanner\nc0\tP\tone\n"),
        ("results", "cohort.csv", "study,id,scanner\nc0,1,one\nc0,2,one\nother,1,two\n"),
    ],
)
def test_cases_are_grouped_by_a_column_of_a_table(tmp_path, place, name, text):
    folders = {"truth": tmp_path / "truth", "results": tmp_path / "results"}
    for folder in folders.values():
        folder.mkdir()
    (folders[place] / name).write_text(text)
    members = scores([0.9, 0.8])
    found = group_cases(members, "Scanner", folders["truth"], folders["results"])
    assert found == {"not known": members[1:], "one": members[:1]}
    with pytest.raises(ConfigError, match="'field'"):
        group_cases(members, "field", folders["truth"], folders["results"])


@pytest.mark.parametrize("rows", ["c0,one\nc0,two\n", "c0,one\nC1,two\n"])
def test_a_table_with_two_values_or_a_misspelt_case_is_refused(tmp_path, rows):
    (tmp_path / "cases.csv").write_text(f"case,scanner\n{rows}")
    with pytest.raises(ConfigError):
        group_cases(scores([0.9, 0.8]), "scanner", tmp_path, tmp_path)


def test_verdicts_are_in_the_json_and_the_command_succeeds(tmp_path):
    results, cases = evaluation.write_cohort(tmp_path)
    (cases / "cases.csv").write_text("case,scanner\na,one\nb,two\nc,two\nd,two\n")
    bounds, file = tmp_path / "bounds.toml", tmp_path / "scores.json"
    bounds.write_text("min_cases = 1\n[overall]\nfailures = 1\n[groups]\ndice_wt = 0.9\n")
    output = command(results, cases, bounds=bounds, group_by="scanner", json=file)
    assert "Bounds NOT MET" in output.output
    content = json.loads(file.read_text())
    verdicts = {(one["group"], one["metric"]): one["verdict"] for one in content["bounds"]}
    assert verdicts == {
        (ALL, "failures"): "met", ("one", "dice_wt"): "met", ("two", "dice_wt"): "not met",
    }  # fmt: skip
    assert content["bounds_met"] is False
    assert content["groups"]["one"]["means"]["wt"] == 1
    plain = evaluate(results, cases)
    assert (plain.bounds_met, plain.to_json()["groups"]) == (None, {})
