"""Containers of reports and selections hold separate items, so that readers label each."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from lesionlens.base.labels import ReviewState
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.results.export.dicom.ko import rejection_of


def _containers(node):
    if node.get("ValueType") == "CONTAINER":
        yield node
    for item in node.get("ContentSequence", ()):
        yield from _containers(item)


def _continuity(document):
    return {str(one.ContinuityOfContent) for one in _containers(document)}


def _reviewed(analysis):
    events = tuple(
        ReviewEvent(c.tracking_uid, ReviewState.ACCEPTED, "A", "2026-01-05T10:00:00Z", "seen")
        for c in analysis.findings.candidates
    )
    return replace(analysis, review=Review(events))


@pytest.mark.parametrize("lesions", [None, ()], ids=["two candidates", "no candidate"])
def test_every_container_of_a_report_is_separate(make, read_objects, lesions):
    report = read_objects(_reviewed(make(dicom=True, lesions=lesions)))["sr"]
    assert len([*_containers(report)]) == (2 if lesions == () else 9)
    assert _continuity(report) == {"SEPARATE"}


def test_selections_and_rejection_notes_are_separate_as_their_template_demands(make, read_objects):
    written = read_objects(make(dicom=True))
    assert _continuity(written["key_objects"]) == {"SEPARATE"}
    assert _continuity(rejection_of([*written.values()])) == {"SEPARATE"}


@pytest.mark.skipif(shutil.which("dsr2html") is None, reason="dsr2html is not installed (dcmtk)")
def test_dcmtk_names_each_measure_of_a_report(make, read_objects, tmp_path):
    read_objects(make(dicom=True))
    page = subprocess.run(
        ["dsr2html", tmp_path / "dicom" / "sr.dcm"], capture_output=True, check=True, timeout=60
    ).stdout
    for name in (b"Volume", b"Long axis", b"Short axis", b"Finding Site"):
        assert name in page
