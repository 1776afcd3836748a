"""Who is shown: read from the files for the screen alone, never stored."""

from __future__ import annotations

import logging

import pydicom

from lesionlens.base.dates import iso_date
from lesionlens.base.records.study import Study, StudyKind

logger = logging.getLogger(__name__)
_TAGS = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate")


def identity_of(study: Study) -> tuple[str, ...]:
    """Return patient, identifier and date of a DICOM study; the name of any other.

    Returns
    -------
    tuple of str
        One a line; what the files do not say is left out.
    """
    file = next((series.files[0] for series in study.series.values() if series.files), None)
    if study.kind is not StudyKind.DICOM or file is None:
        return (study.name,)
    try:
        found = pydicom.dcmread(file.path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except (OSError, pydicom.errors.InvalidDicomError):
        logger.warning("who is shown could not be read from the files")
        return (study.name,)
    values = {tag: str(getattr(found, tag, "") or "").strip() for tag in _TAGS}
    born, sex = _date(values["PatientBirthDate"]), values["PatientSex"]
    lines = (
        values["PatientName"].replace("^", " ").strip(),
        values["PatientID"] and f"ID {values['PatientID']}",
        " · ".join(part for part in (born and f"born {born}", sex) if part),
        _date(values["StudyDate"]),
    )
    return tuple(line for line in lines if line)


def _date(text: str) -> str:
    return iso_date(text) or text
