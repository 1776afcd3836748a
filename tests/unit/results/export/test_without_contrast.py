"""Without T1c nothing is enhancing tumour, in no file that any export writes.

Every file is walked; a kind of file that has no rule here fails, so that a new one gets its rule.
"""

import csv
import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest
from tests.helpers.file_search import files_below

from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import Label, MapExtent, MrSequence, Region, ReviewState
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.review import Outline, Review, ReviewEvent
from lesionlens.results.export.bids import save_bids
from lesionlens.results.export.exporter import save
from lesionlens.results.review.reopen import read_result, reopen

NATIVE = (MrSequence.FLAIR, MrSequence.T2)
EVERYTHING = ExportOptions(
    maps=MapExtent.FULL,
    include_unaccepted=True,
    evidence=True,
)
SPOKEN = re.compile(r"(?<!non-)(?<!normal_)enhanc", re.IGNORECASE)
"""A part that is called enhancing; not the core that is not, nor vessels that do so normally."""
STRUCTURED = {
    "SegmentLabel",
    "CodeMeaning",
    "ROIName",
    "LUTLabel",
    "TrackingID",
    "SeriesDescription",
}


def _volume(path):
    if "_et" in path.name or "label-ET" in path.name:
        return "a map of enhancing tumour"
    values = np.asanyarray(nib.load(path).dataobj)
    counted = values.dtype == np.uint8 or "dseg" in path.name
    named = "candidates" not in path.name
    return "label 3" if counted and named and (values == Label.ENHANCING).any() else None


def _dicom(path):
    for element in pydicom.dcmread(path).iterall():
        if element.keyword in STRUCTURED and SPOKEN.search(str(element.value)):
            return f"{element.keyword} {element.value}"
    return "a map of enhancing tumour" if "_et" in path.name else None


def _json(path):
    def walk(node, inside=""):
        if isinstance(node, dict):
            for name, child in node.items():
                yield from walk(child, f"{inside}/{name}")
        elif isinstance(node, list):
            for child in node:
                yield from walk(child, inside)
        elif node is not None and re.search(r"(volume_ml|by_region)/et$|/has_enhancing", inside):
            yield f"{inside} {node}"

    return next(walk(json.loads(path.read_text(encoding="utf-8"))), None)


def _csv(path):
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return next((str(row) for row in rows if row.get("volume_ml_et")), None)


def _table(path):
    return "a label called enhancing" if SPOKEN.search(path.read_text(encoding="utf-8")) else None


def _page(path):
    drawn = f'(stroke="|stroke:|border-color:){Region.ET.colour}'
    found = re.search(drawn, path.read_text(encoding="utf-8"), re.IGNORECASE)
    return None if found is None else "the colour of enhancing tumour"


def _bytes(path):
    head = path.read_bytes()
    found = re.search(rb"(?<!non-)enhanc|_et\b", head, re.IGNORECASE)
    return None if found is None else f"{found[0]!r}"


RULES = {
    ".gz": _volume, ".dcm": _dicom, ".json": _json, ".csv": _csv, ".tsv": _table,
    ".html": _page, ".nrrd": _bytes,
}  # fmt: skip
DATASET = {".bidsignore", "README", "descriptions.tsv", "dataset_description.json"}
"""Of a BIDS dataset as a whole, whatever its studies have."""


def enhancing_in(folder):
    """Return every file that has enhancing tumour, and how."""
    found = {}
    files = files_below(folder)
    assert files
    for path in files:
        if (path.parent == folder and path.name in DATASET) or path.suffix == ".txt":
            continue  # .txt is of the exporter that the corpus installs
        fault = RULES[path.suffix](path)
        if fault:
            found[path.relative_to(folder).as_posix()] = fault
    return found


@pytest.fixture
def native(make):
    """A study of FLAIR and T2 whose engine, or whoever drew, has enhancing tumour."""

    def made(sequences=NATIVE):
        found = make(dicom=True, sequences=sequences)
        return replace(found, options=EVERYTHING)

    return made


def painted(analysis):
    """Return it with a candidate that a reader painted as enhancing."""
    first = analysis.findings.candidates[0]
    inside = analysis.findings.components == first.id
    labels = np.where(inside, np.uint8(Label.ENHANCING), np.uint8(0))
    outline = Outline(first.tracking_uid, (0, 0, 0), labels)
    event = ReviewEvent(
        first.tracking_uid, ReviewState.EDITED, "A. Reader", "2026-01-05T10:20:00Z",
        outline=outline.sha256,
    )  # fmt: skip
    return applied(replace(analysis, review=Review((event,), {outline.sha256: outline})))


def test_a_full_export_has_none_without_t1c_and_with_t1c_in_every_kind_of_file(native, tmp_path):
    """With T1c each kind of file that may show it does."""
    found = {}
    for has_t1c, sequences in ((False, NATIVE), (True, (*NATIVE, MrSequence.T1C))):
        out = tmp_path / str(has_t1c)
        save(native(sequences), out)
        found[has_t1c] = {"".join(name.rpartition(".")[1:]) for name in enhancing_in(out)}
        page = (out / "report.html").read_text("utf-8")
        assert ("(uncertain without T1c)" in page) is not has_t1c
    assert found == {False: set(), True: set(RULES) - {".tsv"}}


def test_a_reader_who_paints_it_paints_core(native, tmp_path):
    analysis = painted(native())
    out = tmp_path / "out"
    save(analysis, out)
    assert enhancing_in(out) == {}
    again = reopen(read_result(out), analysis.study, analysis.prepared)
    number = analysis.findings.candidates[0].id
    drawn = again.volumes.labels.data[again.findings.components == number]
    assert set(np.unique(drawn)) == {Label.CORE}
    assert again.review.of(analysis.findings.candidates[0].tracking_uid).outline is not None


def test_a_bids_dataset_has_none(native, tmp_path):
    save_bids(painted(native()), tmp_path / "derivatives")
    assert enhancing_in(tmp_path / "derivatives") == {}
