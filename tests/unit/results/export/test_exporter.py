"""A result appears together or not at all, and no reader's work is lost."""

import json
import os
from dataclasses import replace

import pytest

from lesionlens.base.errors import CancelledError, ExportError, ResourceError, UnusableInputError
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.base.run_context import CancelWhen, RunContext
from lesionlens.results.export import exporter
from lesionlens.results.export.exporter import save
from lesionlens.results.export.result_files import KEPT

CONTRACT = {
    "segmentation.nii.gz",
    *(f"{k}_{r}.nii.gz" for k in ("probability", "attention") for r in ("wt", "tc", "et")),
    *("findings.json", "findings.csv", "report.html", "run.json"),
}


class _Breaks:
    __module__ = (
        "lesionlens.results.export"  # one of ours; see test_plugged_in.py for those of others
    )
    name = "breaks"

    def missing(self, analysis):
        return None

    def write(self, analysis, staged):
        (staged / "half.txt").write_text("half")
        raise ExportError(found="a defect", expected="none", next_step="Report it")


def _reviewed(analysis, *states):
    uid = analysis.findings.candidates[0].tracking_uid
    events = tuple(
        ReviewEvent(uid, state, "A. Reader", f"2026-01-05T10:0{n}:00Z")
        for n, state in enumerate(states)
    )
    return replace(analysis, review=Review(events))


def _snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_file_of_the_contract_is_there(make, tmp_path):
    save(make(), tmp_path / "out")
    found = {p.name for p in (tmp_path / "out").iterdir()}
    assert found >= CONTRACT
    assert "dicom" not in found
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {"export: nifti", "export: report"} <= {s["name"] for s in run["stages"]}
    assert run["weights_sha256"] is None
    assert {row["file"] for row in run["inputs"]} == {"t1c.nii.gz", "flair.nii.gz"}


class _BreaksAtOnce(_Breaks):
    __module__ = _Breaks.__module__
    name = "nifti"


def _with(monkeypatch, *more):
    every, failed = exporter.exporters()
    added = {f"{one.name}-too": one for one in more}
    monkeypatch.setattr(exporter, "exporters", lambda: ({**every, **added}, failed))


def test_nothing_appears_when_an_essential_exporter_fails(make, tmp_path, monkeypatch):
    _with(monkeypatch, _BreaksAtOnce())
    with pytest.raises(ExportError):
        save(make(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"study"}


def test_an_earlier_result_stays_whole_when_an_essential_exporter_fails(
    make, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    save(make(), out)
    before = _snapshot(out)
    _with(monkeypatch, _BreaksAtOnce())
    with pytest.raises(ExportError):
        save(make(lesions=(), name="other"), out)
    assert _snapshot(out) == before


@pytest.mark.parametrize("reached", [0.0, 0.5])
def test_an_earlier_result_stays_whole_when_saving_is_cancelled(make, tmp_path, reached):
    """The window ignored *Cancel*, and reported that it had saved."""
    out, done = tmp_path / "out", []
    save(make(), out)
    before = _snapshot(out)
    context = RunContext(
        progress=lambda _, fraction: done.append(fraction),
        cancel=CancelWhen(lambda: bool(done) and done[-1] >= reached),
    )
    with pytest.raises(CancelledError):
        save(make(lesions=(), name="other"), out, context=context)
    assert _snapshot(out) == before
    assert done[-1] < 1.0


def test_another_exporters_failure_costs_no_other_file(make, tmp_path, monkeypatch):
    _with(monkeypatch, _Breaks())
    out = tmp_path / "out"
    _, warnings = save(make(), out)
    assert {p.name for p in out.iterdir()} >= CONTRACT
    assert not (out / "half.txt").exists()
    run = json.loads((out / "run.json").read_text())
    assert run["left_out"]["breaks"] == "a defect"
    assert "breaks was left out: a defect" in run["warnings"]
    assert set(warnings) == set(run["warnings"])


def test_a_defect_in_one_dicom_object_costs_no_other(make, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("lesionlens.results.export.dicom.seg.build_seg", broken)
    out = tmp_path / "out"
    save(make(dicom=True), out)
    left_out = json.loads((out / "run.json").read_text())["left_out"]
    assert "ZeroDivisionError" in left_out["dicom/seg.dcm"]
    assert "seg.dcm" in left_out["dicom/sr.dcm"]  # it would point at what is not there
    written = {p.name for p in (out / "dicom").iterdir()}
    assert {"attention.dcm", "key_objects.dcm"} <= written
    assert not {"seg.dcm", "sr.dcm"} & written


@pytest.mark.parametrize("error", [OSError(28, "No space left"), MemoryError()])
def test_a_full_disk_or_memory_ends_everything(make, tmp_path, monkeypatch, error):
    class Full(_Breaks):
        __module__ = _Breaks.__module__

        def write(self, analysis, staged):
            raise error

    _with(monkeypatch, Full())
    with pytest.raises((ResourceError, MemoryError)):
        save(make(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_results_never_mix_and_files_of_others_stay(make, tmp_path):
    out = tmp_path / "out"
    save(make(dicom=True), out)
    (out / "notes.txt").write_text("mine")
    (out / "dicom" / "other.dcm").write_text("mine too")
    save(make(name="nifti"), out)
    assert (out / "notes.txt").read_text() == "mine"
    assert [p.name for p in (out / "dicom").iterdir()] == ["other.dcm"]


def test_a_review_that_goes_on_is_kept_in_place(make, tmp_path):
    out = tmp_path / "out"
    analysis = make()
    save(_reviewed(analysis, ReviewState.ACCEPTED), out)
    save(_reviewed(analysis, ReviewState.ACCEPTED, ReviewState.REJECTED), out)
    assert not (out / KEPT).exists()
    stored = json.loads((out / "review.json").read_text())
    assert [e["state"] for e in stored["events"]] == ["accepted", "rejected"]


def test_an_earlier_review_is_kept_beside_a_new_result(make, tmp_path):
    out = tmp_path / "out"
    analysis = make()
    save(_reviewed(analysis, ReviewState.ACCEPTED), out)
    first = (out / "review.json").read_bytes()
    labels = (out / "segmentation.nii.gz").read_bytes()
    os.utime(out / "review.json", (0, 0))
    save(_reviewed(analysis, ReviewState.REJECTED), out)
    (kept,) = (out / KEPT).iterdir()
    assert kept.name == "1970-01-01T00-00-00Z"
    assert (kept / "review.json").read_bytes() == first
    assert (kept / "segmentation.nii.gz").read_bytes() == labels
    assert json.loads((kept / "findings.json").read_text())["candidates"]
    os.utime(out / "review.json", (0, 0))
    save(_reviewed(analysis, ReviewState.ACCEPTED), out)
    names = sorted(p.name for p in (out / KEPT).iterdir())
    assert names == ["1970-01-01T00-00-00Z", "1970-01-01T00-00-00Z-2"]


def test_a_file_in_the_way_is_refused(make, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UnusableInputError, match="file"):
        save(make(), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


def test_progress_ends_at_one(make, tmp_path):
    reported = []
    save(
        make(),
        tmp_path / "out",
        context=RunContext(progress=lambda stage, fraction: reported.append((stage, fraction))),
    )
    fractions = [f for _, f in reported]
    assert fractions == sorted(fractions)
    assert reported[-1] == ("saving", 1.0)
