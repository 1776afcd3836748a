"""Every installed exporter, and one of others, writes what it says, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from tests.command import digests
from tests.corpus import COARSE, copy_of, decide, rule_engine

from lesionlens import Lens, open_study
from lesionlens.plugin import Analysis, Written

EXPORTERS = sorted(point.name for point in entry_points(group="lesionlens.exporters"))
STUDIES = ("nifti two", "nifti no t1c", "nifti healthy", "dicom two")


@pytest.fixture(scope="module", params=STUDIES)
def analysis(request, corpus) -> Analysis:
    return Lens(engine=rule_engine())(open_study(corpus.study(request.param)), COARSE).analysis


@pytest.mark.parametrize("name", [*EXPORTERS, "counting"])
def test_it_writes_what_it_says_or_says_why_not(name, analysis, tmp_path, third_party_distribution):
    study = analysis.study.root
    before = digests(study)
    (point,) = entry_points(group="lesionlens.exporters", name=name)
    exporter = point.load()()
    reason = exporter.missing(analysis)
    if reason is not None:
        assert reason.strip()
        return
    written = exporter.write(analysis, tmp_path)
    files = written.files if isinstance(written, Written) else written
    assert digests(study) == before
    assert files
    assert set(files) == {path for path in tmp_path.rglob("*") if path.is_file()}
    for path in files:
        content = path.read_bytes()
        assert content, path
        assert str(study).encode() not in content, f"a folder of this machine in {path.name}"


def test_one_that_fails_costs_no_other_file(corpus, tmp_path, third_party, monkeypatch):
    import by_rule

    def fail(self, analysis, staged):
        (staged / "half.txt").write_text("half")
        raise ValueError

    monkeypatch.setattr(by_rule.Counting, "write", fail)
    result = Lens(engine=by_rule.ByRule())(open_study(corpus.study("nifti two")), COARSE)
    out: Path = result.save(tmp_path / "out")
    assert not list(out.rglob("half.txt"))
    assert (out / "report.html").is_file()
    assert "counting" in (out / "run.json").read_text("utf-8")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_objects_of_a_review_that_rejected_one_candidate_are_valid(corpus, tmp_path):
    folder = copy_of(corpus.result("dicom two"), tmp_path / "result")
    decide(folder, corpus.study("dicom two"), "accepted", "rejected")
    for path in (folder / "dicom" / name for name in ("seg.dcm", "sr.dcm", "attention.dcm")):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if line.startswith("Error") and "Laterality" not in line]
        assert errors == [], path.name
