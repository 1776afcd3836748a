"""findings.json and .csv: the contract's fields, one schema, safe in a spreadsheet."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lesionlens.base.labels import LesionClass, MrSequence, Region, ReviewState
from lesionlens.base.records.files import FindingsFile
from lesionlens.base.records.findings import conclusion_of
from lesionlens.base.records.review import Review, ReviewEvent
from lesionlens.results.export.exporter import save
from lesionlens.results.export.tables import (
    TablesExporter,
    column_types,
    findings_csv,
    findings_file,
    findings_json,
    schema_text,
)

REPOSITORY = Path(__file__).parents[4]
CANDIDATE_KEYS = [
    *("id", "tracking_uid", "score", "centroid_mm", "bounding_box_mm", "peak_mm", "volume_ml"),
    *("longest_axial_diameter_mm", "perpendicular_diameter_mm", "rano_measurable", "location"),
    *("uncertainty", "attention", "class_probabilities", "dice_without", "sequence_relevance"),
    *("source", "drawn", "diameters_by"),
    "review",
]


def test_the_json_holds_the_contracts_fields(make):
    content = findings_json(make())
    assert content["schema"] == "lesionlens/findings/1"
    assert content["reference"] == "t1c"
    assert content["conclusion"] == "2 candidate regions"
    assert list(content["sequences"]) == ["t1c", "flair"]
    assert content["sequences"]["t1c"] == {"file": "t1c.nii.gz", "detected_by": "file name"}
    first = content["candidates"][0]
    assert list(first) == CANDIDATE_KEYS
    assert list(first["volume_ml"]) == ["wt", "tc", "et"]
    assert list(first["sequence_relevance"]) == ["t1c", "flair", "t2", "t1", "none"]
    assert first["review"] == {"state": "unreviewed", "reader": None, "time": None, "reason": None}
    low, high = first["bounding_box_mm"]
    assert all(a < m < b for a, m, b in zip(low, first["centroid_mm"], high, strict=True))


def test_relevance_still_sums_to_what_all_sequences_show(make):
    rows = findings_json(make())["candidates"]
    assert len(rows) == 2
    for row in rows:
        reported = [v for v in row["sequence_relevance"].values() if v is not None]
        assert sum(reported) == pytest.approx(row["score"], abs=1e-5)


def test_the_overlap_without_each_sequence_is_there_and_absent_ones_are_null(make):
    rows = findings_json(make())["candidates"]
    assert len(rows) == 2
    for row in rows:
        assert list(row["dice_without"]) == ["t1c", "flair", "t2", "t1"]
        assert row["dice_without"]["t1"] is None
        left = row["score"] - row["sequence_relevance"]["flair"]
        assert row["dice_without"]["flair"] == pytest.approx(left, abs=1e-5)


def test_without_t1c_the_enhancing_volume_is_null_and_reported(make):
    content = findings_json(make(sequences=(MrSequence.FLAIR,)))
    assert content["candidates"][0]["volume_ml"]["et"] is None
    assert content["candidates"][0]["rano_measurable"] is None
    assert any("T1c" in text for text in content["warnings"])


def test_no_candidate_is_reported_and_nothing_more(make, tmp_path):
    analysis = make(lesions=())
    TablesExporter().write(analysis, tmp_path)
    text = (tmp_path / "findings.json").read_text()
    assert json.loads(text)["conclusion"] == "no candidate region"
    rows = (tmp_path / "findings.csv").read_text().splitlines()
    assert rows == [",".join(column_types())]


def test_a_file_read_back_is_the_same_record(make, tmp_path):
    analysis = make()
    TablesExporter().write(analysis, tmp_path)
    read = FindingsFile.model_validate_json((tmp_path / "findings.json").read_text())
    assert read == findings_file(analysis)
    assert read.model_dump(mode="json", by_alias=True) == findings_json(analysis)


def test_the_csv_says_what_the_json_says(make):
    analysis = make()
    content = findings_file(analysis)
    rows = list(csv.DictReader(io.StringIO(findings_csv(content))))
    assert len(rows) == 2
    for row, candidate in zip(rows, content.candidates, strict=True):
        assert float(row["volume_ml_et"]) == candidate.volume_ml[Region.ET]
        assert float(row["centroid_mm_x"]) == candidate.centroid_mm[0]
        assert float(row["bounding_box_mm_high_z"]) == candidate.bounding_box_mm[1][2]
        assert row["location_side"] == candidate.location.side
        assert row["attention_peak_inside"] == "true"
        assert row["review_state"] == "unreviewed"
        assert row["sequence_relevance_t2"] == ""


@pytest.mark.parametrize("reason", ["=cmd|' /C calc'!A0", "+1", "-2", "@sum(a1)", "\t=1", " =1"])
def test_a_formula_in_a_reason_is_defused(make, reason):
    analysis = make()
    uid = analysis.findings.candidates[0].tracking_uid
    event = ReviewEvent(uid, ReviewState.REJECTED, "=reader", "2026-01-05T10:00:00Z", reason)
    text = findings_csv(findings_file(replace(analysis, review=Review((event,)))))
    row = next(csv.DictReader(io.StringIO(text)))
    assert row["review_reason"] == f"'{reason}"
    assert row["review_reader"] == "'=reader"
    assert not row["centroid_mm_x"].startswith("'")


def test_the_last_word_of_a_reader_is_in_both(make):
    analysis = make()
    uid = analysis.findings.candidates[1].tracking_uid
    reported = tuple(
        ReviewEvent(uid, state, "A. Reader", f"2026-01-05T10:0{n}:00Z", "vessel")
        for n, state in enumerate((ReviewState.ACCEPTED, ReviewState.REJECTED))
    )
    rows = findings_json(replace(analysis, review=Review(reported)))["candidates"]
    assert rows[1]["review"] == {
        "state": "rejected",
        "reader": "A. Reader",
        "time": "2026-01-05T10:01:00Z",
        "reason": "vessel",
    }
    assert rows[0]["review"]["state"] == "unreviewed"
    assert len(rows) == 2


def test_the_published_schema_is_current():
    """Rebuild with `python -c` as docs/how-to/export.md says."""
    assert (REPOSITORY / "docs" / "reference" / "findings.schema.json").read_text() == schema_text()


@pytest.mark.parametrize("flagged", [True, False])
def test_no_text_file_says_normal_or_no_tumour(make, tmp_path, flagged):
    analysis = make(dicom=True)
    shares = dict(zip(LesionClass, (0.8, 0.1, 0.1), strict=True))
    candidates = tuple(replace(c, class_probabilities=shares) for c in analysis.findings.candidates)
    kept = candidates if flagged else ()
    findings = replace(analysis.findings, candidates=kept, conclusion=conclusion_of(kept))
    save(replace(analysis, findings=findings), tmp_path / "out")
    texts = [p for p in (tmp_path / "out").iterdir() if p.suffix in {".json", ".csv", ".html"}]
    assert {"findings.json", "findings.csv", "report.html", "run.json"} <= {p.name for p in texts}
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<!ab)normal(?!i[sz])|no tumou?r", text, re.IGNORECASE), path.name


def test_a_volume_that_is_not_known_is_null_not_zero(make):
    analysis = make()
    volumes = {Region.WT: 1.0, Region.TC: None, Region.ET: None}
    first = replace(analysis.findings.candidates[0], volume_ml=volumes)
    findings = replace(analysis.findings, candidates=(first,))
    (row,) = findings_json(replace(analysis, findings=findings))["candidates"]
    assert row["volume_ml"] == {"wt": 1.0, "tc": None, "et": None}
