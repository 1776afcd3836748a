"""The report that an earlier saving of a result left, and that the next one comes after."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from lesionlens.records.analysis import Document

REPORT = Path("dicom") / "sr.dcm"
"""Below a result folder."""


def documents_of(result: Path) -> tuple[Document, ...]:
    """Return the report that lies in a result folder; nothing where there is none to be read.

    Parameters
    ----------
    result : Path
        A result folder, or one where a result is about to be written.
    """
    try:
        header = pydicom.dcmread(result / REPORT, stop_before_pixels=True)
        return (
            Document(
                study_uid=str(header.StudyInstanceUID),
                series_uid=str(header.SeriesInstanceUID),
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=str(header.SOPInstanceUID),
            ),
        )
    except (OSError, InvalidDicomError, AttributeError, ValueError):
        return ()
