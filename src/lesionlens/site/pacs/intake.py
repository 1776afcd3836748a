"""Receive a study from a peer into a folder: numbered, verified files.

The peer chooses no file name: files are numbered, so that no UID can lead out of the folder. A file
that was not listed, belongs to another study, is not DICOM or would fill the disk fails the whole
study.
"""

from __future__ import annotations

import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from lesionlens.base.errors import CancelledError, LesionLensError, ReadError, ResourceError
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.analysis import Document
from lesionlens.base.records.patient import Patient, PatientField, conflict_among, settle
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import replaced_folder
from lesionlens.base.text import is_uid
from lesionlens.imaging.reading.dicom.files import DAMAGED, quiet_header
from lesionlens.site.pacs.delivery import Delivery, DeliveryStoppedError, Ledger, deliver
from lesionlens.site.pacs.files import Outgoing, read_outgoing
from lesionlens.site.pacs.peer import (
    FoundStudy,
    StudyQuery,
    check_empty,
    check_uid,
    study_not_found,
)

_IDENTITY = ("SOPInstanceUID", "StudyInstanceUID", *(field.value for field in PatientField))
_GROWING = "It may still be receiving the study: fetch it again"
RESERVE_BYTES = 2**30
"""Disk space kept free."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A completely received study."""

    files: int
    notices: tuple[str, ...] = ()
    """Confirmed contradictions in the patient's data, and what could not be checked."""


class Intake:
    """The folder that receives a study; thread-safe.

    Parameters
    ----------
    folder : Path
        Empty folder, removed by the caller if the study is incomplete.
    study_uid : str
        Study to which every file must belong.
    listed : mapping of str to str
        SOP Instance UID to SOP Class UID, as listed by the archive.
    patients : sequence of Patient
        Patient of the study, as listed by the archive; with it the files are compared.
    same_patient : bool
        Whether a person confirmed that all files are of one patient.
    """

    def __init__(
        self,
        folder: Path,
        study_uid: str,
        listed: Mapping[str, str],
        *,
        patients: Sequence[Patient] = (),
        same_patient: bool = False,
        context: RunContext = SILENT,
    ) -> None:
        self.listed, self._listed_patients = listed, patients
        self._same_patient, self._patients = same_patient, set[Patient]()
        self.failure: BaseException | None = None
        """Why no more files are accepted."""
        self._folder, self._study_uid = folder, study_uid
        self._context = context
        self._free_bytes = max(shutil.disk_usage(folder).free - RESERVE_BYTES, 0)
        self._received: dict[str, Path] = {}
        self._n_files = 0
        self._is_open = True
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Number of received images of the listed ones."""
        return len(self._received)

    def add_file(self, chunks: Iterable[bytes]) -> None:
        """Write one DICOM file and verify it.

        Raises
        ------
        ReadError
            The file is not DICOM, belongs to another study or was not listed.
        ResourceError
            The file would fill the disk.
        CancelledError
            The user cancelled, or the study is closed.
        """
        with self._lock:
            if not self._is_open:
                raise CancelledError("fetching the study")
            path = self._folder / f"{self._n_files + 1:06d}.dcm"
            self._write(path, chunks)
            uid = self._identity(path)
            earlier = self._received.setdefault(uid, path)
            if earlier is not path and sha256_of(earlier) == sha256_of(path):
                path.unlink()  # a duplicate
                return
            self._n_files += 1  # also another image under this UID, which the reader refuses
        self._context.progress("fetch", len(self._received) / max(len(self.listed), 1))

    def try_add_file(self, data: bytes) -> bool:
        """Accept a complete file; False if refused, with the reason in `failure`."""
        try:
            self.add_file((data,))
        except (LesionLensError, OSError) as error:
            self.failure = self.failure or error
            return False
        return True

    def close(self) -> None:
        """Stop accepting files from late threads."""
        with self._lock:
            self._is_open = False

    def check_complete(self) -> str:
        """Raise on errors or missing images; return a notice about the patient, or ""."""
        if self.failure is not None:
            raise self.failure
        self._context.check("fetching the study")
        if self.count < len(self.listed):
            raise ResourceError(
                found=f"{self.count} of the study's {len(self.listed)} images",
                expected="all images",
                next_step="Fetch the study again; nothing was kept",
            )
        between = "the files of this study in the archive"
        patients = [*self._patients]
        conflicting_fields = conflict_among(patients, gaps=False)
        if not conflicting_fields:
            between = "these files and their study in the archive"
            patients += (_without_reduced_name(p, self._patients) for p in self._listed_patients)
            conflicting_fields = conflict_among(patients, gaps=False)
        return settle(
            conflicting_fields,
            between,
            confirmed=self._same_patient,
            advice="Ask the archive's administrator whose study it is; nothing was kept",
            patients=patients,
        )

    def _write(self, path: Path, chunks: Iterable[bytes]) -> None:
        with path.open("wb") as file:
            for chunk in chunks:
                self._context.check("fetching the study")
                self._free_bytes -= len(chunk)
                if self._free_bytes < 0:
                    raise ResourceError(
                        found="a study that would fill the disk",
                        expected=f"{RESERVE_BYTES >> 20} MiB left free",
                        next_step="Free some space or choose another disk; nothing was kept",
                    )
                file.write(chunk)

    def _identity(self, path: Path) -> str:
        """Return the SOP Instance UID of a requested file."""
        try:
            with quiet_header(path, specific_tags=[*_IDENTITY]) as header:
                uid, study = str(header.SOPInstanceUID), str(header.StudyInstanceUID)
                patient = Patient.of(header.get)
        except DAMAGED as error:
            raise _refusal("a part that is not a DICOM file") from error
        if study != self._study_uid:
            raise _refusal("an image of another study")
        if uid not in self.listed:
            raise _refusal("an image that the archive did not list", _GROWING)
        self._patients.add(patient)
        return uid


class Pacs(ABC):
    """An archive client; studies are fetched completely or not at all."""

    @abstractmethod
    def find(self, query: StudyQuery, *, context: RunContext = SILENT) -> tuple[FoundStudy, ...]:
        """Return the matching studies by date, at most `LIMIT`."""

    def send(
        self,
        files: Sequence[Path],
        *,
        same_patient: bool = False,
        on_partial: Callable[[Delivery], object] | None = None,
        context: RunContext = SILENT,
    ) -> Delivery:
        """Store files; refused files do not affect others, present ones are not sent.

        Parameters
        ----------
        on_partial : callable or None
            Called with the partial delivery if it fails or is cancelled after a file was sent.

        Raises
        ------
        ReadError
            A file is not a complete DICOM file; nothing was sent.
        PatientConflictError
            The study has another patient in the archive, and nobody confirmed it.
        ResourceError
            The archive does not respond, or stopped responding; the message counts stored files.
        DeliveryStoppedError
            The user stopped it, also by Ctrl+C; the message counts stored files.
        """
        items = read_outgoing(files)
        notices = self._settle_patients(items, context, confirmed=same_patient)
        ledger = Ledger(items, context, notices)
        try:
            return deliver(
                ledger,
                lambda: self._store(ledger, context),
                lambda study: self._listing(study, context),
                context,
            )
        except BaseException as error:
            if on_partial is not None and ledger.sent:
                on_partial(ledger.delivery())
            if ledger.has_begun and isinstance(error, (CancelledError, KeyboardInterrupt)):
                raise DeliveryStoppedError(ledger.count, len(items)) from error
            raise

    def _settle_patients(
        self, items: Sequence[Outgoing], context: RunContext, *, confirmed: bool
    ) -> tuple[str, ...]:
        """Refuse files of one study that differ in the patient, among them or in the archive."""
        patients_by_study: dict[str, set[Patient]] = {}
        for item in items:
            study, patient = item.identity()
            patients_by_study.setdefault(study, set()).add(patient)
        fields: set[PatientField] = set()
        conflicting_patients: list[Patient] = []
        unchecked: tuple[str, ...] = ()
        for study, patients in patients_by_study.items():
            archived_patients: tuple[Patient, ...] = ()
            if not unchecked:
                archived_patients, unchecked = self._archived_patients(study, context)
            all_patients = [
                *patients,
                *(_without_reduced_name(archived, patients) for archived in archived_patients),
            ]
            conflicting_fields = conflict_among(all_patients, gaps=False)
            fields.update(conflicting_fields)
            conflicting_patients.extend(all_patients if conflicting_fields else ())
        notice = settle(
            [field for field in PatientField if field in fields],
            "these files and their study in the archive",
            confirmed=confirmed,
            advice="Find out which is right: if the files are stored as they are, the study is "
            "split",
            patients=conflicting_patients,
        )
        return (*unchecked, *filter(None, [notice]))

    def _archived_patients(
        self, study_uid: str, context: RunContext
    ) -> tuple[tuple[Patient, ...], tuple[str, ...]]:
        """Return the patient that the archive lists for a study, and a notice if it does not."""
        try:
            studies = self.find(StudyQuery(study_uid=study_uid, modality=""), context=context)
        except ResourceError:
            return (), ("The patient of this study in the archive could not be checked.",)
        return tuple(study.patient for study in studies if study.study_uid == study_uid), ()

    @abstractmethod
    def _store(self, ledger: Ledger, context: RunContext) -> None:
        """Send the remaining files, recording each outcome; DeliveryInterruptedError: retry."""

    def objects_of(
        self, study_uid: str, matches: Callable[[str], bool], *, context: RunContext = SILENT
    ) -> tuple[Document, ...]:
        """Return the objects of a study in series whose description matches."""
        return tuple(
            Document(study_uid, series, sop_class, uid)
            for series, description in self._series(study_uid, context).items()
            if matches(description) and is_uid(series)
            for uid, sop_class in self._listing(study_uid, context, series).items()
            if is_uid(uid) and is_uid(sop_class)
        )

    @abstractmethod
    def _series(self, study_uid: str, context: RunContext) -> Mapping[str, str]:
        """Return the description of each series of a study, by Series Instance UID."""

    @abstractmethod
    def _listing(
        self, study_uid: str, context: RunContext, series_uid: str = ""
    ) -> Mapping[str, str]:
        """Return SOP Instance UID to SOP Class UID of a study or series in the archive."""

    @abstractmethod
    def _fetch(self, study_uid: str, intake: Intake, context: RunContext) -> None:
        """Pass every file of the study to the intake."""

    def get(
        self,
        study_uid: str,
        target: Path,
        *,
        listed: Patient | None = None,
        same_patient: bool = False,
        context: RunContext = SILENT,
    ) -> Retrieved:
        """Fetch a study into an empty or new folder, completely or not at all.

        Parameters
        ----------
        listed : Patient or None
            Patient whose study was chosen in a list; None: as the archive lists it now.

        Raises
        ------
        UnusableInputError
            The UID is invalid, the study does not exist, the folder is not empty, or files of
            several patients, or of another one than listed, came without `same_patient`.
        """
        check_uid(study_uid)
        check_empty(target)
        context.progress("fetch", 0.0)
        images = self._listing(study_uid, context)
        if not images:
            raise study_not_found(study_uid)
        patients, notices = (
            ((listed,), ()) if listed is not None else self._archived_patients(study_uid, context)
        )
        with replaced_folder(target) as staging_folder:
            intake = Intake(
                staging_folder,
                study_uid,
                images,
                patients=patients,
                same_patient=same_patient,
                context=context,
            )
            with closing(intake):
                self._fetch(study_uid, intake, context)
            notice = intake.check_complete()
            if not self._listing(study_uid, context).keys() <= images.keys():
                raise _refusal("images that the archive listed only afterwards", _GROWING)
        return Retrieved(intake.count, (*notices, *filter(None, [notice])))


def _without_reduced_name(listed: Patient, patients: Iterable[Patient]) -> Patient:
    """Return the patient that an archive lists, without a name that only lost letters.

    By default, Orthanc answers in Latin-1 and omits other letters: "ukasz" for "Łukasz".
    """
    reduced = (
        patient.name.encode(encoding, errors).decode(encoding)
        for patient in patients
        for encoding in ("latin-1", "ascii")
        for errors in ("ignore", "replace")
    )
    return replace(listed, name="") if listed.name in reduced else listed


def _refusal(found: str, next_step: str = "Tell the archive's administrator") -> ReadError:
    return ReadError(
        found=found,
        expected="the images of the requested study",
        next_step=f"{next_step}; nothing was kept",
    )
