"""The report that an earlier saving of a result left, and that the next one comes after."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from lesionlens.base.errors import UnusableInputError
from lesionlens.reading.dicom.scan import looks_like_dicom, walk
from lesionlens.records.analysis import Document

REPORT = Path("dicom") / "sr.dcm"
"""Below a result folder."""
MANUFACTURER = "LesionLens"
"""Of every report of ours."""


def documents_of(result: Path) -> tuple[Document, ...]:
    """Return the report that lies in a result folder; nothing where there is none to be read.

    Parameters
    ----------
    result : Path
        A result folder, or one where a result is about to be written.
    """
    try:
        return (_named(pydicom.dcmread(result / REPORT, stop_before_pixels=True)),)
    except (OSError, InvalidDicomError, AttributeError, ValueError):
        return ()


def newest_document(place: Path, study_uid: str | None) -> Document:
    """Return the newest report of ours on a study, among the files of a folder.

    Parameters
    ----------
    place : Path
        A file, or a folder that holds it at any depth: a result, or a study with its results as
        an archive gives them.
    study_uid : str or None
        Of the study; None fits no report.

    Raises
    ------
    UnusableInputError
        There is none.
    """
    found: list[tuple[str, str, Document]] = []
    for path in [place] if place.is_file() else walk(place):
        if not looks_like_dicom(path):
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            ours = (header.Modality, header.Manufacturer) == ("SR", MANUFACTURER)
            if ours and header.StudyInstanceUID == study_uid:
                day, time = str(header.get("SeriesDate", "")), str(header.get("SeriesTime", ""))
                found.append((day, time, _named(header)))
        except (OSError, InvalidDicomError, AttributeError, ValueError):
            continue
    if not found:
        raise UnusableInputError(
            found=f"no report of LesionLens on this study in {place.name}",
            expected="a result folder of this study, or its DICOM objects",
            next_step="Name another folder, or none",
        )
    return max(found, key=lambda row: row[:2])[2]


def _named(header: Dataset) -> Document:
    return Document(
        study_uid=str(header.StudyInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
    )
