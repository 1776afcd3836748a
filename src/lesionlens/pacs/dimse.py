"""An archive that speaks DIMSE: C-FIND, C-GET, C-STORE over one association each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from lesionlens.base.errors import CancelledError, ExportError
from lesionlens.base.stages import NEVER, Cancel, Progress, check, no_progress
from lesionlens.base.staging import staged
from lesionlens.pacs.peer import FoundStudy, Query, check_empty, incomplete, unreachable

OWN_TITLE = "LESIONLENS"
IMAGES = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEG2000, JPEGLosslessSV1,
    RLELossless,
]  # fmt: skip
_PENDING = (0xFF00, 0xFF01)


class DimsePacs:
    """An archive by DIMSE; see `peer.Pacs`."""

    def __init__(self, host: str, port: int, title: str) -> None:
        self.host, self.port, self.title = host, port, title

    @property
    def address(self) -> str:
        """As the user wrote it."""
        return f"dicom://{self.title}@{self.host}:{self.port}"

    @contextmanager
    def _association(self, entity: AE, **options: Any) -> Iterator[Any]:
        entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = 30
        found = entity.associate(self.host, self.port, ae_title=self.title, **options)
        if not found.is_established:
            raise unreachable(self.address, "no association")
        try:
            yield found
        finally:
            if found.is_established:
                found.release()

    def find(self, query: Query) -> tuple[FoundStudy, ...]:
        """Return the studies that match, by date."""
        asked = Dataset()
        asked.QueryRetrieveLevel = "STUDY"
        asked.PatientID, asked.StudyDate = query.patient_id, query.study_date
        asked.StudyInstanceUID, asked.AccessionNumber = query.study_uid, query.accession
        asked.ModalitiesInStudy, asked.StudyDescription = query.modality, ""
        asked.NumberOfStudyRelatedInstances = None
        entity = AE(OWN_TITLE)
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
        found = []
        with self._association(entity) as link:
            for status, item in link.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind):
                if not status:
                    raise unreachable(self.address, "the connection broke")
                if status.Status in _PENDING and item is not None:
                    found.append(_study(item))
        return tuple(sorted(found, key=lambda s: s.study_date))

    def get(
        self,
        study_uid: str,
        target: Path,
        *,
        progress: Progress = no_progress,
        cancel: Cancel = NEVER,
    ) -> int:
        """Fetch the MR images of a study by C-GET, whole or not at all; return how many files."""
        check_empty(target)
        with staged(target) as aside:
            count = self._fetch(study_uid, aside, progress, cancel)
            if count == 0:
                raise incomplete(0, 1)
        return count

    def _fetch(self, study_uid: str, aside: Path, progress: Progress, cancel: Cancel) -> int:
        asked = Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", study_uid
        entity = AE(OWN_TITLE)
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
        for image in IMAGES:
            entity.add_requested_context(image, SYNTAXES)
        taken: list[Path] = []

        def keep(event: Any) -> int:
            if cancel.is_set():
                return 0xFE00
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            taken.append(aside / f"{len(taken) + 1:06d}.dcm")
            dataset.save_as(taken[-1], enforce_file_format=True)
            return 0x0000

        roles = [build_role(image, scp_role=True) for image in IMAGES]
        handlers = [(evt.EVT_C_STORE, keep)]
        with self._association(entity, ext_neg=roles, evt_handlers=handlers) as link:
            for status, _ in link.send_c_get(asked, StudyRootQueryRetrieveInformationModelGet):
                if cancel.is_set():
                    raise CancelledError("fetching the study")
                if not status or status.Status not in (*_PENDING, 0x0000):
                    code = f"status {status.Status:#06x}" if status else "the connection broke"
                    raise unreachable(self.address, code)
                left = status.get("NumberOfRemainingSuboperations") or 0
                progress("fetch", len(taken) / max(len(taken) + left, 1))
        return len(taken)

    def send(
        self, files: Sequence[Path], *, progress: Progress = no_progress, cancel: Cancel = NEVER
    ) -> int:
        """Store files by C-STORE; return how many. Raises where the archive refused one."""
        datasets = [pydicom.dcmread(path) for path in files]
        entity = AE(OWN_TITLE)
        for kind, syntax in sorted(
            {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}
        ):
            entity.add_requested_context(kind, syntax)
        with self._association(entity) as link:
            for number, dataset in enumerate(datasets):
                check(cancel, "sending")
                try:
                    status = link.send_c_store(dataset)
                except (ValueError, RuntimeError) as error:
                    raise _refused(number, type(error).__name__) from error
                if not status or status.Status != 0x0000:
                    raise _refused(number, f"{status.Status:#06x}" if status else "no answer")
                progress("send", (number + 1) / len(datasets))
        return len(datasets)


def _refused(taken: int, reason: str) -> ExportError:
    return ExportError(
        found=f"a file that the archive refused ({reason}); it took {taken} before",
        expected="all of them to be stored",
        next_step="Ask the archive's administrator which kinds of object it takes",
    )


def _study(item: Any) -> FoundStudy:
    modalities = item.get("ModalitiesInStudy") or ()
    parts = (modalities,) if isinstance(modalities, str) else tuple(str(m) for m in modalities)
    count = str(item.get("NumberOfStudyRelatedInstances") or "")
    return FoundStudy(
        study_uid=str(item.get("StudyInstanceUID") or ""),
        patient_id=str(item.get("PatientID") or ""),
        study_date=str(item.get("StudyDate") or ""),
        description=str(item.get("StudyDescription") or ""),
        modalities=parts,
        instances=int(count) if count.isdigit() else None,
    )
