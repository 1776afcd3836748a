"""An engine that runs on a LesionLens server."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lesionlens.base.errors import GoneError, ResourceError, ServerError, UnusableInputError
from lesionlens.base.geometry import Floats
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
from lesionlens.engines.defects import (
    Defect,
    defects_of,
    defects_of_first_pass,
    defects_of_perturbed,
    defects_of_weights,
)
from lesionlens.engines.engine import Target
from lesionlens.engines.remote import messages
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.engines.remote.connection import (
    DELETE_TIMEOUT_S,
    POLL_TIMEOUT_S,
    WAITING,
    Connection,
    fields_of,
)
from lesionlens.engines.remote.messages import Arrays, Header
from lesionlens.engines.remote.packing import pack, unpack

SENDING = "sending the brain's voxels"
_POLL_S = 0.25
_BY_ANY_NETWORK = (RequestKind.PREDICT, RequestKind.PRELIMINARY)
"""Requests that need no earlier prediction."""


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
    restarted or needed the memory, the study is sent again silently; if it has another network
    meanwhile, the study has to be analysed again.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last: tuple[PreparedStudy, messages.SerialisedStudy] | None = None
        self._sent_studies: set[tuple[str, str]] = set()
        self._networks: dict[str, tuple[str, str, str | None]] = {}
        self._lock = threading.Lock()

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, capabilities of the server's engine.

        Prompts are answered locally: see `Result.prompt`.
        """
        server_engine = messages.deserialise_info(self._connection.about["engine"])
        capabilities = server_engine.capabilities - {Capability.PROMPT}
        return replace(
            server_engine, device=self._device_text(server_engine.device), capabilities=capabilities
        )

    def _device_text(self, device: str) -> str:
        return f"{device}, on the server {self._connection.address.name}"

    def forget(self) -> None:
        """Release the last study; see `engines.engine.SupportsForgetting`. The server keeps it."""
        with self._lock:
            self._last = None

    def close(self) -> None:
        """End the session: the server deletes the study."""
        self._connection.close()

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `engines.engine.Engine.predict`."""
        header, arrays = self._request(prepared, RequestKind.PREDICT, context)
        self._networks[self._serialised(prepared).name] = self._network
        with messages.readable():
            prediction = messages.deserialise_prediction(
                header,
                arrays,
                self._device_text(str(header["engine"]["device"])),
                partial(self._probe, prepared),
                partial(self._layer, prepared),
            )
        self._check(defects_of(prediction, prepared))
        return replace(prediction, notices=(*prediction.notices, *self._notices()))

    def _notices(self) -> tuple[str, ...]:
        server_version, client_version = self._connection.about["version"], version("lesionlens")
        if server_version == client_version:
            return ()
        return (
            f"The network ran in LesionLens {server_version} on the server; this machine has "
            f"{client_version}",
        )

    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> Volume:
        """Attribute by a method of the server's engine; see `engines.engine.Engine.attribute`."""
        arguments = {"region": target.region.value, "method": method}
        _, arrays = self._request(prepared, RequestKind.ATTRIBUTE, SILENT, arguments)
        return Volume(self._weights(arrays, prepared), prepared.working)

    def _weights(self, arrays: Arrays, prepared: PreparedStudy) -> Floats:
        with messages.readable():
            values = arrays["values"]
        self._check(defects_of_weights(values, prepared.working.shape))
        return values

    def _check(self, defects: Iterable[Defect]) -> None:
        """Raise a ServerError for the first defect of a response, if it has any."""
        for defect, expected in defects:
            raise ServerError(
                found=f"a response from {self._connection.address.name} with {defect}",
                expected=expected,
                next_step="Tell the server's administrator, or analyse on this machine",
            )

    def _probe(self, prepared: PreparedStudy, voxel: tuple[int, int, int]) -> Floats:
        arguments = {"voxel": [int(v) for v in voxel]}
        return self._request_trace(prepared, RequestKind.PROBE, arguments)

    def _layer(
        self, prepared: PreparedStudy, region: Region, layer: int, head: int | None
    ) -> Floats:
        arguments = {"region": region.value, "layer": layer, "head": head}
        return self._request_trace(prepared, RequestKind.LAYER, arguments)

    def _request_trace(
        self, prepared: PreparedStudy, kind: RequestKind, arguments: Header
    ) -> Floats:
        """Request data of the server's trace; if it is gone, the study is predicted again."""
        retry_limit = _RetryLimit(self._connection.address)
        while True:
            try:
                _, arrays = self._request(prepared, kind, SILENT, arguments)
                return self._weights(arrays, prepared)
            except GoneError:
                retry_limit.count_loss()
                self._request(prepared, RequestKind.PREDICT, SILENT)

    def _request(
        self,
        prepared: PreparedStudy,
        kind: RequestKind,
        context: RunContext,
        arguments: Header | None = None,
        arrays: Arrays | None = None,
    ) -> tuple[Header, Mapping[str, NDArray[Any]]]:
        """Send one request about a study; if the server lost the study, it is sent again."""
        context.check(SENDING)
        if not prepared.knows_brain:
            raise UnusableInputError(
                found="a head in which no brain was found",
                expected="a brain mask: only voxels of the brain leave this machine",
                next_step="Check the images and the brain mask, or analyse on this machine",
            )
        study = self._serialised(prepared)
        retry_limit = _RetryLimit(self._connection.address)
        while True:
            session = self._connection.session
            try:
                self._send_study(study, context)
                header = {"kind": kind.value, "study": study.name, **(arguments or {})}
                response = self._run(pack(header, arrays), context)
                if kind not in _BY_ANY_NETWORK:
                    self._check_network(study.name)
                return unpack(response, np.asarray(prepared.brain))
            except GoneError as error:
                self._sent_studies.discard((session, study.name))
                if error.kind == "trace":
                    raise
                retry_limit.count_loss()
                if error.kind == "session":
                    reopen = partial(self._connection.reopen, session)
                    self._connection.with_retries(reopen, SENDING, context)

    @property
    def _network(self) -> tuple[str, str, str | None]:
        """Name, version and SHA-256 of the weights of the server's engine."""
        return self.info.name, self.info.version, self.info.weights_sha256

    def _check_network(self, study: str) -> None:
        """Refuse an answer of another network than the one that predicted a study."""
        network = self._network
        if self._networks.get(study, network) != network:
            raise ServerError(
                found=f"another network than before on {self._connection.address.name}: "
                f"{network[0]} {network[1]}",
                expected="the one that predicted this study",
                next_step="Analyse the study again",
            )

    def _serialised(self, prepared: PreparedStudy) -> messages.SerialisedStudy:
        """Return a study in its serialised form; the last one is cached."""
        with self._lock:
            if self._last is None or self._last[0] is not prepared:
                self._last = (prepared, messages.serialise_study(prepared))
            return self._last[1]

    def _send_study(self, study: messages.SerialisedStudy, context: RunContext) -> None:
        """Send the parts of a study that the server does not have."""
        key = (self._connection.session, study.name)
        if key in self._sent_studies:
            return
        send = partial(self._send_with_retries, SENDING, context)
        post = partial(send, "POST", "/studies", json=study.manifest, timeout=POLL_TIMEOUT_S)
        response = post()
        missing = fields_of(response, _Missing, self._connection.address)["missing"]
        for number, name in enumerate(missing):
            context.progress(SENDING, number / len(missing))
            with messages.readable():
                part = study.parts[name]
            send("PUT", f"/parts/{name}", data=part)
        if missing:
            post()
            context.progress(SENDING, 1.0)
        self._sent_studies.add(key)

    def _run(self, message: bytes, context: RunContext) -> bytes:
        """Run one job on the server and return its response; resumes after a lost connection.

        The client chooses the job ID, so that the job runs once even if the connection is lost
        repeatedly.
        """
        path = f"/jobs/{uuid.uuid4().hex}"
        send = partial(self._send_with_retries, WAITING, context, timeout=POLL_TIMEOUT_S)
        try:
            send("PUT", path, data=message)
            seen_reports = 0
            while True:
                poll = f"{path}?wait={_POLL_S}&seen={seen_reports}"
                response = send("GET", poll)
                state = fields_of(response, _JobState, self._connection.address)
                if state["done"]:
                    break
                seen_reports = state["seen"]
                context.progress(state["stage"], state["fraction"])
                context.check(state["stage"])
            response = send("GET", f"{path}/answer")
            context.progress(state["stage"], 1.0)
            return response
        finally:
            with contextlib.suppress(ServerError):
                self._connection.ask("DELETE", path, timeout=DELETE_TIMEOUT_S)

    def _send_with_retries(
        self, stage: str, context: RunContext, method: str, path: str, **options: Any
    ) -> bytes:
        check = partial(context.check, stage)
        attempt = partial(self._connection.ask, method, path, check=check, **options)
        response: bytes = self._connection.with_retries(attempt, stage, context)
        return response


class _RetryLimit:
    """Limit on how long a server may keep losing the study."""

    def __init__(self, address: ServerAddress) -> None:
        self._address, self._first_loss = address, 0.0

    def count_loss(self) -> None:
        """Count one more loss; raise if the time limit is reached."""
        now = time.monotonic()
        self._first_loss = self._first_loss or now
        if now - self._first_loss > self._address.patience_s:
            raise ResourceError(
                found=f"that {self._address.name} repeatedly loses the study",
                expected="a server that keeps it while it is in use",
                next_step="Give the server more memory, or try again when it is less busy",
            )


class RemotePerturbable(RemoteEngine):
    """A remote engine with `Capability.PERTURB`."""

    def perturbation_grid(self, prepared: PreparedStudy) -> Grid:
        """Return the grid of `predict_perturbed`."""
        header, _ = self._request(prepared, RequestKind.GRID, SILENT)
        with messages.readable():
            return messages.deserialise_grid(header["grid"])

    def predict_perturbed(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        *,
        context: RunContext,
    ) -> PerturbedPrediction:
        """Run a pass on each input; see `engines.engine.SupportsPerturbation`."""
        arguments, hidden = messages.serialise_perturbations(perturbations)
        response = self._request(prepared, RequestKind.PERTURBED, context, arguments, hidden)
        with messages.readable():
            predictions = messages.deserialise_perturbed(*response)
        self._check(defects_of_perturbed(predictions, len(perturbations)))
        return predictions


class RemoteFirstPass(RemotePerturbable):
    """A remote engine with a first pass."""

    def first_pass(self, prepared: PreparedStudy, *, context: RunContext) -> FirstPass:
        """Run a coarse pass; see `engines.engine.SupportsFirstPass`."""
        response = self._request(prepared, RequestKind.PRELIMINARY, context)
        with messages.readable():
            result = messages.deserialise_first_pass(*response)
        self._check(defects_of_first_pass(result))
        return result


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
            found="no server" if server is None else f"both a server and the device {device!r}",
            expected="only the server's address: the server chooses its device",
            next_step="Name it with --server URL and leave out --device",
            in_window="Name the server in the settings",
        )
    connection = Connection(ServerAddress(server) if isinstance(server, str) else server, model)
    if Capability.PERTURB not in messages.deserialise_info(connection.about["engine"]).capabilities:
        return RemoteEngine(connection)
    return (
        RemoteFirstPass(connection)
        if connection.about["first_look"]
        else RemotePerturbable(connection)
    )
