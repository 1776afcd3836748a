"""An archive that speaks DICOMweb: QIDO-RS, WADO-RS, STOW-RS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import (
    add_certs_to_session,
    create_session,
    create_session_from_user_pass,
)
from requests.exceptions import RequestException

from lesionlens.base.errors import ExportError, UnusableInputError
from lesionlens.base.stages import NEVER, Cancel, Progress, check, no_progress
from lesionlens.base.staging import staged
from lesionlens.pacs.credentials import login
from lesionlens.pacs.peer import FoundStudy, Query, check_empty, incomplete, unreachable

BATCH = 20
"""Files in one request."""
_FILTERS = {
    "PatientID": "patient_id",
    "StudyDate": "study_date",
    "StudyInstanceUID": "study_uid",
    "AccessionNumber": "accession",
    "ModalitiesInStudy": "modality",
}
_FIELDS = ["StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances"]


class WebPacs:
    """An archive by DICOMweb; see `peer.Pacs`."""

    def __init__(
        self, address: str, *, user: str | None = None, ca_bundle: Path | None = None
    ) -> None:
        self.address = address
        known = login(address, user)
        session = create_session_from_user_pass(*known) if known else create_session()
        if ca_bundle is not None:
            session = add_certs_to_session(session, str(ca_bundle), None)
        self._client = DICOMwebClient(address, session=session, timeout=30)

    def find(self, query: Query) -> tuple[FoundStudy, ...]:
        """Return the studies that match, by date."""
        filters = {tag: getattr(query, name) for tag, name in _FILTERS.items()}
        wanted = {tag: value for tag, value in filters.items() if value}
        try:
            found = self._client.search_for_studies(fields=_FIELDS, search_filters=wanted)
        except (RequestException, ValueError) as error:
            raise unreachable(self.address, _reason(error)) from error
        studies = (_study(pydicom.Dataset.from_json(item)) for item in found)
        return tuple(sorted(studies, key=lambda s: s.study_date))

    def get(
        self,
        study_uid: str,
        target: Path,
        *,
        progress: Progress = no_progress,
        cancel: Cancel = NEVER,
    ) -> int:
        """Fetch a study into an empty or new folder, whole or not at all; return how many files."""
        check_empty(target)
        listed = self.find(Query(study_uid=study_uid, modality=""))
        if not listed:
            raise UnusableInputError(
                found=f"no study {study_uid} in the archive",
                expected="a Study UID from `lesionlens pacs find`",
                next_step="Search again: it may have been moved or hidden",
            )
        expected = listed[0].instances
        with staged(target) as aside:
            count = self._fetch(study_uid, aside, expected, progress, cancel)
            if count == 0 or (expected is not None and count < expected):
                raise incomplete(count, expected or 1)
        return count

    def _fetch(
        self, study_uid: str, aside: Path, expected: int | None, progress: Progress, cancel: Cancel
    ) -> int:
        count = 0
        try:
            images = self._client.iter_study(study_uid, media_types=(("application/dicom", "*"),))
            for dataset in images:
                check(cancel, "fetching the study")
                count += 1
                dataset.save_as(aside / f"{count:06d}.dcm", enforce_file_format=True)
                progress("fetch", min(count / (expected or count + 1), 1.0))
        except (RequestException, ValueError, EOFError) as error:
            raise unreachable(self.address, _reason(error)) from error
        return count

    def send(
        self, files: Sequence[Path], *, progress: Progress = no_progress, cancel: Cancel = NEVER
    ) -> int:
        """Store files; return how many the archive took. Raises where it refused one."""
        taken = 0
        for start in range(0, len(files), BATCH):
            check(cancel, "sending")
            batch = [pydicom.dcmread(path) for path in files[start : start + BATCH]]
            try:
                answer = self._client.store_instances(batch)
            except (RequestException, ValueError) as error:
                raise unreachable(self.address, _reason(error)) from error
            refused = len(answer.get("FailedSOPSequence") or ())
            taken += len(batch) - refused
            if refused:
                raise ExportError(
                    found=f"{refused} file(s) that the archive refused; it took {taken}",
                    expected="all of them to be stored",
                    next_step="Ask the archive's administrator which kinds of object it takes",
                )
            progress("send", min((start + BATCH) / len(files), 1.0))
        return taken


def _study(item: Any) -> FoundStudy:
    def text(keyword: str) -> str:
        return str(item.get(keyword) or "")

    modalities = item.get("ModalitiesInStudy") or ()
    parts = (modalities,) if isinstance(modalities, str) else tuple(str(m) for m in modalities)
    count = text("NumberOfStudyRelatedInstances")
    return FoundStudy(
        study_uid=text("StudyInstanceUID"),
        patient_id=text("PatientID"),
        study_date=text("StudyDate"),
        description=text("StudyDescription"),
        modalities=parts,
        instances=int(count) if count.isdigit() else None,
    )


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"status {response.status_code}"
    return type(error).__name__
