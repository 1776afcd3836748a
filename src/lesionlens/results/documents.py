"""The reports that were opened or sent earlier, and the record of what was sent from a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from lesionlens.base.codes import MANUFACTURER
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import quarantine_damaged, read_object
from lesionlens.base.records.analysis import Document
from lesionlens.base.storage import locked, write_atomically, write_error
from lesionlens.base.text import is_uid
from lesionlens.imaging.reading.dicom.files import DAMAGED, read_dicom, walk

SENT = "sent.json"
"""File in a result folder that records which of its objects were sent where, oldest first."""
REPORT = Path("dicom", "sr.dcm")
"""The report in a result folder."""
_RECORD_KEYS = ("sent", "objects", "rejected", "notices")
SCHEMA = "lesionlens/sent/1"


def documents_followed(result: Path) -> tuple[Document, ...]:
    """Return the reports that the next report of a result folder follows.

    They are those that its report names as predecessors, such as the one that was opened from an
    archive, and the last one sent from it.

    Parameters
    ----------
    result : Path
        A result folder, which may not exist yet.
    """
    try:
        report = read_dicom(result / REPORT, stop_before_pixels=True)
        named = tuple(predecessor_documents(report)) if report.Manufacturer == MANUFACTURER else ()
    except (OSError, *DAMAGED):
        named = ()
    return tuple(dict.fromkeys((*named, *sent_documents(result))))


def predecessor_documents(report: Dataset) -> Iterator[Document]:
    """Yield the predecessors that a report names, without those with missing or invalid UIDs."""
    for study in report.get("PredecessorDocumentsSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for reference in series.get("ReferencedSOPSequence") or ():
                document = Document(
                    study_uid=str(study.get("StudyInstanceUID")),
                    series_uid=str(series.get("SeriesInstanceUID")),
                    sop_class_uid=str(reference.get("ReferencedSOPClassUID")),
                    sop_instance_uid=str(reference.get("ReferencedSOPInstanceUID")),
                )
                if all(map(is_uid, astuple(document))):
                    yield document


def sent_documents(result: Path) -> tuple[Document, ...]:
    """Return the last report sent from a result folder; empty if none was.

    A report that was never sent needs no successor: saving again replaces it.

    Parameters
    ----------
    result : Path
        A result folder, which may not exist yet.
    """
    try:
        document = Document(**_rows(result / SENT, "sent")[-1]["document"])
    except (LookupError, TypeError):
        return ()
    uids = astuple(document)
    return (document,) if all(isinstance(uid, str) and is_uid(uid) for uid in uids) else ()


def record_sent(
    result: Path,
    files: Iterable[Path],
    address: str,
    time: str,
    rejected: Sequence[str] = (),
    notices: Sequence[str] = (),
) -> tuple[str, ...]:
    """Record in a result folder which LesionLens objects were sent.

    Parameters
    ----------
    files : iterable of Path
        Files that the archive accepted.
    time : str
        ISO 8601, UTC.
    rejected : sequence of str
        SOP Instance UIDs of earlier objects that a rejection note now rejects.
    notices : sequence of str
        Notices about the delivery, such as that the user confirmed the patient.

    Returns
    -------
    tuple of str
        Notices if an earlier record was damaged, and where it was moved.

    Raises
    ------
    ResourceError
        The folder is not writable.
    """
    own_headers = [header for header in map(own_header, files) if header is not None]
    if not (own_headers or rejected):
        return ()
    path = result / SENT
    sent = {"to": address, "time": time}
    objects = [
        {
            **sent,
            "description": str(header.get("SeriesDescription", "")),
            **asdict(_document_of(header)),
        }
        for header in own_headers
    ]
    reports = (header for header in own_headers if header.Modality == "SR")
    added: dict[str, Sequence[object]] = {
        "sent": [{**sent, "document": asdict(_document_of(report))} for report in reports],
        "objects": objects,
        "rejected": rejected,
        "notices": [{**sent, "notice": notice} for notice in notices],
    }
    try:
        with locked(result):  # the result may be sent elsewhere, too
            damaged = quarantine_damaged(path, _is_record)
            record = {key: [*_rows(path, key), *rows] for key, rows in added.items()}
            write_atomically(path, json.dumps({"schema": SCHEMA} | record, indent=2) + "\n")
    except OSError as error:
        raise write_error("what was sent", path, error) from error
    if damaged is None:
        return ()
    return (
        f"The record of earlier deliveries, {SENT}, is damaged and was renamed to "
        f"{damaged.name}: what was sent before is unknown. Check the archive for earlier reports "
        f"of this study.",
    )


def sent_objects(
    result: Path, address: str, matches: Callable[[str], bool]
) -> tuple[Document, ...]:
    """Return the objects that were sent to an archive from a result folder.

    Parameters
    ----------
    result : Path
        The result folder; damaged rows of its record are skipped.
    address : str
        The archive's; a slash at its end makes no difference.
    matches : callable
        Filter on the description of the object's series.
    """
    documents: dict[Document, None] = {}
    for row in _rows(result / SENT, "objects"):
        with suppress(LookupError, TypeError, AttributeError):
            if row["to"].rstrip("/") == address.rstrip("/") and matches(str(row["description"])):
                values = {field.name: str(row[field.name]) for field in fields(Document)}
                documents[Document(**values)] = None
    return tuple(documents)


def rejected_objects(result: Path) -> set[str]:
    """Return the SOP Instance UIDs that were rejected from a result folder."""
    return set(map(str, _rows(result / SENT, "rejected")))


def _is_record(content: Any) -> bool:
    """Return whether content is a valid record."""
    return isinstance(content, dict) and all(
        isinstance(content.get(name, []), list) for name in _RECORD_KEYS
    )


def _rows(path: Path, name: str) -> list[Any]:
    try:
        return list(read_object(path)[name])
    except (LookupError, TypeError):
        return []


def own_header(path: Path) -> Dataset | None:
    """Return the header of a LesionLens object; None for any other file."""
    try:
        header = read_dicom(path, stop_before_pixels=True)
        _document_of(header)
        is_own = bool(header.Manufacturer == MANUFACTURER and header.Modality)
    except (OSError, *DAMAGED):
        return None
    return header if is_own else None


def predecessors_of(report: Dataset) -> set[str]:
    """Return the SOP Instance UIDs of the earlier reports that a report replaces."""
    predecessors = report.get("PredecessorDocumentsSequence") or ()
    elements = (element for item in predecessors for element in item.iterall())
    return {str(e.value) for e in elements if e.keyword == "ReferencedSOPInstanceUID"}


def newest_document(location: Path, study_uid: str | None) -> Document:
    """Return the newest LesionLens report on a study in a folder.

    A report that another one names as its predecessor is not the newest, whatever the clocks of
    the machines that wrote them.

    Parameters
    ----------
    location : Path
        A file, or a folder searched recursively: a result, or a study with results from an archive.
    study_uid : str or None
        Study Instance UID; None matches no report.

    Raises
    ------
    UnusableInputError
        There is no such report.
    """
    reports: list[tuple[str, str, Document]] = []
    replaced: set[str] = set()
    for header in map(own_header, [location] if location.is_file() else walk(location)):
        if header is None or (header.Modality, header.StudyInstanceUID) != ("SR", study_uid):
            continue
        day, time = str(header.get("SeriesDate", "")), str(header.get("SeriesTime", ""))
        reports.append((day, time, _document_of(header)))
        with suppress(*DAMAGED):
            replaced |= predecessors_of(header)
    if not reports:
        raise UnusableInputError(
            f"{location.name!r} holds no LesionLens report on this study.",
            hint="Name another folder, or none",
        )
    latest = [row for row in reports if row[2].sop_instance_uid not in replaced]
    return max(latest or reports, key=lambda row: row[:2])[2]


def _document_of(header: Dataset) -> Document:
    return Document(
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
    )
