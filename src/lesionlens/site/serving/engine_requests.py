"""Execute one request of a client on an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import GoneError, ServerError, UnusableInputError
from lesionlens.base.labels import Region, RequestKind
from lesionlens.base.process.fixed_arithmetic import fixed_arithmetic
from lesionlens.base.records.prediction import Trace
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.engine import Engine, SupportsFirstPass, SupportsPerturbation, Target
from lesionlens.engines.plugin_engines import (
    attribute,
    first_pass,
    predict,
    predict_perturbed,
    traced_weights,
)
from lesionlens.engines.remote import messages
from lesionlens.engines.remote.messages import Arrays, Header
from lesionlens.engines.remote.packing import pack, unpack
from lesionlens.site.serving.job_queue import Job

_UNPACKED_BYTES = 2**28
"""Maximum size of a request's arrays."""


@dataclass(eq=False, slots=True)
class SessionStudy:
    """A study of a session, with the engine's attention trace (None if missing or released)."""

    prepared: PreparedStudy
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A request of a client about a study."""

    header: Header
    message: bytes
    """The packed message; unpacked when it is executed, to save memory."""

    def arrays(self) -> Arrays:
        """Return the arrays of the message."""
        return unpack(self.message, limit_bytes=_UNPACKED_BYTES)[1]

    @property
    def kind(self) -> RequestKind | None:
        """Kind of request; None if unknown."""
        kind = str(self.header.get("kind"))
        return RequestKind(kind) if kind in set(RequestKind) else None


Response = tuple[Header, Arrays]


@fixed_arithmetic()
def respond(engine: Engine, study: SessionStudy, request: EngineRequest, job: Job) -> bytes:
    """Return the response message.

    Raises
    ------
    ServerError
        The request is unknown, or the engine does not support it.
    """
    if request.kind is None:
        raise _unknown_request(str(request.header.get("kind")))
    try:
        header, arrays = _HANDLERS[request.kind](engine, study, request, job)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _unknown_request(request.kind) from error
    return pack(header, arrays, np.asarray(study.prepared.brain))


def _predict(engine: Engine, study: SessionStudy, request: EngineRequest, job: Job) -> Response:
    del request
    prediction = predict(engine, study.prepared, context=job.context)
    study.trace = prediction.trace
    return messages.serialise_prediction(prediction)


def _perturbed(engine: Engine, study: SessionStudy, request: EngineRequest, job: Job) -> Response:
    perturbations = messages.deserialise_perturbations(request.header, request.arrays())
    perturbable = _require(engine, SupportsPerturbation)
    return messages.serialise_perturbed(
        predict_perturbed(perturbable, study.prepared, perturbations, context=job.context)
    )


def _first_pass(engine: Engine, study: SessionStudy, request: EngineRequest, job: Job) -> Response:
    del request
    supporting = _require(engine, SupportsFirstPass)
    return messages.serialise_first_pass(
        first_pass(supporting, study.prepared, context=job.context)
    )


def _grid(engine: Engine, study: SessionStudy, request: EngineRequest, job: Job) -> Response:
    del request, job
    grid = _require(engine, SupportsPerturbation).perturbation_grid(study.prepared)
    return {"grid": messages.serialise_grid(grid)}, {}


def _attribute(engine: Engine, study: SessionStudy, request: EngineRequest, job: Job) -> Response:
    del job
    target = Target(_region_of(study, request))
    return messages.serialise_volume(
        attribute(engine, study.prepared, target, str(request.header["method"]))
    )


def _probe(engine: Engine, study: SessionStudy, request: EngineRequest, job: Job) -> Response:
    del engine, job
    probe_row = _trace_of(study).probe_row
    i, j, k = (int(value) for value in request.header["voxel"])
    if probe_row is None:
        raise _unknown_request(RequestKind.PROBE)
    return _values_response(traced_weights(probe_row, study.prepared, (i, j, k)))


def _layer(engine: Engine, study: SessionStudy, request: EngineRequest, job: Job) -> Response:
    del engine, job
    header, trace = request.header, _trace_of(study)
    head = None if header["head"] is None else int(header["head"])
    if trace.layer_attention is None:
        raise _unknown_request(RequestKind.LAYER)
    layer, region = int(header["layer"]), _region_of(study, request)
    return _values_response(
        traced_weights(trace.layer_attention, study.prepared, region, layer, head)
    )


_HANDLERS: dict[RequestKind, Callable[[Engine, SessionStudy, EngineRequest, Job], Response]] = {
    RequestKind.PREDICT: _predict,
    RequestKind.PERTURBED: _perturbed,
    RequestKind.PRELIMINARY: _first_pass,
    RequestKind.GRID: _grid,
    RequestKind.ATTRIBUTE: _attribute,
    RequestKind.PROBE: _probe,
    RequestKind.LAYER: _layer,
}


def _values_response(values: NDArray[np.float32]) -> Response:
    return {}, {"values": values}


def _region_of(study: SessionStudy, request: EngineRequest) -> Region:
    region = Region(request.header["region"])
    if region not in study.prepared.regions:
        raise UnusableInputError(
            found=f"a request about the {region.display_name} of a study without T1c",
            expected="a region that the sequences can show",
            next_step="Request the whole tumour or its core, or send T1c too",
        )
    return region


def _trace_of(study: SessionStudy) -> Trace:
    if study.trace is None:
        raise GoneError("trace")
    return study.trace


def _require(engine: Engine, protocol: Any) -> Any:
    if not isinstance(engine, protocol):
        raise UnusableInputError(
            found=f"a request that {engine.info.name} does not support",
            expected="a request covered by its capabilities",
            next_step="Choose another of the server's models",
        )
    return engine


def _unknown_request(kind: str) -> ServerError:
    return ServerError(
        found=f"an unknown or incomplete request ({kind!r:.40})",
        expected=f"one of {', '.join(RequestKind)}",
        next_step="Compare the versions of LesionLens on both sides",
    )
