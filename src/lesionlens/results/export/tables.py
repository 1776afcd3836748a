"""findings.json and findings.csv from one schema.

Its public form is docs/reference/findings.schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.files import CandidateRow, FindingsFile, ReviewRow, SequenceRow
from lesionlens.base.records.findings import SEQUENCE_KEYS
from lesionlens.base.records.study import Series
from lesionlens.results.export.cells import rows_csv
from lesionlens.results.export.followup import write_followup
from lesionlens.results.export.written import UnconditionalExporter

_ROW = TypeAdapter(CandidateRow)


def findings_file(analysis: Analysis) -> FindingsFile:
    """Build findings.json's content, with the current review."""
    findings, signature = analysis.findings, analysis.review.signature
    series = analysis.study.series
    return FindingsFile(
        candidates=tuple(CandidateRow.of(c, analysis.review) for c in findings.candidates),
        quality=findings.quality,
        reference=analysis.prepared.reference,
        sequences={
            key: SequenceRow(
                file=display_name_of_series(series[key]), detected_by=series[key].detected_by
            )
            for key in SEQUENCE_KEYS
            if key in series
        },
        conclusion=findings.conclusion,
        warnings=analysis.warnings,
        resection_cavity_ml=analysis.volumes.cavity_ml,
        signed=None if signature is None else ReviewRow.of(signature),
    )


def findings_json(analysis: Analysis) -> dict[str, Any]:
    """Return findings.json as plain Python data."""
    content: dict[str, Any] = findings_file(analysis).model_dump(mode="json", by_alias=True)
    return content


def display_name_of_series(series: Series) -> str:
    """Return a series' name for display: its one file, or its folder and number of files.

    `Series.files` names a multi-frame file once for each frame.
    """
    names = {f.name for f in series.files}
    if len(names) == 1:
        return names.pop()
    folders = {str(PurePosixPath(name).parent) for name in names}
    shared = folders.pop() if len(folders) == 1 else "."
    prefix = "" if shared == "." else f"{shared} "
    return f"{prefix}({len(names)} files)"


@cache
def column_types() -> MappingProxyType[str, str]:
    """Return the columns of findings.csv, and the JSON type of each, such as `number`.

    They have the JSON names, nested ones joined by `_`.
    """
    schema = _ROW.json_schema()
    return MappingProxyType(dict(_columns(schema, schema["$defs"])))


def _columns(
    node: dict[str, Any], models: dict[str, Any], name: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield name and type of the single values below a node of the schema."""
    node = next((kind for kind in node.get("anyOf", ()) if kind.get("type") != "null"), node)
    node = models[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    points = node.get("prefixItems", ())
    parts = node.get("properties") or dict(zip(_PARTS.get(len(points), ()), points, strict=True))
    if not parts:
        yield name, node["type"]
    for inner, child in parts.items():
        yield from _columns(child, models, f"{name}_{inner}" if name else inner)


def findings_csv(content: FindingsFile) -> str:
    """Return findings.csv: a header and one row per candidate.

    Text that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    return rows_csv(list(column_types()), map(flat_row, content.candidates))


def flat_row(row: CandidateRow) -> dict[str, Any]:
    """Return a candidate's values by the names of `column_types`; None if unknown."""
    return dict(_flat(_ROW.dump_python(row, mode="json")))


_PARTS = {3: ("x", "y", "z"), 2: ("low", "high")}
"""Suffixes of a point's, and a box's, components."""


def _flat(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}_{inner}", v) for inner, v in _flat(value))
        elif isinstance(value, list | tuple):
            parts = dict(zip(_PARTS[len(value)], value, strict=True))
            yield from ((f"{name}_{inner}", v) for inner, v in _flat(parts))
        else:
            yield name, value


def schema_text() -> str:
    """Return the JSON Schema of findings.json, as in docs/reference/findings.schema.json."""
    schema = FindingsFile.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


class TablesExporter(UnconditionalExporter):
    """Writes findings.json and findings.csv; with a prior also followup.json and followup.csv."""

    name = "tables"

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write the tables."""
        content = findings_file(analysis)
        as_json, as_csv = staged / "findings.json", staged / "findings.csv"
        as_json.write_text(content.file_text(), encoding="utf-8")
        as_csv.write_text(findings_csv(content), encoding="utf-8", newline="")
        compared = analysis.compared
        if compared is None:
            return as_json, as_csv
        return as_json, as_csv, *write_followup(compared, staged)
