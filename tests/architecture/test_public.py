"""What the project shows in public says what the package is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from tests.helpers.file_search import files_below

REPOSITORY = Path(__file__).resolve().parents[2]
GITHUB = REPOSITORY / ".github"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]


def load(path: Path):
    return yaml.safe_load(path.read_text("utf-8"))


def test_the_citation_names_the_version_and_licence():
    citation = load(REPOSITORY / "CITATION.cff")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_every_python_that_is_promised_is_tested_on_three_systems():
    matrix = load(GITHUB / "workflows" / "test.yml")["jobs"]["tests"]["strategy"]["matrix"]
    promised = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if " :: 3." in c}
    assert promised
    assert promised <= set(matrix["python"])
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}


@pytest.mark.parametrize("path", files_below(GITHUB / "workflows", "*.yml"), ids=lambda p: p.name)
def test_a_workflow_has_a_clock_and_no_right_that_it_does_not_name(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "runs-on" in job, name
        assert all("uses" in step or "run" in step for step in job["steps"]), name


@pytest.mark.parametrize(
    "path", files_below(GITHUB / "ISSUE_TEMPLATE", "[!c]*.yml"), ids=lambda p: p.name
)
def test_an_issue_form_has_what_a_form_needs(path):
    form = load(path)
    assert {"name", "description", "body"} <= set(form)
    for field in form["body"]:
        assert field["type"] == "markdown" or field["attributes"]["label"]
