"""Execute one request of a client on an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import LesionLensError, ServerError, UnusableInputError
from lesionlens.base.labels import Region, RequestKind
from lesionlens.base.records.prediction import Trace
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines.engine import Engine, SupportsFirstPass, SupportsPerturbation, Target
from lesionlens.engines.plugged_in import predict
from lesionlens.engines.remote import messages
from lesionlens.engines.remote.messages import Arrays, Header
from lesionlens.engines.remote.packing import pack, unpack
from lesionlens.site.serving.turns import Job

_UNPACKED_BYTES = 2**28
"""Maximum size of a request's arrays."""


class NoTraceError(LesionLensError):
    """The attention trace is no longer held."""


@dataclass(eq=False, slots=True)
class HeldStudy:
    """A study of a session, with the engine's attention trace (None if missing or released)."""

    prepared: PreparedStudy
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class Question:
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
        word = str(self.header.get("kind"))
        return RequestKind(word) if word in set(RequestKind) else None


Answer = tuple[Header, Arrays]


def answer(engine: Engine, study: HeldStudy, question: Question, job: Job) -> bytes:
    """Return the response message.

    Raises
    ------
    ServerError
        There is no such question, or the engine cannot be asked it.
    """
    if question.kind is None:
        raise _unknown(str(question.header.get("kind")))
    try:
        header, arrays = _ASKED[question.kind](engine, study, question, job)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, LesionLensError):
            raise
        raise _unknown(question.kind) from error
    return pack(header, arrays, np.asarray(study.prepared.brain))


def _predict(engine: Engine, study: HeldStudy, question: Question, job: Job) -> Answer:
    del question
    found = predict(engine, study.prepared, context=job.context)
    study.trace = found.trace
    return messages.prediction_out(found)


def _perturbed(engine: Engine, study: HeldStudy, question: Question, job: Job) -> Answer:
    perturbations = messages.perturbations_in(question.header, question.arrays())
    able = _able(engine, SupportsPerturbation)
    return messages.perturbed_out(
        able.predict_perturbed(
            study.prepared,
            perturbations,
            context=job.context,
        )
    )


def _first_look(engine: Engine, study: HeldStudy, question: Question, job: Job) -> Answer:
    del question
    able = _able(engine, SupportsFirstPass)
    return messages.first_look_out(able.first_look(study.prepared, context=job.context))


def _grid(engine: Engine, study: HeldStudy, question: Question, job: Job) -> Answer:
    del question, job
    grid = _able(engine, SupportsPerturbation).perturbation_grid(study.prepared)
    return {"grid": messages.grid_out(grid)}, {}


def _attribute(engine: Engine, study: HeldStudy, question: Question, job: Job) -> Answer:
    del job
    target = Target(_region_of(study, question))
    return messages.volume_out(
        engine.attribute(study.prepared, target, str(question.header["method"]))
    )


def _probe(engine: Engine, study: HeldStudy, question: Question, job: Job) -> Answer:
    del engine, job
    row = _trace_of(study).probe_row
    i, j, k = (int(v) for v in question.header["voxel"])
    if row is None:
        raise _unknown(RequestKind.PROBE)
    return _values(row((i, j, k)))


def _layer(engine: Engine, study: HeldStudy, question: Question, job: Job) -> Answer:
    del engine, job
    header, trace = question.header, _trace_of(study)
    head = None if header["head"] is None else int(header["head"])
    if trace.layer_attention is None:
        raise _unknown(RequestKind.LAYER)
    return _values(trace.layer_attention(_region_of(study, question), int(header["layer"]), head))


_ASKED: dict[RequestKind, Callable[[Engine, HeldStudy, Question, Job], Answer]] = {
    RequestKind.PREDICT: _predict,
    RequestKind.PERTURBED: _perturbed,
    RequestKind.FIRST_LOOK: _first_look,
    RequestKind.GRID: _grid,
    RequestKind.ATTRIBUTE: _attribute,
    RequestKind.PROBE: _probe,
    RequestKind.LAYER: _layer,
}


def _values(values: NDArray[np.float32]) -> Answer:
    return {}, {"values": values}


def _region_of(study: HeldStudy, question: Question) -> Region:
    region = Region(question.header["region"])
    if region not in study.prepared.regions:
        raise UnusableInputError(
            found=f"a question about the {region.words} of a study without T1c",
            expected="a region that its sequences can show",
            next_step="Ask about the whole tumour or its core, or send T1c too",
        )
    return region


def _trace_of(study: HeldStudy) -> Trace:
    if study.trace is None:
        raise NoTraceError(
            found="a study whose attention the server holds no longer",
            expected="one that was predicted in this session",
            next_step="Predict it again",
        )
    return study.trace


def _able(engine: Engine, protocol: Any) -> Any:
    if not isinstance(engine, protocol):
        raise UnusableInputError(
            found=f"a question that {engine.info.name} cannot be asked",
            expected="one that its capabilities name",
            next_step="Choose another of the server's models",
        )
    return engine


def _unknown(kind: str) -> ServerError:
    return ServerError(
        found=f"a question that is not understood ({kind!r:.40})",
        expected=f"one of {', '.join(RequestKind)}, complete",
        next_step="Compare the versions of LesionLens on both sides",
    )
