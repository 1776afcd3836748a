"""Archive client for DIMSE: C-FIND, C-GET or C-MOVE, C-STORE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FindModel
from typing_extensions import override

from lesionlens.base.records.patient import Patient
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.uids import is_uid
from lesionlens.site.pacs.association import MAX_CONTEXTS, Peer, raise_if_stopped
from lesionlens.site.pacs.delivery import BrokenOffError, Ledger
from lesionlens.site.pacs.files import Outgoing
from lesionlens.site.pacs.intake import Intake, Pacs
from lesionlens.site.pacs.peer import (
    LIMIT,
    MAX_IMAGES,
    Access,
    FoundStudy,
    StudyQuery,
    unreachable,
)
from lesionlens.site.pacs.retrieve import fetch

_PENDING = (0xFF00, 0xFF01)
_NO_RESOURCES = 0xA700
_STORED = (0x0000, 0xB000, 0xB006, 0xB007, 0x0107, 0x0116)
"""Success, and warnings with which a data set was stored."""


class DimsePacs(Pacs):
    """An archive accessed by DIMSE."""

    def __init__(self, address: str, access: Access) -> None:
        self.address = address
        self._peer = Peer(address, access)

    @override
    def find(self, query: StudyQuery, *, context: RunContext = SILENT) -> tuple[FoundStudy, ...]:
        """Return the matching studies by date, at most `LIMIT`."""
        identifier = _query("STUDY", StudyInstanceUID=query.study_uid)
        identifier.PatientID, identifier.PatientName = query.patient_id, query.patient_name
        identifier.StudyDate, identifier.AccessionNumber = query.study_date, query.accession
        identifier.ModalitiesInStudy, identifier.StudyDescription = query.modality, ""
        identifier.NumberOfStudyRelatedInstances = None
        identifier.IssuerOfPatientID = identifier.PatientBirthDate = identifier.PatientSex = ""
        with self._finding(context) as link:
            found = [_study(item) for item in self._answers(link, identifier, context, LIMIT)]
        return tuple(sorted((s for s in found if is_uid(s.study_uid)), key=lambda s: s.study_date))

    @override
    def _series(self, study_uid: str, context: RunContext) -> dict[str, str]:
        identifier = _query(
            "SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", SeriesDescription=""
        )
        with self._finding(context) as link:
            return {
                _text(item, "SeriesInstanceUID"): _text(item, "SeriesDescription")
                for item in self._answers(link, identifier, context, MAX_IMAGES)
            }

    @override
    def _listing(self, study_uid: str, context: RunContext, series_uid: str = "") -> dict[str, str]:
        listed: dict[str, str] = {}
        with self._finding(context) as link:
            series = _query("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid)
            for found in list(self._answers(link, series, context, MAX_IMAGES)):
                images = _query(
                    "IMAGE",
                    StudyInstanceUID=study_uid,
                    SeriesInstanceUID=_text(found, "SeriesInstanceUID"),
                    SOPInstanceUID="",
                    SOPClassUID="",
                )
                for item in self._answers(link, images, context, MAX_IMAGES):
                    listed[_text(item, "SOPInstanceUID")] = _text(item, "SOPClassUID")
        return listed

    @override
    def _fetch(self, study_uid: str, intake: Intake, context: RunContext) -> None:
        fetch(self._peer, study_uid, intake, context)

    def _finding(self, context: RunContext) -> Any:
        return self._peer.associated([build_context(FindModel)], stop=context.cancel)

    def _answers(
        self, link: Any, identifier: Dataset, context: RunContext, most: int
    ) -> Iterator[Any]:
        """Yield a limited number of matches of a query."""
        count = 0
        try:
            for status, item in link.send_c_find(identifier, FindModel):
                raise_if_stopped(context.cancel, "the search")
                if not status:
                    raise self._peer.broke(count)
                if status.Status in _PENDING and item is not None:
                    count += 1
                    if count > most:
                        link.abort()  # further matches are not needed
                        return
                    yield item
                elif status.Status != 0x0000:
                    raise unreachable(self.address, f"status {status.Status:#06x} to the query")
        except ValueError as error:  # no such service was negotiated
            raise unreachable(
                self.address, "it offers no search (C-FIND, Study Root)", "Use its DICOMweb address"
            ) from error

    @override
    def _store(self, ledger: Ledger, context: RunContext) -> None:
        """Send by C-STORE, with a presentation context for each SOP class and transfer syntax."""
        items = ledger.left
        pairs = sorted({pair for item in items for pair in _offers(item)})[:MAX_CONTEXTS]
        contexts = [build_context(kind, syntax) for kind, syntax in pairs]
        with self._peer.associated(contexts, stop=context.cancel) as link:
            agreed = {(c.abstract_syntax, c.transfer_syntax[0]) for c in link.accepted_contexts}
            for item in items:
                context.check("sending")
                if not agreed.isdisjoint(_offers(item)):
                    self._store_one(link, item, ledger, context)
                elif (item.sop_class, item.syntax) in pairs:
                    ledger.refuse(item, "it does not accept this kind of object")
        if ledger.left:  # more classes than one association can negotiate
            self._store(ledger, context)

    def _store_one(self, link: Any, item: Outgoing, ledger: Ledger, context: RunContext) -> None:
        content = item.load()
        try:
            status = link.send_c_store(content)
        except (ValueError, RuntimeError, AttributeError) as error:
            raise_if_stopped(context.cancel, "sending")
            if link.is_established:
                ledger.refuse(item, f"it cannot be sent as it is ({type(error).__name__})")
                return
            raise BrokenOffError(self.address, "the connection broke") from error
        raise_if_stopped(context.cancel, "sending")
        if not status and not ledger.count and not ledger.answered:
            raise self._peer.broke(0)
        if not status:
            raise BrokenOffError(self.address, "the connection broke")
        if status.Status in _STORED:
            ledger.store(item)
        elif status.Status & 0xFF00 == _NO_RESOURCES:
            raise BrokenOffError(self.address, f"it is out of resources ({status.Status:#06x})")
        else:
            ledger.refuse(item, f"status {status.Status:#06x}")


def _offers(item: Outgoing) -> tuple[tuple[str, str], ...]:
    """Return a file's SOP class with each transfer syntax in which it can be sent.

    Every archive must accept Implicit VR Little Endian (PS3.5, 10.1), some accept nothing else.
    """
    own = (item.sop_class, item.syntax)
    default = (item.sop_class, str(ImplicitVRLittleEndian))
    return (own, default) if item.syntax == ExplicitVRLittleEndian else (own,)


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


def _study(item: Any) -> FoundStudy:
    count = _text(item, "NumberOfStudyRelatedInstances")
    modalities = item.get("ModalitiesInStudy") or ()
    return FoundStudy(
        study_uid=_text(item, "StudyInstanceUID"),
        patient_id=_text(item, "PatientID"),
        patient_name=_text(item, "PatientName"),
        study_date=_text(item, "StudyDate"),
        description=_text(item, "StudyDescription"),
        accession=_text(item, "AccessionNumber"),
        modalities=(modalities,) if isinstance(modalities, str) else tuple(map(str, modalities)),
        instances=int(count) if count.isdecimal() else None,
        patient=Patient.of(lambda keyword: _text(item, keyword)),
    )
