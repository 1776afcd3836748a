"""Archive client for DIMSE: C-FIND, C-GET or C-MOVE, C-STORE."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FindModel
from typing_extensions import override

from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.text import is_uid
from lesionlens.site.pacs.association import MAX_CONTEXTS, PENDING, Peer, raise_if_stopped
from lesionlens.site.pacs.delivery import DeliveryInterruptedError, Ledger
from lesionlens.site.pacs.files import Outgoing
from lesionlens.site.pacs.intake import Intake, Pacs
from lesionlens.site.pacs.peer import LIMIT, MAX_IMAGES, FoundStudy, StudyQuery, unreachable
from lesionlens.site.pacs.retrieve import fetch
from lesionlens.site.pacs.server import Server

_NO_RESOURCES = 0xA700
_STORED = (0x0000, 0xB000, 0xB006, 0xB007, 0x0107, 0x0116)
"""Success, and warnings with which a data set was stored."""


class DimsePacs(Pacs):
    """An archive accessed by DIMSE."""

    def __init__(self, server: Server) -> None:
        self.address = server.address
        self._peer = Peer(server)

    @override
    def find(self, query: StudyQuery, *, context: RunContext = SILENT) -> tuple[FoundStudy, ...]:
        """Return the matching studies by date, at most `LIMIT`."""
        identifier = _query("STUDY", StudyInstanceUID=query.study_uid)
        identifier.PatientID, identifier.PatientName = query.patient_id, query.patient_name
        identifier.StudyDate, identifier.AccessionNumber = query.study_date, query.accession
        identifier.ModalitiesInStudy, identifier.StudyDescription = query.modality, ""
        identifier.NumberOfStudyRelatedInstances = None
        identifier.IssuerOfPatientID = identifier.PatientBirthDate = identifier.PatientSex = ""
        with self._find_association(context) as assoc:
            found = map(_found_study, self._matches(assoc, identifier, context, LIMIT))
            studies = [study for study in found if is_uid(study.study_uid)]
        return tuple(sorted(studies, key=lambda study: study.study_date))

    @override
    def _series(self, study_uid: str, context: RunContext) -> dict[str, str]:
        identifier = _query(
            "SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", SeriesDescription=""
        )
        with self._find_association(context) as assoc:
            return {
                _text(item, "SeriesInstanceUID"): _text(item, "SeriesDescription")
                for item in self._matches(assoc, identifier, context, MAX_IMAGES)
            }

    @override
    def _listing(self, study_uid: str, context: RunContext, series_uid: str = "") -> dict[str, str]:
        listed: dict[str, str] = {}
        with self._find_association(context) as assoc:
            series_query = _query(
                "SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid
            )
            for series in list(self._matches(assoc, series_query, context, MAX_IMAGES)):
                image_query = _query(
                    "IMAGE",
                    StudyInstanceUID=study_uid,
                    SeriesInstanceUID=_text(series, "SeriesInstanceUID"),
                    SOPInstanceUID="",
                    SOPClassUID="",
                )
                for image in self._matches(assoc, image_query, context, MAX_IMAGES, n_before=1):
                    listed[_text(image, "SOPInstanceUID")] = _text(image, "SOPClassUID")
        return listed

    @override
    def _fetch(self, study_uid: str, intake: Intake, context: RunContext) -> None:
        fetch(self._peer, study_uid, intake, context)

    def _find_association(self, context: RunContext) -> Any:
        return self._peer.associated([build_context(FindModel)], stop=context.cancel)

    def _matches(
        self, assoc: Any, identifier: Dataset, context: RunContext, limit: int, n_before: int = 0
    ) -> Iterator[Any]:
        """Yield a limited number of matches of a query, after earlier ones of the association."""
        count = 0
        try:
            for status, item in assoc.send_c_find(identifier, FindModel):
                raise_if_stopped(context.cancel, "the search")
                if not status:
                    raise self._peer.connection_lost(n_before + count)
                if status.Status in PENDING and item is None:
                    raise unreachable(
                        self.address,
                        "a match that cannot be decoded",
                        "Narrow the search, so that it leaves that study out, and tell the "
                        "archive's administrator",
                    )
                if status.Status in PENDING:
                    count += 1
                    if count > limit:
                        assoc.abort()  # further matches are not needed
                        return
                    yield item
                elif status.Status != 0x0000:
                    raise unreachable(
                        self.address,
                        f"status {status.Status:#06x} to the query",
                        "Narrow the search or try again later; the archive's log states the reason",
                    )
        except RuntimeError as error:  # the archive ended the association before the query
            raise_if_stopped(context.cancel, "the search")
            raise self._peer.connection_lost(n_before) from error
        except ValueError as error:  # no such service was negotiated
            raise unreachable(
                self.address, "it offers no search (C-FIND, Study Root)", "Use its DICOMweb address"
            ) from error

    @override
    def _store(self, ledger: Ledger, context: RunContext) -> None:
        """Send by C-STORE, with a presentation context for each SOP class and transfer syntax."""
        items = ledger.remaining
        proposed = sorted({pair for item in items for pair in _offers(item)})[:MAX_CONTEXTS]
        contexts = [build_context(sop_class, syntax) for sop_class, syntax in proposed]
        with self._peer.associated(contexts, stop=context.cancel) as assoc:
            accepted = {
                (accepted_context.abstract_syntax, accepted_context.transfer_syntax[0])
                for accepted_context in assoc.accepted_contexts
            }
            for item in items:
                context.check("sending")
                if not accepted.isdisjoint(_offers(item)):
                    self._store_one(assoc, item, ledger, context)
                elif (item.sop_class, item.syntax) in proposed:
                    ledger.refuse(item, "it does not accept this kind of object")
        if ledger.remaining:  # more classes than one association can negotiate
            self._store(ledger, context)

    def _store_one(self, assoc: Any, item: Outgoing, ledger: Ledger, context: RunContext) -> None:
        content = item.load()
        try:
            status = assoc.send_c_store(content)
        except (ValueError, RuntimeError, AttributeError) as error:
            raise_if_stopped(context.cancel, "sending")
            if assoc.is_established:
                ledger.refuse(item, f"it cannot be sent as it is ({type(error).__name__})")
                return
            raise DeliveryInterruptedError(self.address, "the connection broke") from error
        raise_if_stopped(context.cancel, "sending")
        if not status and not ledger.count and not ledger.has_listing:
            raise self._peer.connection_lost(0)
        if not status:
            raise DeliveryInterruptedError(self.address, "the connection broke")
        if status.Status in _STORED:
            ledger.store(item)
        elif status.Status & 0xFF00 == _NO_RESOURCES:
            raise DeliveryInterruptedError(
                self.address, f"it is out of resources ({status.Status:#06x})"
            )
        else:
            ledger.refuse(item, f"status {status.Status:#06x}")


def _offers(item: Outgoing) -> tuple[tuple[str, str], ...]:
    """Return a file's SOP class with each transfer syntax in which it can be sent.

    Every archive must accept Implicit VR Little Endian (PS3.5, 10.1), some accept nothing else.
    """
    as_stored = (item.sop_class, item.syntax)
    implicit_vr = (item.sop_class, str(ImplicitVRLittleEndian))
    return (as_stored, implicit_vr) if item.syntax == ExplicitVRLittleEndian else (as_stored,)


def _query(level: str, **keys: str) -> Dataset:
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _text(item: Any, keyword: str) -> str:
    """Return an attribute as text; empty if absent or unreadable."""
    try:
        return str(item.get(keyword) or "")
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
        return ""


def _found_study(item: Any) -> FoundStudy:
    modalities = item.get("ModalitiesInStudy") or ()
    several = (modalities,) if isinstance(modalities, str) else modalities
    return FoundStudy.of(partial(_text, item), several)
