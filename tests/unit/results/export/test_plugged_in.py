"""Exporters of other packages: what they write is added, what they break costs no file of ours."""

from __future__ import annotations

import json

import pytest
from tests.helpers.third_party_package import install_package

from lesionlens.results.export.exporter import save
from lesionlens.results.review.reopen import read_result

EXPORTER = """
import os
from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.results.export.written import Written

class Writer:
    name = "mine"
{more}
    def missing(self, analysis):
        return {missing}

    def write(self, analysis, staged):
        path = staged / {name!r}
        path.parent.mkdir(exist_ok=True)
        path.write_text("theirs")
        return {done}
"""


REFUSES = "raise ReadError(found='that Doe^Jane is dead', expected='life', next_step='Mourn')"


def saved(monkeypatch, tmp_path, analysis, **how):
    how = {"name": "mine/sum.txt", "missing": "None", "done": "(path,)", "more": "", **how}
    install_package(monkeypatch, tmp_path, EXPORTER.format(**how), exporters="mine = Writer")
    _, warnings = save(analysis, tmp_path / "out")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    return tmp_path / "out", run["left_out"].get("mine"), warnings


def test_what_it_writes_is_part_of_the_result(make, monkeypatch, tmp_path):
    out, reason, _ = saved(monkeypatch, tmp_path, make())
    assert (out / "mine" / "sum.txt").read_text() == "theirs"
    assert reason is None
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_what_an_uninstalled_exporter_wrote_of_an_earlier_result_is_removed(
    make, monkeypatch, tmp_path
):
    """Its figures are of that result: they would stand beside other candidates."""
    with monkeypatch.context() as installed:
        out, *_ = saved(installed, tmp_path, make())
        assert (out / "mine" / "sum.txt").is_file()
    save(make(), out)
    assert not (out / "mine").exists()


def test_its_own_reason_is_told(make, monkeypatch, tmp_path):
    assert saved(monkeypatch, tmp_path, make(), missing="'no licence'")[1] == "no licence"


@pytest.mark.parametrize(
    "how",
    [
        {"done": "1 / 0"},
        {"done": "open('/not/there')"},
        {"missing": "1 / 0"},
        {"more": f"    def __init__(self):\n        {REFUSES}\n"},
        {"more": f"    def write(self, *_):\n        {REFUSES}\n\n    def other(self, path):"},
        {"more": f"    def __init__(self):\n        {REFUSES.replace('Read', 'Resource')}\n"},
        {"more": "    def __init__(self):\n        raise OSError('no licence')\n"},
        {"name": "findings.json"},
        {"name": "Findings.JSON"},
        {"name": "run.json"},
        {"name": "review_edits/x.nii.gz"},
        {"name": "sent.json"},
        {"done": "(path.with_suffix('.x').symlink_to('/etc/hostname'), path.unlink())[:0]"},
        {"done": "(path.unlink(), os.mkfifo(path))[:0]"},
        {"done": "(path.rename(path.with_name('12:00.x')),)"},
        {"done": "(path.rename(path.with_name('a\\\\b.x')),)"},
        {"done": "(path.rename(path.with_name('\\udcff.x')),)"},
        {"done": "Written((path,), notices=(5,))"},
        {"done": "Written((path,), notices='a note')"},
        {"done": "Written((path,), left_out=['x'])"},
        {"done": "Written((path,), left_out={'x': 5})"},
    ],
)
def test_one_that_fails_or_takes_a_name_of_ours_is_left_out_alone(how, make, monkeypatch, tmp_path):
    out, reason, warnings = saved(monkeypatch, tmp_path, make(), **how)
    assert "'mine' of crooked 0.7" in reason
    assert f"mine was left out: {reason}" in warnings
    assert "Jane" not in (out / "run.json").read_text()
    assert json.loads((out / "findings.json").read_text())["schema"]
    assert read_result(out)  # a name that run.json cannot hold made all of it unreadable
    assert (out / "segmentation.nii.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert not [path for path in out.rglob("*") if path.suffix == ".txt" and "mine" in str(path)]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_it_runs_after_ours_so_that_no_name_of_theirs_is_in_the_way(make, monkeypatch, tmp_path):
    code = EXPORTER.format(name="dicom", missing="None", done="(path,)", more="")
    install_package(monkeypatch, tmp_path, code, exporters="aaa = Writer")
    save(make(dicom=True), tmp_path / "out")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (tmp_path / "out" / "dicom" / "seg.dcm").is_file()
    assert "a name that is taken" in run["left_out"]["aaa"]
