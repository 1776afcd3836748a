"""The report that was sent earlier and that the next report of the study follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.atomic_file import write_atomically, write_error
from lesionlens.base.files.bounded_read import read_object, set_aside_damaged
from lesionlens.base.files.folder_lock import alone_in
from lesionlens.base.records.analysis import Document
from lesionlens.imaging.reading.dicom.bounded import DAMAGED, read_dicom
from lesionlens.imaging.reading.dicom.scan import looks_like_dicom, walk

SENT = "sent.json"
"""File in a result folder that records which of its objects were sent where, oldest first."""
_KEPT = ("sent", "objects", "rejected", "notices")
SCHEMA = "lesionlens/sent/1"
MANUFACTURER = "LesionLens"
"""Manufacturer in every LesionLens report."""


def sent_documents(result: Path) -> tuple[Document, ...]:
    """Return the last report sent from a result folder; empty if none was.

    A report that was never sent needs no successor: saving again replaces it.

    Parameters
    ----------
    result : Path
        A result folder, which may not exist yet.
    """
    try:
        return (Document(**_rows(result / SENT, "sent")[-1]["document"]),)
    except (LookupError, TypeError):
        return ()


def record_sent(
    result: Path,
    files: Iterable[Path],
    address: str,
    time: str,
    rejected: Sequence[str] = (),
    known: Sequence[str] = (),
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
    known : sequence of str
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
    ours = [one for one in map(_ours_in, files) if one is not None]
    if not (ours or rejected):
        return ()
    place = result / SENT
    sent = {"to": address, "time": time}
    reports = [{**sent, "document": asdict(_named(one))} for one in ours if one.Modality == "SR"]
    objects = [
        {**sent, "description": str(one.get("SeriesDescription", "")), **asdict(_named(one))}
        for one in ours
    ]
    try:
        with alone_in(result.resolve().parent):  # the result may be sent elsewhere, too
            aside = set_aside_damaged(place, _is_note)
            content = {
                "schema": SCHEMA,
                "sent": [*_rows(place, "sent"), *reports],
                "objects": [*_rows(place, "objects"), *objects],
                "rejected": [*_rows(place, "rejected"), *rejected],
                "notices": [*_rows(place, "notices"), *({**sent, "notice": one} for one in known)],
            }
            write_atomically(place, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise write_error("what was sent", place, error) from error
    if aside is None:
        return ()
    return (
        f"The note of what was sent before, {SENT}, was damaged and is kept as {aside.name}: "
        "what it said is not known here. Look in the archive for earlier reports of this study.",
    )


def sent_objects(result: Path, address: str, wanted: Callable[[str], bool]) -> tuple[Document, ...]:
    """Return the objects that were sent to an archive from a result folder.

    Parameters
    ----------
    result : Path
        The result folder; a damaged record counts as empty.
    wanted : callable
        Filter on the description of the object's series.
    """
    try:
        found = {
            Document(**{field.name: str(row[field.name]) for field in fields(Document)}): None
            for row in _rows(result / SENT, "objects")
            if row["to"] == address and wanted(str(row["description"]))
        }
    except (LookupError, TypeError):
        return ()
    return tuple(found)


def rejected_objects(result: Path) -> set[str]:
    """Return the SOP Instance UIDs that were rejected from a result folder."""
    return set(map(str, _rows(result / SENT, "rejected")))


def _is_note(content: Any) -> bool:
    """Return whether content is a valid record; earlier releases recorded only reports."""
    kept = [content.get(name, []) for name in _KEPT] if isinstance(content, dict) else [None]
    return all(isinstance(rows, list) for rows in kept)


def _rows(path: Path, name: str) -> list[Any]:
    try:
        return list(read_object(path)[name])
    except (LookupError, TypeError):
        return []


def _ours_in(path: Path) -> Dataset | None:
    try:
        header = read_dicom(path, stop_before_pixels=True)
        _named(header)
        ours = bool(header.Manufacturer == MANUFACTURER and header.Modality)
    except (OSError, *DAMAGED):
        return None
    return header if ours else None


def predecessors_of(report: Dataset) -> set[str]:
    """Return the SOP Instance UIDs of the earlier reports that a report replaces."""
    named = report.get("PredecessorDocumentsSequence") or ()
    every = (element for item in named for element in item.iterall())
    return {str(e.value) for e in every if e.keyword == "ReferencedSOPInstanceUID"}


def newest_document(place: Path, study_uid: str | None) -> Document:
    """Return the newest LesionLens report on a study in a folder.

    A report that another one names as its predecessor is not the newest, whatever the clocks of
    the machines that wrote them.

    Parameters
    ----------
    place : Path
        A file, or a folder searched recursively: a result, or a study with results from an archive.
    study_uid : str or None
        Study Instance UID; None matches no report.

    Raises
    ------
    UnusableInputError
        There is no such report.
    """
    found: list[tuple[str, str, Document]] = []
    earlier: set[str] = set()
    for path in [place] if place.is_file() else walk(place):
        if not looks_like_dicom(path):
            continue
        try:
            header = read_dicom(path, stop_before_pixels=True)
            ours = (header.Modality, header.Manufacturer) == ("SR", MANUFACTURER)
            if ours and header.StudyInstanceUID == study_uid:
                day, time = str(header.get("SeriesDate", "")), str(header.get("SeriesTime", ""))
                found.append((day, time, _named(header)))
                earlier |= predecessors_of(header)
        except (OSError, *DAMAGED):
            continue
    if not found:
        raise UnusableInputError(
            found=f"no report of LesionLens on this study in {place.name}",
            expected="a result folder of this study, or its DICOM objects",
            next_step="Name another folder, or none",
        )
    last = [row for row in found if row[2].sop_instance_uid not in earlier]
    return max(last or found, key=lambda row: row[:2])[2]


def _named(header: Dataset) -> Document:
    return Document(
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
    )
