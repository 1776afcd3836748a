"""Archive client for DICOMweb: QIDO-RS, WADO-RS, STOW-RS."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from dicomweb_client import DICOMwebClient
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from requests.auth import HTTPBasicAuth
from requests.exceptions import JSONDecodeError, RequestException, Timeout
from typing_extensions import override
from urllib3.exceptions import ReadTimeoutError

from lesionlens.base.errors import ResourceError
from lesionlens.base.records.patient import PatientField
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import is_uid
from lesionlens.site.pacs.credentials import login
from lesionlens.site.pacs.delivery import DeliveryInterruptedError, Ledger
from lesionlens.site.pacs.files import Outgoing, batches
from lesionlens.site.pacs.intake import Intake, Pacs
from lesionlens.site.pacs.multipart import MultipartError, boundary_of, parts
from lesionlens.site.pacs.peer import LIMIT, MAX_IMAGES, FoundStudy, StudyQuery, unreachable
from lesionlens.site.pacs.server import Server
from lesionlens.site.pacs.tls import client_context, tls_reason
from lesionlens.site.pacs.web_session import CHUNK_BYTES, WebSession

logging.getLogger("retrying").setLevel(logging.CRITICAL)  # it logs a traceback for each refusal

TIMEOUT_SECONDS = (10, 60)
"""Timeouts for connecting, and between two chunks of a response."""
_PAGE_SIZE = 1000
"""Number of images per list request."""
_FILTERS = {
    "PatientID": "patient_id",
    "PatientName": "patient_name",
    "StudyDate": "study_date",
    "StudyInstanceUID": "study_uid",
    "AccessionNumber": "accession",
    "ModalitiesInStudy": "modality",
}
_FIELDS = [
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
    *(field.value for field in PatientField),
]
_BUSY, _NOT_STORED = (429, 503), (400, 409, 413, 415, 422)
_BAD_REQUEST = (
    "Check the address: a path such as /dicom-web may be missing, or the port needs https"
)
_MALFORMED_RESPONSE = (
    ValueError, TypeError, KeyError, AttributeError, RecursionError, SyntaxError,  # the last: XML
)  # fmt: skip
_ORIGINAL_FILES = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class WebPacs(Pacs):
    """An archive accessed by DICOMweb."""

    def __init__(self, server: Server) -> None:
        self.address = server.address.rstrip("/")
        credentials = login(server.address, server.user)
        self._session = WebSession()
        # without explicit authentication, requests would read passwords from ~/.netrc
        self._session.auth = lambda request: request
        if credentials:
            self._session.auth = HTTPBasicAuth(*(text.encode() for text in credentials))
        client_context(server)  # unusable certificates are refused now
        if server.ca:
            self._session.verify = server.ca
        if server.certificate:
            self._session.cert = server.certificate
        self._client = DICOMwebClient(self.address, session=self._session, timeout=TIMEOUT_SECONDS)
        self._client.set_http_retry_params(retry=False)  # it would log each attempt

    @override
    def find(self, query: StudyQuery, *, context: RunContext = SILENT) -> tuple[FoundStudy, ...]:
        """Return the matching studies by date, at most `LIMIT`."""
        filters = {tag: getattr(query, name) for tag, name in _FILTERS.items()}
        criteria = {tag: value for tag, value in filters.items() if value}
        studies = self._search(criteria, context)
        return tuple(sorted(map(_found_study, studies), key=lambda study: study.study_date))

    def _search(self, filters: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
        """Return the studies that the archive lists, as DICOM JSON objects.

        An archive that returns fewer than it found warns of it (PS3.18, paging); the others are
        then requested.
        """
        items: list[dict[str, Any]] = []
        while True:
            with self._request(context, "the search"):
                page = self._client.search_for_studies(
                    fields=_FIELDS,
                    search_filters=dict(filters),
                    limit=LIMIT,
                    offset=len(items) or None,
                )
                for item in page:
                    _found_study(item)  # raises for a malformed item
            new = [item for item in page if item not in items]
            items += new
            if not (new and self._session.has_warned) or len(items) >= LIMIT:
                return items[:LIMIT]

    @override
    def _series(self, study_uid: str, context: RunContext) -> dict[str, str]:
        series: dict[str, str] = {}
        while True:  # as for studies
            with self._request(context, "the search"):
                page = self._client.search_for_series(
                    study_uid, fields=["SeriesDescription"], offset=len(series) or None
                )
                new = {_text(item, "0020000E"): _text(item, "0008103E") for item in page}
            is_complete = new.keys() <= series.keys() or not self._session.has_warned
            series |= new
            if is_complete:
                return series

    @override
    def _listing(self, study_uid: str, context: RunContext, series_uid: str = "") -> dict[str, str]:
        listed: dict[str, str] = {}
        while True:
            with self._request(context, "fetching the study"):
                page = self._client.search_for_instances(
                    study_uid, series_uid or None, offset=len(listed), limit=_PAGE_SIZE
                )
                new = {_text(item, "00080018"): _text(item, "00080016") for item in page}
            if new.keys() <= listed.keys() or len(listed) > MAX_IMAGES:
                return listed
            listed |= new

    @override
    def _fetch(self, study_uid: str, intake: Intake, context: RunContext) -> None:
        with (
            self._request(context, "fetching the study"),
            self._session.get(
                f"{self.address}/studies/{study_uid}",
                headers={"Accept": _ORIGINAL_FILES},
                stream=True,
                timeout=TIMEOUT_SECONDS,
            ) as response,
        ):
            response.raise_for_status()
            boundary = boundary_of(response.headers.get("Content-Type", ""))
            for part in parts(response.iter_content(CHUNK_BYTES), boundary):
                intake.add_file(part)

    @override
    def _store(self, ledger: Ledger, context: RunContext) -> None:
        """Send by STOW-RS, several files per request."""
        for batch in batches(ledger.remaining):
            with self._session.closed_by(context, "sending"):
                self._store_batch(batch, ledger)

    def _store_batch(self, batch: Sequence[Outgoing], ledger: Ledger) -> None:
        """Send files in one request, over a new connection.

        An archive may close a connection after any response, without notice; what is then sent
        over it is lost.
        """
        self._session.close()
        datasets = [item.load() for item in batch]
        try:
            response = self._client.store_instances(datasets)
            stored, failed = _stored_uids(response), _failure_reasons(response)
        except (JSONDecodeError, MultipartError) as error:
            raise DeliveryInterruptedError(self.address, _malformed(error)) from error
        except RequestException as error:
            status = _status(error)
            if status in _BUSY:
                raise DeliveryInterruptedError(
                    self.address, f"it is busy ({status})", _retry_after_seconds(error)
                ) from None
            if status not in _NOT_STORED:
                self._give_up(error)
            if len(batch) == 1:  # nothing of the request was stored
                ledger.refuse(batch[0], f"status {status}")
                return
            for item in batch:  # one by one, to find the refused files
                self._store_batch([item], ledger)
            return
        except _MALFORMED_RESPONSE as error:
            raise DeliveryInterruptedError(self.address, _malformed(error)) from error
        self._record(batch, stored, failed, ledger)

    def _record(
        self, batch: Sequence[Outgoing], stored: set[str], failed: Mapping[str, str], ledger: Ledger
    ) -> None:
        """Record the outcome of a request; a file that the response does not name is unknown."""
        for item in batch:
            if item.sop_instance in failed:
                ledger.refuse(item, failed[item.sop_instance])
            elif item.sop_instance in stored:
                ledger.store(item)
        if not stored.union(failed).issuperset(item.sop_instance for item in batch):
            raise DeliveryInterruptedError(
                self.address, "a response that does not name every file sent"
            )

    def _give_up(self, error: RequestException) -> NoReturn:
        if _status(error) is None and tls_reason(error) is None:
            raise DeliveryInterruptedError(self.address, _reason(error)[0]) from error
        raise unreachable(self.address, *_reason(error)) from error

    @contextmanager
    def _request(self, context: RunContext, stage: str) -> Iterator[None]:
        """Translate any problem with a response into an error that names the archive."""
        try:
            with self._session.closed_by(context, stage):
                yield
        except MultipartError as error:
            raise unreachable(
                self.address, str(error), "Fetch it again; nothing was kept"
            ) from error
        except JSONDecodeError as error:
            raise self._not_dicomweb(error) from error
        except RequestException as error:
            raise unreachable(self.address, *_reason(error)) from error
        except _MALFORMED_RESPONSE as error:
            raise self._not_dicomweb(error) from error

    def _not_dicomweb(self, error: Exception) -> ResourceError:
        return unreachable(
            self.address, _malformed(error), "Check the address: it often ends in /dicom-web or /rs"
        )


def _found_study(item: Mapping[str, Any]) -> FoundStudy:
    study = FoundStudy.of(
        lambda keyword: _text(item, f"{tag_for_keyword(keyword):08X}"), _values(item, "00080061")
    )
    if not is_uid(study.study_uid):
        raise ValueError("a study without a UID")
    return study


def _values(item: Mapping[str, Any], tag: str) -> list[Any]:
    return [value for value in item.get(tag, {}).get("Value") or [] if value is not None]


def _text(item: Mapping[str, Any], tag: str) -> str:
    """Return an attribute of a DICOM JSON object as text; of a name its alphabetic form."""
    value = next(iter(_values(item, tag)), "")
    return str(value.get("Alphabetic", "") if isinstance(value, dict) else value)


def _status(error: RequestException) -> int | None:
    return None if error.response is None else int(error.response.status_code)


def _retry_after_seconds(error: RequestException) -> float | None:
    """Return the waiting time that a busy archive asks for."""
    retry_after = "" if error.response is None else error.response.headers.get("Retry-After", "")
    return float(retry_after) if retry_after.isdecimal() else None


def _malformed(error: Exception) -> str:
    """Return what is wrong with a response."""
    if isinstance(error, MultipartError):
        return str(error)
    return f"it is not a DICOMweb response ({type(error).__name__})"


def _stored_uids(response: Dataset) -> set[str]:
    """Return the SOP Instance UIDs of the files that a response names as stored."""
    return {
        str(item.ReferencedSOPInstanceUID) for item in response.get("ReferencedSOPSequence") or ()
    }


def _failure_reasons(response: Dataset) -> dict[str, str]:
    """Return why files were not stored, by SOP Instance UID."""
    return {
        str(item.ReferencedSOPInstanceUID): f"reason {int(item.get('FailureReason') or 0):#06x}"
        for item in response.get("FailedSOPSequence") or ()
    }


def _reason(error: RequestException) -> tuple[str, str]:
    """Return what happened and what to do, without details of the request."""
    status = _status(error)
    if status in (401, 403):
        return f"status {status}, the user is not authorised", "Check --user and the password"
    if status is not None:
        is_plain_http = str(getattr(error.request, "url", "")).startswith("http:")
        return f"status {status}", _BAD_REQUEST if status == 400 and is_plain_http else ""
    tls = tls_reason(error)
    if tls is not None:
        return tls
    if isinstance(error, Timeout) or any(
        isinstance(argument, ReadTimeoutError) for argument in error.args
    ):
        return "the request timed out", "Try again later"
    return "no connection, or a broken one", "Check address and network"
