"""Fetch a study by DIMSE: C-GET, or C-MOVE to a local storage provider."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedMRImageStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    KeyObjectSelectionDocumentStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    ParametricMapStorage,
    RLELossless,
    SegmentationStorage,
)
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as GetModel
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as MoveModel
from pynetdicom.sop_class import Verification

from lesionlens.base.errors import ResourceError, os_reason
from lesionlens.base.run_context import Cancel, CancelWhen, RunContext
from lesionlens.site.pacs.association import (
    MAX_CONTEXTS,
    MAX_PDU_BYTES,
    PENDING,
    WITHOUT_DELAYS,
    Peer,
    abort_association,
    own_interface,
    raise_if_stopped,
)
from lesionlens.site.pacs.intake import Intake
from lesionlens.site.pacs.peer import unreachable
from lesionlens.site.pacs.server import Retrieval
from lesionlens.site.pacs.tls import server_context

SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1,
    JPEGLSLossless, RLELossless, JPEGLossless, JPEG2000,
)  # fmt: skip
"""Transfer syntaxes that the reader can decode, uncompressed first."""
FIRST_KINDS = (
    MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage,
    SegmentationStorage, ParametricMapStorage, KeyObjectSelectionDocumentStorage,
    Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage,
)  # fmt: skip
"""SOP classes proposed first if the archive lists none."""
LATE_SECONDS = 30.0
"""How long images may still arrive after C-MOVE reported completion."""
_NOT_OFFERED = (0x0122, 0x0211, 0xA900)
_SUCCESS, _REFUSED = 0x0000, 0xC000


_PARTIAL_ADVICE = (
    "It may not send all kinds of objects this way: try --by get, --by move or its DICOMweb "
    "address; nothing was kept"
)


def fetch(peer: Peer, study_uid: str, intake: Intake, context: RunContext) -> None:
    """Fetch a study into the intake, by the chosen or a supported method.

    Raises
    ------
    ResourceError
        The archive does not send it.
    CancelledError
        The user cancelled.
    """
    method = Retrieval(peer.server.by)
    if method is Retrieval.MOVE or not _by_get(peer, study_uid, intake, context):
        if method is Retrieval.GET:
            raise unreachable(
                peer.address, "it does not respond to C-GET", "Fetch the study with --by move"
            )
        _by_move(peer, study_uid, intake, context)


def _by_get(peer: Peer, study_uid: str, intake: Intake, context: RunContext) -> bool:
    """Fetch by C-GET; False if the archive does not offer it."""
    sop_classes = _sop_classes(intake)
    roles = [build_role(sop_class, scp_role=True) for sop_class in sop_classes]
    contexts = [build_context(GetModel), *_storage_contexts(sop_classes)]
    handlers = [(evt.EVT_C_STORE, lambda event: _store_object(event, intake))]
    stop = _cancelled_or_refused(context, intake)
    with peer.associated(contexts, roles=roles, handlers=handlers, stop=stop) as assoc:
        if not any(context.abstract_syntax == GetModel for context in assoc.accepted_contexts):
            return False
        with _association_kept(peer, stop):
            responses = assoc.send_c_get(_study_request(study_uid), GetModel)
        return _await_responses(peer, responses, stop, intake, "Try --by move; nothing was kept")


def _by_move(peer: Peer, study_uid: str, intake: Intake, context: RunContext) -> None:
    """Fetch by C-MOVE: the archive connects to this machine."""
    stop = _cancelled_or_refused(context, intake)
    with (
        _storage_provider(peer, intake),
        peer.associated([build_context(MoveModel)], stop=stop) as assoc,
    ):
        try:
            with _association_kept(peer, stop):
                responses = assoc.send_c_move(
                    _study_request(study_uid), peer.server.title, MoveModel
                )
        except ValueError as error:
            raise unreachable(
                peer.address, "it offers neither C-GET nor C-MOVE", "Use its DICOMweb address"
            ) from error
        advice = (
            f"Ask its administrator to enter the local AE title {peer.server.title} with this "
            f"machine and port {peer.server.port} as a destination; nothing was kept"
        )
        if not _await_responses(peer, responses, stop, intake, advice):
            raise unreachable(peer.address, "it does not respond to C-MOVE", advice)
        _await_late(intake, stop)


@contextmanager
def _association_kept(peer: Peer, stop: Cancel) -> Iterator[None]:
    """Name an archive that ended the association before the request; it has listed the study."""
    try:
        yield
    except RuntimeError as error:
        raise_if_stopped(stop, "fetching the study")
        raise peer.connection_lost(1) from error


def _await_responses(
    peer: Peer, responses: Any, stop: Cancel, intake: Intake, next_step: str
) -> bool:
    """Process the archive's status responses; False if it does not support the service."""
    for status, _ in responses:
        if stop.is_set():
            return True  # the intake has the reason
        if not status and intake.count == 0:
            return False  # Orthanc's response if C-GET is not allowed
        if not status:
            raise peer.connection_lost(intake.count)
        if status.Status in PENDING or status.Status == _SUCCESS:
            continue
        if status.Status in _NOT_OFFERED:
            return False
        if intake.count:  # it knows the local AE title
            next_step = _PARTIAL_ADVICE
        raise unreachable(
            peer.address,
            f"status {status.Status:#06x} with {intake.count} of {len(intake.listed)} images here",
            next_step,
        )
    return True


def _store_object(event: Any, intake: Intake) -> int:
    """Store the data of one C-STORE request, with a file meta header."""
    return _SUCCESS if intake.try_add_file(event.encoded_dataset()) else _REFUSED


def _cancelled_or_refused(context: RunContext, intake: Intake) -> Cancel:
    """Return the flag of a cancellation by the user or of a refusal by the intake."""
    return CancelWhen(lambda: context.cancel.is_set() or intake.failure is not None)


def _sop_classes(intake: Intake) -> list[str]:
    """Return the SOP classes to negotiate: those of the study, or the usual ones."""
    listed = sorted({sop_class for sop_class in intake.listed.values() if sop_class})
    if len(listed) == len(set(intake.listed.values())):
        return listed[: MAX_CONTEXTS - 1]
    standard = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    return list(dict.fromkeys((*listed, *FIRST_KINDS, *standard)))[: MAX_CONTEXTS - 1]


def _storage_contexts(sop_classes: Sequence[str]) -> list[PresentationContext]:
    """Return one context per class and transfer syntax, so that images arrive as stored.

    If a study has too many classes for that, each class has one context with every syntax.
    """
    if len(sop_classes) * len(SYNTAXES) > MAX_CONTEXTS - 1:
        return [build_context(sop_class, list(SYNTAXES)) for sop_class in sop_classes]
    return [build_context(sop_class, syntax) for sop_class in sop_classes for syntax in SYNTAXES]


def _study_request(study_uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", study_uid
    return identifier


@contextmanager
def _storage_provider(peer: Peer, intake: Intake) -> Iterator[None]:
    """Listen for the archive on the interface that faces it, under the local AE title only."""
    entity = AE(peer.server.title)
    entity.require_called_aet = True
    entity.maximum_pdu_size = MAX_PDU_BYTES
    entity.add_supported_context(Verification)
    for sop_class in _sop_classes(intake):
        entity.add_supported_context(sop_class, list(SYNTAXES))
    handlers = [(evt.EVT_C_STORE, lambda event: _store_object(event, intake)), *WITHOUT_DELAYS]
    try:
        server = entity.start_server(
            (own_interface(peer.host, peer.port), peer.server.port),
            block=False,
            ssl_context=server_context(peer.server) if peer.secure else None,
            evt_handlers=handlers,
        )
    except OSError as error:
        raise ResourceError(
            found=f"that port {peer.server.port} of this machine cannot be opened "
            f"({os_reason(error)})",
            expected="a free port to which the archive sends the study (C-MOVE)",
            next_step="Choose the port configured for LesionLens in the archive with --port",
            in_window="Choose the port configured for LesionLens in the archive",
        ) from error
    try:
        yield
    finally:
        intake.close()
        for assoc in entity.active_associations:
            abort_association(assoc)
        if server is not None:
            server.shutdown()


def _await_late(intake: Intake, stop: Cancel) -> None:
    """Wait while images still arrive: some archives report completion too early."""
    timer = threading.Event()
    count, last_arrival = intake.count, time.monotonic()
    while intake.count < len(intake.listed) and not stop.is_set():
        timer.wait(0.1)
        if intake.count > count:
            count, last_arrival = intake.count, time.monotonic()
        if time.monotonic() - last_arrival > LATE_SECONDS:
            return
