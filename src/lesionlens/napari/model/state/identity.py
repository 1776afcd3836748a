"""Identity of patient and study, read from the files for display only, never stored.

The same record is used in the panel, on the images and for signing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from lesionlens.analysis.followup.patient import examination_of_result
from lesionlens.base.errors import replaced
from lesionlens.base.records.study import Study, StudyKind
from lesionlens.base.text import iso_date, isolated
from lesionlens.imaging.reading.dicom.files import DAMAGED, is_of, read_dicom

logger = logging.getLogger(__name__)
_TAGS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "SOPInstanceUID",
)
_KEPT_START, _KEPT_END = 18, 16
"""Characters of a long name of a study that an image shows: a date and the end of a UID."""


@dataclass(frozen=True, slots=True)
class StudyIdentity:
    """Identity of patient and study from files and worklist; unknown fields are empty."""

    study: str = ""
    """Name in the worklist, otherwise of the folder or file."""
    patient: str = ""
    number: str = ""
    """The patient's identifier."""
    born: str = ""
    """Date of birth and sex."""
    date: str = ""
    """Date of the study, YYYY-MM-DD."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines for the corner of an image, the most important first: small views omit the last.

        Examples
        --------
        >>> StudyIdentity("head", "A B", "7", "born 1970-01-02 · F", "2026-01-05").lines
        ('A B', 'ID 7', '2026-01-05', 'born 1970-01-02 · F', 'head')
        >>> StudyIdentity("head").lines
        ('head',)
        """
        number = f"ID {self.number}" if self.number else ""
        lines = (self.patient, number, self.date, self.born, self.study)
        return tuple(isolated(line) for line in lines if line)

    @property
    def corner(self) -> tuple[str, ...]:
        """Lines for the corner of an image; a long name of the study is shortened in the middle.

        A study from an archive is named by its date and Study UID, which would cover the head.

        Examples
        --------
        >>> StudyIdentity("2026-01-05 1.2.826.0.1.3680043.8.498.12492410069067").corner
        ('2026-01-05 1.2.826…8.12492410069067',)
        """
        start, end = self.study[:_KEPT_START], self.study[-_KEPT_END:]
        is_long = len(self.study) > _KEPT_START + _KEPT_END
        return replace(self, study=f"{start}…{end}" if is_long else self.study).lines

    @property
    def text(self) -> str:
        """Patient, date and study in one line.

        Examples
        --------
        >>> StudyIdentity("head", "A B", "7", "", "2026-01-05").text
        'A B · ID 7 · 2026-01-05 · head'
        """
        return " · ".join(line for line in self.lines if line != self.born)


UNKNOWN_IDENTITY = StudyIdentity()
"""Identity of a study outside a worklist."""


def identity_of(study: Study, listed: StudyIdentity = UNKNOWN_IDENTITY) -> StudyIdentity:
    """Return the identity of a study from its files, otherwise from its list.

    Examples
    --------
    >>> from pathlib import Path
    >>> study = Study("head", StudyKind.NIFTI, {}, Path())
    >>> identity_of(study, StudyIdentity("a", number="7", date="2026-01-05")).text
    'ID 7 · 2026-01-05 · a'
    """
    name = listed.study or study.name
    fallback = replace(listed, study=name)
    file = study.header_file
    if study.kind is not StudyKind.DICOM or file is None:
        return fallback
    try:
        header = read_dicom(file.path, stop_before_pixels=True, specific_tags=list(_TAGS))
        if not is_of(file.sop_instance_uid, header):
            raise replaced(file.name)
    except (OSError, *DAMAGED):
        logger.warning("the patient could not be identified from the files")
        return fallback
    values = {tag: str(getattr(header, tag, "") or "").strip() for tag in _TAGS}
    born, sex = _date(values["PatientBirthDate"]), values["PatientSex"]
    return StudyIdentity(
        study=name,
        patient=_readable_name(values["PatientName"]),
        number=values["PatientID"] or listed.number,
        born=" · ".join(part for part in (born and f"born {born}", sex) if part),
        date=_date(values["StudyDate"]) or listed.date,
    )


def identity_of_result(result: Path) -> StudyIdentity:
    """Return the identity of a saved result, from its DICOM objects."""
    examination = examination_of_result(result)
    return StudyIdentity(
        study=result.name,
        patient=_readable_name(examination.patient.name),
        number=examination.patient.id,
        date=examination.date,
    )


def _readable_name(name: str) -> str:
    """Return a DICOM person name (PN) without its separators."""
    return name.replace("^", " ").strip()


def _date(text: str) -> str:
    return iso_date(text) or text
