"""findings.json and findings.csv from one schema; docs/findings.schema.json is its public form."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel

from lesionlens.base.labels import Region, ReviewState
from lesionlens.export.run import warnings_of
from lesionlens.records.analysis import Analysis
from lesionlens.records.files import (
    AttentionRow,
    CandidateRow,
    FindingsFile,
    LocationRow,
    PointMm,
    QualityRow,
    RelevanceRow,
    ResemblanceRow,
    ReviewRow,
    SequenceRow,
    SequenceScoresRow,
    VolumeMl,
)
from lesionlens.records.findings import SEQUENCE_KEYS, Candidate
from lesionlens.records.review import Review
from lesionlens.records.study import Series


def findings_file(analysis: Analysis) -> FindingsFile:
    """Build findings.json's content, with what readers said up to now."""
    findings = analysis.findings
    series = analysis.study.series
    return FindingsFile(
        candidates=tuple(candidate_row(c, analysis.review) for c in findings.candidates),
        quality=tuple(
            QualityRow(check=q.check, passed=q.passed, message=q.message) for q in findings.quality
        ),
        reference=analysis.prepared.reference,
        sequences={
            key: SequenceRow(file=file_of(series[key]), detected_by=series[key].detected_by)
            for key in SEQUENCE_KEYS
            if key in series
        },
        conclusion=findings.conclusion,
        warnings=warnings_of(analysis),
    )


def findings_json(analysis: Analysis) -> dict[str, Any]:
    """Return findings.json as plain Python data."""
    content: dict[str, Any] = findings_file(analysis).model_dump(mode="json", by_alias=True)
    return content


def file_of(series: Series) -> str:
    """Name a series for display: its one file, or the folder its files share and their number."""
    if len(series.files) == 1:
        return series.files[0].name
    folders = {str(PurePosixPath(f.name).parent) for f in series.files}
    shared = folders.pop() if len(folders) == 1 else "."
    place = "" if shared == "." else f"{shared} "
    return f"{place}({len(series.files)} files)"


def candidate_row(candidate: Candidate, review: Review) -> CandidateRow:
    """Build one candidate's row; millimetres, ml and shares are rounded to what they mean."""
    low, high = candidate.bounding_box_mm
    state = review.state_of(candidate.tracking_uid)
    said = None if state is ReviewState.UNREVIEWED else review.of(candidate.tracking_uid)
    relevance = candidate.sequence_relevance
    return CandidateRow(
        id=candidate.id,
        tracking_uid=candidate.tracking_uid,
        score=round(candidate.score, 6),
        centroid_mm=_point(candidate.centroid_mm),
        bounding_box_mm=(_point(low), _point(high)),
        peak_mm=_point(candidate.peak_mm),
        volume_ml=VolumeMl(**{r.value: _round(candidate.volume_ml.get(r), 4) for r in Region}),
        longest_axial_diameter_mm=_round(candidate.longest_axial_diameter_mm, 3),
        perpendicular_diameter_mm=_round(candidate.perpendicular_diameter_mm, 3),
        rano_measurable=candidate.rano_measurable,
        location=LocationRow(side=candidate.location.side, region=candidate.location.region),
        uncertainty=_round(candidate.uncertainty, 4),
        attention=AttentionRow(
            peak_inside=candidate.attention.peak_inside,
            mass_inside=_round(candidate.attention.mass_inside, 4),
        ),
        sequence_relevance=None
        if relevance is None
        else RelevanceRow(
            **{k: _round(relevance.get(k), 6) for k in ("t1c", "flair", "t2", "t1", "none")}
        ),
        score_alone=_scores(candidate.score_alone),
        score_left_out=_scores(candidate.score_left_out),
        resemblance=None
        if candidate.resemblance is None
        else ResemblanceRow(**{k.value: round(v, 4) for k, v in candidate.resemblance.items()}),
        review=ReviewRow(
            state=state,
            reader=said.reader if said else None,
            time=said.time if said else None,
            reason=said.reason if said else None,
        ),
    )


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def _scores(scores: Mapping[str, float | None] | None) -> SequenceScoresRow | None:
    if scores is None:
        return None
    fields = SequenceScoresRow.model_fields
    return SequenceScoresRow(**{key: _round(scores.get(key), 6) for key in fields})


def _point(point: PointMm) -> PointMm:
    x, y, z = (round(float(v), 3) for v in point)
    return x, y, z


def columns() -> tuple[str, ...]:
    """Return the columns of findings.csv: the JSON's names, nested ones joined by `_`."""
    return tuple(name for name, _ in _flat(_EXAMPLE))


def findings_csv(content: FindingsFile) -> str:
    """Return findings.csv: a header and one row a candidate.

    Text that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns())
    for row in content.candidates:
        cells = dict(_flat(row.model_dump(mode="json")))
        for name, model in _MAY_BE_NULL.items():
            if getattr(row, name) is None:
                cells |= {f"{name}_{key}": None for key in model.model_fields}
        writer.writerow([_cell(cells[name]) for name in columns()])
    return text.getvalue()


def _flat(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}_{inner}", v) for inner, v in _flat(value))
        elif isinstance(value, list | tuple):
            names = ("x", "y", "z") if len(value) == 3 else ("low", "high")
            yield from (
                (f"{name}_{inner}", v) for inner, v in _flat(dict(zip(names, value, strict=True)))
            )
        else:
            yield name, value


_FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@]")
"""What a spreadsheet may run."""


def safe_text(text: str) -> str:
    """Keep a spreadsheet from running text as a formula: such text gets a leading apostrophe."""
    return f"'{text}" if _FORMULA.match(text) else text


def _cell(value: Any) -> str | int | float:
    """Return a safe cell.

    Examples
    --------
    >>> _cell("=1+1"), _cell(-3.5), _cell(None), _cell(True)
    ("'=1+1", -3.5, '', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return safe_text(value)
    number: int | float = value
    return number


_MAY_BE_NULL: Mapping[str, type[BaseModel]] = {
    "sequence_relevance": RelevanceRow,
    "score_alone": SequenceScoresRow,
    "score_left_out": SequenceScoresRow,
    "resemblance": ResemblanceRow,
}
"""Nested parts that are null as a whole where they were not computed."""
_EXAMPLE: dict[str, Any] = {
    "id": 1,
    "tracking_uid": "",
    "score": 0.0,
    "centroid_mm": (0.0, 0.0, 0.0),
    "bounding_box_mm": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    "peak_mm": (0.0, 0.0, 0.0),
    **{
        name: dict.fromkeys(model.model_fields) if model else None
        for name, model in (
            ("volume_ml", VolumeMl),
            ("longest_axial_diameter_mm", None),
            ("perpendicular_diameter_mm", None),
            ("rano_measurable", None),
            ("location", LocationRow),
            ("uncertainty", None),
            ("attention", AttentionRow),
            *_MAY_BE_NULL.items(),
            ("review", ReviewRow),
        )
    },
}
"""A row whose nested parts are all there, from which the columns are read."""


def schema_text() -> str:
    """Return the JSON Schema of findings.json, as docs/findings.schema.json holds it."""
    schema = FindingsFile.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


class TablesExporter:
    """Writes findings.json and findings.csv."""

    name = "tables"

    def missing(self, analysis: Analysis) -> str | None:
        """Nothing is needed."""
        del analysis
        return None

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write both tables."""
        content = findings_file(analysis)
        as_json, as_csv = staged / "findings.json", staged / "findings.csv"
        text = content.model_dump_json(by_alias=True, indent=1)
        as_json.write_text(text + "\n", encoding="utf-8")
        with as_csv.open("w", encoding="utf-8", newline="") as file:
            file.write(findings_csv(content))
        return as_json, as_csv
