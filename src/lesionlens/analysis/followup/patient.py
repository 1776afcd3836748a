"""Patient and date of an examination, for finding and checking a prior; nothing is stored."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

from lesionlens.base.errors import UnusableInputError, unreadable
from lesionlens.base.files import read_object
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.patient import Patient, PatientField, settle
from lesionlens.base.records.study import Study, StudyKind
from lesionlens.base.text import iso_date, shown_day
from lesionlens.imaging.reading.bids import entities
from lesionlens.imaging.reading.dicom.files import DAMAGED, is_of, quiet_header

_TAGS = (*PatientField, "StudyDate", "StudyTime", "AcquisitionDate", "StudyInstanceUID")

BOTH = "this examination and the prior one"
"""Subject of the notice that a user confirmed the identity despite differences."""
NO_COMPARISON = "The objects contain no comparison with an earlier examination: compare again"
"""Notice on a result that was reopened from DICOM; removed when it is compared."""
_TIME = re.compile(r"\d{6}")


@dataclass(frozen=True, slots=True)
class Examination:
    """Patient and date of an examination; empty if the files do not state them."""

    patient: Patient = field(default_factory=Patient)
    """From the DICOM header, or with the subject of a BIDS name as its ID."""
    date: str = ""
    """ISO 8601 date, or the session of a BIDS name."""
    study_uid: str | None = None
    time: str = ""
    """Study Time (HHMMSS), with a Study Date."""

    def is_after(self, other: Examination) -> bool | None:
        """Return whether this examination is later; None if that is unknown.

        Days are compared, of one day the times, and numbers of BIDS sessions.

        Examples
        --------
        >>> p = Patient()
        >>> Examination(p, "2026-01-05").is_after(Examination(p, "2025-01-05"))
        True
        >>> Examination(p, "10").is_after(Examination(p, "9"))
        True
        >>> Examination(p, "post").is_after(Examination(p, "pre")) is None
        True
        >>> Examination(p, "2026-01-05").is_after(Examination(p, "2026-01-05")) is None
        True
        """
        own_order, other_order = _order(self.date), _order(other.date)
        if own_order is None or other_order is None or own_order[0] != other_order[0]:
            return None
        if own_order == other_order:
            times_differ = self.time and other.time and self.time != other.time
            return self.time > other.time if times_differ else None
        return own_order > other_order


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """A prior examination with its analysis."""

    examination: Examination
    analysis: Analysis
    confirmed: str = ""
    """What the user confirmed about the patient, for the record."""


def examination_of(study: Study) -> Examination:
    """Return patient and date of a study: from its DICOM header, else from BIDS names.

    The patient is the one at opening, also if the file is gone or was replaced since.
    """
    files = [file for series in study.series.values() for file in series.files]
    header_file = study.header_file
    if study.kind is StudyKind.DICOM and header_file is not None:
        stated = _of_header(header_file.path, header_file.sop_instance_uid)
        return replace(stated, patient=study.patient) if study.patient.known else stated
    for name in (study.root.name, *(part for f in files for part in f.path.parts[-4:])):
        subject, session = entities(f"{name}_")
        if subject:
            patient = replace(study.patient, id=f"sub-{subject}", issuer="")
            return Examination(patient, iso_date(session) or session or _session(files[0].path))
    return Examination(study.patient)


def examination_of_result(folder: Path) -> Examination:
    """Return patient and date of a saved result: from its DICOM objects, else from BIDS names.

    Names of the analysed files are preferred to that of the folder, which may have been renamed; it
    adds the session if they name the same subject but no session.
    """
    for name in ("sr.dcm", "seg.dcm", "attention.dcm"):
        if (folder / "dicom" / name).is_file():
            return _of_header(folder / "dicom" / name)
    files = (row.get("file") for row in input_rows(folder))
    input_names = (PurePosixPath(file).name for file in files if isinstance(file, str))
    subjects_and_sessions = [entities(f"{name}_") for name in (*input_names, folder.name)]
    subject = next((name for name, _ in subjects_and_sessions if name), "")
    if not subject:
        return Examination()
    session = next(
        (session for name, session in subjects_and_sessions if session and name == subject), ""
    )
    return Examination(Patient(f"sub-{subject}"), iso_date(session) or session)


def check_same_patient(now: Examination, prior: Examination, *, same_patient: bool = False) -> str:
    """Refuse a prior examination of another patient, or of a later date.

    Parameters
    ----------
    now, prior : Examination
        Missing attributes do not contradict.
    same_patient : bool
        Whether the user confirmed that it is one patient, whatever the files state.

    Returns
    -------
    str
        What was confirmed, for the record; empty if nothing differs.

    Raises
    ------
    PatientConflictError
        The identities contradict each other; the message contains no names.
    UnusableInputError
        The prior examination is later.
    """
    notice = settle(
        now.patient.compared(prior.patient).conflicts,
        BOTH,
        confirmed=same_patient,
        advice="Choose another prior, or correct the identity in the files",
        patients=(now.patient, prior.patient),
    )
    if prior.is_after(now):
        days = [shown_day(examination.date) for examination in (prior, now)]
        if days[0] == days[1]:
            days = [
                f"{examination.date} {examination.time[:2]}:{examination.time[2:4]}"
                for examination in (prior, now)
            ]
        raise UnusableInputError(
            f"The prior examination of {days[0]} is later than this one of {days[1]}.",
            hint="Analyse the later study with the earlier one as its prior.",
        )
    return notice


def _of_header(path: Path, uid: str | None = None) -> Examination:
    """Read patient and date; empty if unreadable, or not of the image with a SOP Instance UID."""
    tags = [*_TAGS, "SOPInstanceUID"]
    try:
        with quiet_header(path, specific_tags=tags) as header:
            if not is_of(uid, header):
                return Examination()
            values = {tag: str(header.get(tag) or "").strip() for tag in _TAGS}
    except (OSError, *DAMAGED):
        return Examination()
    date = iso_date(values["StudyDate"])
    time = _TIME.match(values["StudyTime"]) if date else None
    return Examination(
        Patient.of(values),
        date or iso_date(values["AcquisitionDate"]),
        values["StudyInstanceUID"] or None,
        "" if time is None else time[0],
    )


def input_rows(result: Path) -> list[dict[str, Any]]:
    """Return the rows of the files that a result was made of, unchecked; empty if not recorded."""
    inputs = read_object(result / "run.json").get("inputs")
    return [row for row in inputs if isinstance(row, dict)] if isinstance(inputs, list) else []


def _order(text: str) -> tuple[str, int] | None:
    """Return the day, or the number of a session, with its kind; None for any other text."""
    try:
        return "day", date.fromisoformat(text).toordinal()
    except ValueError:
        return ("session", int(text)) if text.isdecimal() else None


def _session(path: Path) -> str:
    """Return the session of a BIDS folder (`ses-…`); empty if there is none."""
    session = next((part[4:] for part in path.parts if part.startswith("ses-")), "")
    return iso_date(session) or session


def is_same_examination(study: Study, other: Study) -> bool:
    """Return whether two studies are of one examination.

    They are if they share the Study Instance UID, a Series Instance UID or a file, whatever it is
    called.

    Raises
    ------
    ReadError
        A file cannot be read.
    """
    if study.uid is not None and study.uid == other.uid:
        return True
    first, second = (
        {series.uid for series in one.series.values() if series.uid} for one in (study, other)
    )
    return bool(first & second) or bool(digests_of(study) & digests_of(other))


def digests_of(study: Study) -> frozenset[str]:
    """Return the SHA-256 of the first file of each series that is analysed.

    Raises
    ------
    ReadError
        A file cannot be read.
    """
    first_files = [series.files[0] for series in study.series.values() if series.files]
    try:
        return frozenset(sha256_of(file.path) for file in first_files)
    except OSError as error:
        raise unreadable(error, study.name) from error
