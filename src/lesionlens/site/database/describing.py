"""Read the attributes of studies and results that a worklist shows."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lesionlens.base.bounded_read import read_json
from lesionlens.base.dates import iso_date
from lesionlens.base.errors import LesionLensError, ReadError
from lesionlens.base.labels import REFERENCE_ORDER
from lesionlens.base.records.findings import OTHER_FINDINGS
from lesionlens.base.records.study import Study, StudyKind
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.imaging.reading.dicom.bounded import DAMAGED, read_dicom
from lesionlens.imaging.reading.readers import open_study
from lesionlens.site.database.records import StudyEntry, StudyOutcome
from lesionlens.site.database.worklist_database import WorklistDatabase

logger = logging.getLogger(__name__)
RESULT = "findings.json"
_TAGS = ("PatientID", "StudyDate")
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


def describe_all(
    database: WorklistDatabase, *, context: RunContext = SILENT, again: bool = False
) -> int:
    """Describe every new study and every new result of a list.

    Parameters
    ----------
    database : WorklistDatabase
        Database of the list; updated study by study.
    again : bool
        Whether to describe known studies and results again.

    Returns
    -------
    int
        Number of studies read.
    """
    entries = database.entries()
    count = 0
    for number, entry in enumerate(entries):
        context.check("reading the studies")
        context.progress(f"read {number + 1} of {len(entries)}", number / len(entries))
        now = entry
        if entry.place and (again or not (entry.sequences or entry.warnings)):
            now, count = described(entry), count + 1
        if now.candidates is None or again:
            now = with_result(now, database.folder / entry.name)
        if now != entry:
            database.update(now)
    context.progress("read", 1.0)
    return count


def described(entry: StudyEntry) -> StudyEntry:
    """Return an entry with the study's attributes; problems become warnings."""
    try:
        uid = entry.study_uid or None
        study = open_study(Path(entry.place), study_uid=uid, recall=True)
    except LesionLensError as refusal:
        return replace(entry, warnings=(f"cannot be used: {refusal.found}",))
    fields = fields_of(study)
    return replace(
        entry,
        patient=entry.patient or fields.get("PatientID", ""),
        date=entry.date or fields.get("StudyDate", ""),
        sequences=tuple(s.value for s in REFERENCE_ORDER if s in study.series),
        warnings=(*_contradictions(entry, study, fields), *study.notices),
    )


def _contradictions(entry: StudyEntry, study: Study, fields: Mapping[str, str]) -> tuple[str, ...]:
    """Return a warning for each attribute of a list that a DICOM study, once open, contradicts.

    It names no value, as a list may hold pseudonyms.
    """
    if study.kind is not StudyKind.DICOM:
        return ()
    return tuple(
        f"its {words} in the list is not that of the images"
        for words, listed, found in (
            ("patient ID", entry.patient, fields.get("PatientID")),
            ("date", iso_date(entry.date), fields.get("StudyDate")),
        )
        if listed and found and listed != found
    )


def fields_of(study: Study) -> Mapping[str, str]:
    """Return the patient's identifier and the date, YYYY-MM-DD, if available.

    Returns
    -------
    mapping of str to str
        Keys PatientID and StudyDate, as in DICOM.
    """
    file = next((s.files[0].path for s in study.series.values() if s.files), None)
    if file is None:
        return {}
    found: dict[str, Any] = {}
    try:
        if study.kind is StudyKind.DICOM:
            header = read_dicom(file, stop_before_pixels=True, specific_tags=list(_TAGS))
            found = {tag: str(header.get(tag) or "") for tag in _TAGS}
        else:
            sidecar = file.with_name(re.sub(r"\.nii(\.gz)?$", "", file.name) + ".json")
            fields = read_json(sidecar) if sidecar.is_file() else {}
            found = {
                "PatientID": fields.get("PatientID"),
                "StudyDate": fields.get("StudyDate") or fields.get("AcquisitionDateTime"),
            }
    except (OSError, *DAMAGED):
        logger.warning("patient and date of a study could not be read")
    day = _DATE.match(str(found.get("StudyDate") or ""))
    plain = {"PatientID": str(found.get("PatientID") or "").strip()}
    return plain | {"StudyDate": "-".join(day.groups()) if day else ""}


def with_result(entry: StudyEntry, result: Path) -> StudyEntry:
    """Return an entry with its result's figures; unchanged without a result."""
    try:
        fields = read_json(result / RESULT)
        rows = [row for row in fields["candidates"] if row["score"] is not None]  # else a reader's
        scores = [float(row["score"]) for row in rows if not row.get("apart")]
        failed = [q["message"] for q in fields["quality"] if not q["passed"]]
    except FileNotFoundError:
        return entry
    except (OSError, ValueError, KeyError, TypeError, ReadError):
        return replace(entry, warnings=(*entry.warnings, f"its {RESULT} cannot be read"))
    apart = len(rows) - len(scores)
    others = [f"{OTHER_FINDINGS}: {apart}"] if apart else []
    notices = (*entry.warnings, *failed, *fields.get("warnings", ()), *others)
    return replace(
        entry,
        candidates=len(scores),
        highest=max(scores, default=None),
        warnings=tuple(dict.fromkeys(notices)),
    )


def with_counts(outcome: StudyOutcome, result: Path) -> StudyOutcome | None:
    """Return the outcome of an analysis as its result states it now, after any review.

    None if the result cannot be read.
    """
    try:
        fields = read_json(result / RESULT)
        apart = sum(bool(row.get("apart")) for row in fields["candidates"])
        count, message = len(fields["candidates"]), str(fields["conclusion"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ReadError):
        return None
    return replace(outcome, candidates=count - apart, other_findings=apart, message=message)


def without_warning(entry: StudyEntry, words: str) -> StudyEntry:
    """Return an entry without an outdated warning."""
    return replace(entry, warnings=tuple(one for one in entry.warnings if one != words))


def with_warning(entry: StudyEntry, words: str) -> StudyEntry:
    """Return an entry with one more warning, without duplicates."""
    return replace(entry, warnings=tuple(dict.fromkeys((*entry.warnings, words))))
