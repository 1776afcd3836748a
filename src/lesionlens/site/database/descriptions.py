"""Read the attributes of studies and results that a worklist shows."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from lesionlens.base.errors import LesionLensError, ReadError, is_refusal, os_reason
from lesionlens.base.files import exists, read_json
from lesionlens.base.labels import REFERENCE_ORDER, Source
from lesionlens.base.provenance import joint_sha256
from lesionlens.base.records.patient import Patient, PatientField
from lesionlens.base.records.study import Study, StudyKind
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import edited_since
from lesionlens.base.text import iso_date
from lesionlens.imaging.reading.dicom.files import DAMAGED, read_dicom
from lesionlens.imaging.reading.input_files import inputs_of
from lesionlens.imaging.reading.nifti import read_sidecar
from lesionlens.imaging.reading.open import open_study
from lesionlens.site.database.reads import state_of
from lesionlens.site.database.records import Status, StudyEntry, StudyOutcome, StudyState
from lesionlens.site.database.study_files import fingerprint, is_of_other_files
from lesionlens.site.database.worklist_database import WorklistDatabase

logger = logging.getLogger(__name__)
RESULT = "findings.json"
OTHER_RESULT = "its result is of other images: analyse the study again"
NO_DATE = "its date in the list is not written YYYY-MM-DD, and was not compared with the images"
OTHER_IMAGES = "its images are not those that were read or signed"
_CHANGED = f"its {RESULT} was changed since it was written, and is not counted"
_UNREADABLE = f"its {RESULT} cannot be read"
_TAGS = ("PatientID", "StudyDate")
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


class PatientAndDate(NamedTuple):
    """Patient identifier and date, YYYY-MM-DD; empty if unknown."""

    patient: str
    date: str


_UNKNOWN = PatientAndDate("", "")


@dataclass(frozen=True, slots=True)
class Description:
    """Identity of a study, as its list and its images name it."""

    files: str
    """Fingerprint of the files that were read."""
    listed: PatientAndDate
    """What the list itself names, as from a table or an archive."""
    images: PatientAndDate
    """What the images named when they were last read."""
    read_as: PatientAndDate | None = None
    """What the images named when a reader decided, if they name others now."""
    warnings: tuple[str, ...] = ()
    """Warnings about the identity, which an analysis does not replace."""
    contents: str = ""
    """SHA-256 of the images, if they name no patient; else empty."""
    read_contents: str | None = None
    """SHA-256 of the images when a reader decided, if they are others now."""

    @classmethod
    def of(cls, database: WorklistDatabase, name: str) -> Description | None:
        """Return the description of a study; None if none is recorded."""
        stored = database.read_note(_note_key(name))
        try:
            return None if stored is None else TypeAdapter(cls).validate_python(stored)
        except ValidationError:  # of a later release
            return None

    def store(self, database: WorklistDatabase, entry: StudyEntry) -> None:
        """Record the description of a study together with its entry in the list."""
        database.update(entry, {_note_key(entry.name): asdict(self)})


def _note_key(name: str) -> str:
    return f"described: {name}"


def describe_studies(
    database: WorklistDatabase, *, context: RunContext = SILENT, force: bool = False
) -> int:
    """Describe every new or changed study and every new result of a list.

    Parameters
    ----------
    force : bool
        Whether to describe again what was described before and has not changed.

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
        refreshed = refresh_entry(database, entry, force=force) if entry.place else entry
        count += refreshed is not entry
        if refreshed.candidates is None:
            updated = _with_matching_result(refreshed, database.folder / entry.name)
            if updated != refreshed:
                database.update(updated)
    context.progress("read", 1.0)
    return count


def refresh_entry(
    database: WorklistDatabase, entry: StudyEntry, *, force: bool = False
) -> StudyEntry:
    """Update an entry to its files as they are now; return it, the same one if nothing changed.

    Patient and date follow the images, unless the list names others. Problems become warnings; a
    study that was described before and is not available now is returned unchanged.

    Parameters
    ----------
    force : bool
        Whether to read unchanged files too.
    """
    path, was_described = Path(entry.place), bool(entry.sequences or entry.warnings)
    previous = Description.of(database, entry.name)
    if was_described and not exists(path):
        return entry
    files = fingerprint(path)
    if was_described and not force and previous is not None and previous.files == files:
        return entry
    listed = PatientAndDate(entry.patient, entry.date) if previous is None else previous.listed
    try:
        study = open_study(path, study_uid=entry.study_uid or None)
        images = patient_and_date_of(study)
        contents = "" if images.patient else joint_sha256(inputs_of(study).series.values())
    except (LesionLensError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        read_files = "" if is_refusal(cause) else files  # tried again: the files need not change
        unread = previous or Description(files, listed, _UNKNOWN)
        description = replace(unread, files=read_files, warnings=())
        reason = error.found if isinstance(error, LesionLensError) else os_reason(error)
        updated = replace(entry, warnings=(f"cannot be used: {reason}",))
    else:
        as_listed = replace(entry, patient=listed.patient, date=listed.date)
        description, updated = _described(database, as_listed, study, images, contents)
        description = replace(description, files=files)
    outcome = database.outcome(entry.name, files)
    if outcome is not None and outcome.status is Status.FAILED:
        updated = with_warning(updated, outcome.message)
    if updated.candidates is not None:
        updated = _with_matching_result(
            replace(updated, candidates=None, highest=None), database.folder / updated.name
        )
    description.store(database, updated)
    return updated


def _described(
    database: WorklistDatabase,
    entry: StudyEntry,
    study: Study,
    images: PatientAndDate,
    contents: str,
) -> tuple[Description, StudyEntry]:
    """Return a study's description and updated entry; `entry` holds the list's own identity."""
    listed = PatientAndDate(entry.patient, entry.date)
    previous = Description.of(database, entry.name)
    read_as, read_contents = _images_when_read(database, entry.name, previous)
    change_warnings = _image_change_warnings(read_as, images)
    if not change_warnings and read_contents and contents and read_contents != contents:
        change_warnings = (OTHER_IMAGES,)
    warnings = (*_contradictions(entry, study, images), *change_warnings)
    updated = replace(
        entry,
        patient=entry.patient or images.patient,
        date=entry.date or images.date,
        sequences=tuple(s.value for s in REFERENCE_ORDER if s in study.series),
        warnings=(*warnings, *study.notices),
    )
    if not change_warnings:
        read_as = read_contents = None
    return Description("", listed, images, read_as, warnings, contents, read_contents), updated


def _images_when_read(
    database: WorklistDatabase, name: str, previous: Description | None
) -> tuple[PatientAndDate | None, str | None]:
    """Return the images' identity and digest when a reader decided; None if nobody did."""
    if previous is None:
        return None, None
    recorded = previous.read_as, previous.read_contents
    if recorded == (None, None) and _has_decisions(database, name):
        return previous.images, previous.contents
    return recorded


def _image_change_warnings(
    read_as: PatientAndDate | None, images: PatientAndDate
) -> tuple[str, ...]:
    """Return a warning for each attribute of the images that changed since a study was read."""
    return tuple(
        f"its images have another {attribute} than when it was read or signed"
        for attribute, previous, current in zip(
            ("patient ID", "date"), read_as or _UNKNOWN, images, strict=True
        )
        if previous and current and previous != current
    )


def _has_decisions(database: WorklistDatabase, name: str) -> bool:
    """Return whether a reader marked, decided or signed anything."""
    reads = database.reads(name)
    return any(state_of(read, analysed=False) is not StudyState.NEW for read in reads)


def _contradictions(entry: StudyEntry, study: Study, images: PatientAndDate) -> tuple[str, ...]:
    """Return a warning for each attribute of a list that a DICOM study, once open, contradicts.

    It names no value, as a list may hold pseudonyms.
    """
    if study.kind is not StudyKind.DICOM:
        return ()
    date = iso_date(entry.date)
    warnings = tuple(
        f"its {attribute} in the list is not that of the images"
        for attribute, listed, actual in (
            ("patient ID", _patient_id(entry.patient), images.patient),
            ("date", date, images.date),
        )
        if listed and actual and listed != actual
    )
    has_unparsed_date = entry.date and not date and images.date
    return (*warnings, NO_DATE) if has_unparsed_date else warnings


def patient_and_date_of(study: Study) -> PatientAndDate:
    """Return the patient's identifier and the date as the images name them."""
    source = study.header_file
    if source is None:
        return _UNKNOWN
    patient, date = None, None
    try:
        if study.kind is StudyKind.DICOM:
            header = read_dicom(source.path, stop_before_pixels=True, specific_tags=[*_TAGS])
            patient, date = (str(header.get(tag) or "") for tag in _TAGS)
        else:
            sidecar = read_sidecar(source.path, [])
            patient = sidecar.get("PatientID")
            date = sidecar.get("StudyDate") or sidecar.get("AcquisitionDateTime")
    except (OSError, *DAMAGED):
        logger.warning("patient and date of a study could not be read")
    written_date = _DATE.match(str(date or ""))
    return PatientAndDate(
        _patient_id(patient), "-".join(written_date.groups()) if written_date else ""
    )


def _patient_id(value: object) -> str:
    """Return a Patient ID as patients are compared by it: spaces around it mean nothing."""
    return Patient.of({PatientField.ID.value: value}).id


def with_result(entry: StudyEntry, result: Path) -> StudyEntry:
    """Return an entry with its result's figures; unchanged without a result."""
    try:
        fields = read_json(result / RESULT)
        rows = [row for row in fields["candidates"] if row.get("source") != Source.READER]
        scores = [float(row["score"]) for row in rows if row["score"] is not None]
        failed = [check["message"] for check in fields["quality"] if not check["passed"]]
    except FileNotFoundError:
        return entry
    except (OSError, ValueError, KeyError, TypeError, ReadError):
        return with_warning(entry, _UNREADABLE)
    outdated = (*entry.analysis_warnings, _UNREADABLE)
    study_warnings = tuple(warning for warning in entry.warnings if warning not in outdated)
    result_warnings = dict.fromkeys((*failed, *fields.get("warnings", ())))
    analysis_warnings = tuple(
        warning for warning in result_warnings if warning not in study_warnings
    )
    return replace(
        entry,
        candidates=len(rows),
        highest=max(scores, default=None),
        warnings=(*dict.fromkeys(study_warnings), *analysis_warnings),
        analysis_warnings=analysis_warnings,
    )


def _with_matching_result(entry: StudyEntry, result: Path) -> StudyEntry:
    """Return an entry with its result's figures, unless the result is of other images."""
    if exists(entry.place) and is_of_other_files(Path(entry.place), result):
        return with_warning(entry, OTHER_RESULT)
    return with_result(without_warning(entry, OTHER_RESULT), result)


def with_counts(outcome: StudyOutcome, result: Path) -> StudyOutcome | None:
    """Return the outcome of an analysis as its result states it now, after any review.

    None if the result cannot be read. If it was changed by hand, the outcome says so instead.
    """
    try:
        fields = read_json(result / RESULT)
        if RESULT in edited_since(result):
            return replace(outcome, message=_CHANGED)
        count, message = len(fields["candidates"]), str(fields["conclusion"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ReadError):
        return None
    return replace(outcome, candidates=count, message=message)


def without_warning(entry: StudyEntry, message: str) -> StudyEntry:
    """Return an entry without an outdated warning."""
    return replace(
        entry, warnings=tuple(warning for warning in entry.warnings if warning != message)
    )


def with_warning(entry: StudyEntry, message: str) -> StudyEntry:
    """Return an entry with one more warning, without duplicates."""
    return replace(entry, warnings=tuple(dict.fromkeys((*entry.warnings, message))))
