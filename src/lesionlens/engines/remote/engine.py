"""An engine that runs on a LesionLens server."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lesionlens.base.errors import GoneError, ResourceError, ServerError, UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region, RequestKind
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    FirstPass,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
)
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import validation
from lesionlens.engines.engine import Target
from lesionlens.engines.remote import messages
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.engines.remote.connection import WAITING, Connection, fields_of
from lesionlens.engines.remote.messages import Arrays, Header
from lesionlens.engines.remote.packing import pack, unpack

Floats = NDArray[np.float32]
SENDING = "sending the brain's voxels"
_POLL_S = 0.25


class _Missing(TypedDict):
    missing: list[str]


class _JobState(TypedDict):
    done: bool
    stage: str
    fraction: float
    seen: int


class RemoteEngine:
    """Client of a server's engine; created by `connect`.

    Only the brain's voxels of a study are sent, once; later requests send only their arguments. The
    server keeps the study in memory during the session. If it lost the study, because it was
    restarted or needed the memory, the study is sent again silently.
    """

    def __init__(self, connection: Connection) -> None:
        self._line = connection
        self._last: tuple[PreparedStudy, messages.SerialisedStudy] | None = None
        self._held: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, capabilities of the server's engine.

        Prompts are answered locally: see `Result.prompt`.
        """
        about = messages.info_in(self._line.about["engine"])
        here = about.capabilities - {Capability.PROMPT}
        return replace(about, device=self._place(about.device), capabilities=here)

    def _place(self, device: str) -> str:
        return f"{device}, on the server {self._line.address.name}"

    def close(self) -> None:
        """End the session: the server deletes the study."""
        self._line.close()

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `engines.engine.Engine.predict`."""
        header, arrays = self._ask(prepared, _RemoteQuestion(RequestKind.PREDICT), context)
        with messages.readable():
            found = messages.prediction_in(
                header,
                arrays,
                self._place(str(header["engine"]["device"])),
                partial(self._probe, prepared),
                partial(self._layer, prepared),
            )
        self._check(validation.defects(found, prepared))
        return replace(found, notices=(*found.notices, *self._notices()))

    def _notices(self) -> tuple[str, ...]:
        there, here = self._line.about["version"], version("lesionlens")
        if there == here:
            return ()
        return (f"The network ran in LesionLens {there} on the server; here it is {here}",)

    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> Volume:
        """Attribute by a method of the server's engine; see `engines.engine.Engine.attribute`."""
        about = {"region": target.region.value, "method": method}
        _, arrays = self._ask(prepared, _RemoteQuestion(RequestKind.ATTRIBUTE, about), SILENT)
        return Volume(self._weights(arrays, prepared), prepared.working)

    def _weights(self, arrays: Arrays, prepared: PreparedStudy) -> Floats:
        with messages.readable():
            values = arrays["values"]
        self._check(validation.defects_of_weights(values, prepared.working.shape))
        return values

    def _check(self, defects: Iterable[tuple[str, str]]) -> None:
        """Refuse a response with defects, however it came about there."""
        for what, expected in defects:
            raise ServerError(
                found=f"an answer of {self._line.address.name} with {what}",
                expected=expected,
                next_step="Tell the server's administrator, or analyse on this machine",
            )

    def _probe(self, prepared: PreparedStudy, voxel: tuple[int, int, int]) -> Floats:
        return self._ask_trace(
            prepared, _RemoteQuestion(RequestKind.PROBE, {"voxel": [int(v) for v in voxel]})
        )

    def _layer(
        self, prepared: PreparedStudy, region: Region, layer: int, head: int | None
    ) -> Floats:
        about = {"region": region.value, "layer": layer, "head": head}
        return self._ask_trace(prepared, _RemoteQuestion(RequestKind.LAYER, about))

    def _ask_trace(self, prepared: PreparedStudy, question: _RemoteQuestion) -> Floats:
        """Request data of the server's trace; if it is gone, the study is predicted again."""
        patience = _RetryLimit(self._line.address)
        while True:
            try:
                _, arrays = self._ask(prepared, question, SILENT)
                return self._weights(arrays, prepared)
            except GoneError:
                patience.one_more()
                self._ask(prepared, _RemoteQuestion(RequestKind.PREDICT), SILENT)

    def _ask(
        self, prepared: PreparedStudy, question: _RemoteQuestion, context: RunContext
    ) -> tuple[Header, Mapping[str, NDArray[Any]]]:
        """Send one request about a study; if the server lost the study, it is sent again."""
        context.check(SENDING)
        if not prepared.knows_brain:
            raise UnusableInputError(
                found="a head whose brain could not be outlined",
                expected="a brain: nothing else leaves this machine",
                next_step="Look at the brain's outline, or analyse on this machine",
            )
        study = self._serialised(prepared)
        patience = _RetryLimit(self._line.address)
        while True:
            session = self._line.session
            try:
                self._send_study(study, context)
                asked = pack(
                    {"kind": question.kind.value, "study": study.name, **question.about},
                    question.arrays,
                )
                answer = self._run(asked, context)
                return unpack(answer, np.asarray(prepared.brain))
            except GoneError as error:
                self._held.discard((session, study.name))
                if error.what == "trace":
                    raise
                patience.one_more()
                if error.what == "session":
                    reopen = partial(self._line.reopen, session)
                    self._line.patiently(reopen, SENDING, context)

    def _serialised(self, prepared: PreparedStudy) -> messages.SerialisedStudy:
        """Return a study in its serialised form; the last one is cached."""
        with self._lock:
            if self._last is None or self._last[0] is not prepared:
                self._last = (prepared, messages.serialise_study(prepared))
            return self._last[1]

    def _send_study(self, study: messages.SerialisedStudy, context: RunContext) -> None:
        """Send the parts of a study that the server does not have."""
        held = (self._line.session, study.name)
        if held in self._held:
            return

        patiently = partial(self._patiently, SENDING, context)
        answer = patiently("POST", "/studies", json=study.manifest)
        missing = fields_of(answer, _Missing, self._line.address)["missing"]
        for number, name in enumerate(missing):
            context.progress(SENDING, number / len(missing))
            with messages.readable():
                part = study.parts[name]
            patiently("PUT", f"/parts/{name}", data=part)
        if missing:
            patiently("POST", "/studies", json=study.manifest)
            context.progress(SENDING, 1.0)
        self._held.add(held)

    def _run(self, asked: bytes, context: RunContext) -> bytes:
        """Run one job on the server and return its response; resumes after a lost connection.

        The job ID is chosen by the client, so that it runs once however often the connection is
        lost.
        """
        path = f"/jobs/{uuid.uuid4().hex}"
        patiently = partial(self._patiently, WAITING, context)
        try:
            patiently("PUT", path, data=asked)
            seen = 0
            while True:
                answer = patiently("GET", f"{path}?wait={_POLL_S}&seen={seen}")
                state = fields_of(answer, _JobState, self._line.address)
                if state["done"]:
                    break
                seen = state["seen"]
                context.progress(state["stage"], state["fraction"])
                context.check(state["stage"])
            answer = patiently("GET", f"{path}/answer")
            context.progress(state["stage"], 1.0)
            return answer
        finally:
            with contextlib.suppress(ServerError):
                self._line.ask("DELETE", path)

    def _patiently(
        self, stage: str, context: RunContext, method: str, path: str, **how: Any
    ) -> bytes:
        attempt = partial(self._line.ask, method, path, **how)
        answer: bytes = self._line.patiently(attempt, stage, context)
        return answer


class _RetryLimit:
    """Limit on how long a server may keep losing the study."""

    def __init__(self, address: ServerAddress) -> None:
        self._address, self._first = address, 0.0

    def one_more(self) -> None:
        """Count one more loss; raise if the time limit is reached."""
        now = time.monotonic()
        self._first = self._first or now
        if now - self._first > self._address.patience_s:
            raise ResourceError(
                found=f"that {self._address.name} repeatedly loses the study",
                expected="a server that keeps it while it is in use",
                next_step="Give the server more memory, or try again when it is less busy",
            )


@dataclass(frozen=True, slots=True)
class _RemoteQuestion:
    """A request about a study: kind, arguments and arrays."""

    kind: RequestKind
    about: Header = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


class RemotePerturbable(RemoteEngine):
    """A remote engine with `Capability.PERTURB`."""

    def perturbation_grid(self, prepared: PreparedStudy) -> Grid:
        """Return the grid of `predict_perturbed`."""
        question = _RemoteQuestion(RequestKind.GRID)
        header, _ = self._ask(prepared, question, SILENT)
        with messages.readable():
            return messages.grid_in(header["grid"])

    def predict_perturbed(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        *,
        context: RunContext,
    ) -> PerturbedPrediction:
        """Run a pass on each input; see `engines.engine.SupportsPerturbation`."""
        about, hidden = messages.perturbations_out(perturbations)
        answer = self._ask(prepared, _RemoteQuestion(RequestKind.PERTURBED, about, hidden), context)
        with messages.readable():
            found = messages.perturbed_in(*answer)
        self._check(validation.defects_perturbed(found, len(perturbations)))
        return found


class RemoteQuick(RemotePerturbable):
    """A remote engine with a first pass."""

    def first_pass(self, prepared: PreparedStudy, *, context: RunContext) -> FirstPass:
        """Run a coarse pass; see `engines.engine.SupportsFirstPass`."""
        answer = self._ask(prepared, _RemoteQuestion(RequestKind.PRELIMINARY), context)
        with messages.readable():
            found = messages.first_pass_in(*answer)
        self._check(validation.defects_perturbed(found.seen, 1))
        return found


def connect(
    device: str = "auto", *, server: str | ServerAddress | None = None, model: str | None = None
) -> RemoteEngine:
    """Return a client for a server's engine, with exactly its capabilities.

    Parameters
    ----------
    device : str
        Must be "auto": the server chooses its device.
    model : str or None
        Which of its models; None for its first.

    Raises
    ------
    UnusableInputError
        No server, or a device, was named; http to another machine.
    ServerError
        It does not answer, refuses the key, has no such model or speaks another version.
    """
    if server is None or device != "auto":
        raise UnusableInputError(
            found="no server" if server is None else f"the device {device!r} beside a server",
            expected="the server's address alone: which device it uses is its own choice",
            next_step="Name it with --server URL and leave out --device",
            in_window="Name the server in the settings",
        )
    line = Connection(ServerAddress(server) if isinstance(server, str) else server, model)
    if Capability.PERTURB not in messages.info_in(line.about["engine"]).capabilities:
        return RemoteEngine(line)
    return RemoteQuick(line) if line.about["first_look"] else RemotePerturbable(line)
