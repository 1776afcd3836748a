"""The Lens network analyses; prompts go to a server of nnInteractive that you run yourself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from typing_extensions import override

from lesionlens.plugin import (
    LensEngine,
    MrSequence,
    Points,
    PreparedStudy,
    PromptRequest,
    PromptResponse,
    Region,
    ResourceError,
    RunContext,
    Shape3,
    UnusableInputError,
)

ADDRESS = "NNINTERACTIVE_SERVER"
"""Environment variable: where the server listens."""
API_KEY = "NNINTERACTIVE_API_KEY"
"""Environment variable: its key, where it asks for one."""
SEQUENCE = "NNINTERACTIVE_SEQUENCE"
"""Environment variable: which sequence it reads, such as t1c."""
_MADE_BY = "a server of nnInteractive"  # it does not tell its weights
_READ_FIRST = (MrSequence.FLAIR, MrSequence.T1C, MrSequence.T2, MrSequence.T1)


class Server(Protocol):
    """What is used of `lesionlens_nninteractive.client.Server`."""

    def show(self, image: NDArray[np.float32]) -> None:
        """Upload an image (I, J, K)."""

    def ask(
        self, outline: NDArray[np.bool_] | None, prompts: Sequence[tuple[Points, bool]]
    ) -> NDArray[np.bool_]:
        """Return the mask (I, J, K)."""

    def close(self) -> None:
        """Free the session on the server."""


def connect() -> Server:
    """Connect to the server that the environment names.

    Raises
    ------
    UnusableInputError
        None is named.
    OSError
        The server does not respond.
    """
    from lesionlens_nninteractive import client

    address = os.environ.get(ADDRESS, "")
    if not address:
        raise UnusableInputError(
            found="no server of nnInteractive",
            expected=f"its address in {ADDRESS}",
            next_step=f"Start nninteractive-server; then {ADDRESS}=http://localhost:1527",
        )
    return client.Server(address, os.environ.get(API_KEY))


class NnInteractiveEngine(LensEngine):
    """The Lens engine, whose prompts nnInteractive answers; it reads one sequence at a time."""

    name = "nninteractive"

    def __init__(self, device: str = "auto", weights: str | None = None) -> None:
        super().__init__(device, weights)
        self._server: Server | None = None
        self._shown: PreparedStudy | None = None

    @override
    def forget(self) -> None:
        super().forget()
        self._disconnect()

    @override
    def prompt(
        self,
        prepared: PreparedStudy,
        request: PromptRequest,
        probability: Mapping[Region, NDArray[np.float32]] | None,
        *,
        context: RunContext,
    ) -> PromptResponse:
        """Send what was pointed at; the image goes once a study. See `Engine`.

        Raises
        ------
        UnusableInputError
            Prompts contradict each other, or none says what belongs to the thing; no server is
            named, or an unknown sequence.
        ResourceError
            The server does not answer, or refuses.
        """
        _check(request)
        context.check("asking nnInteractive")
        try:
            try:
                mask = self._ask(prepared, request)
            except ConnectionResetError:
                self._disconnect()
                mask = self._ask(prepared, request)
        except OSError as error:
            self._disconnect()
            raise ResourceError(
                found=f"no answer of nnInteractive's server ({error})",
                expected="its answer",
                next_step=f"Check that it runs at the address in {ADDRESS} and accepts {API_KEY}",
            ) from error
        mask[tuple(request.foreground.T)], mask[tuple(request.background.T)] = True, False
        i, j, k = (slice(0, n) for n in prepared.working.shape)
        marks = np.zeros(mask.shape, np.float32)  # it does not say what it attended to
        settled = np.zeros(mask.shape, bool)
        return PromptResponse((i, j, k), mask.astype(np.float32), marks, settled, _MADE_BY)

    def _ask(self, prepared: PreparedStudy, request: PromptRequest) -> NDArray[np.bool_]:
        sequence = _sequence(prepared)
        if self._server is None:
            self._server = connect()
        if self._shown is not prepared:
            self._server.show(np.asarray(prepared.channels[sequence], np.float32))
            self._shown = prepared
        shape = prepared.working.shape
        prompts = [(part, False) for part in _parts(request.background, shape)]
        prompts += [(part, True) for part in _parts(request.foreground, shape)]
        return self._server.ask(request.outline, prompts)

    def _disconnect(self) -> None:
        server, self._server, self._shown = self._server, None, None
        if server is not None:
            server.close()


def _parts(points: Points, shape: Shape3) -> list[Points]:
    """Split (N, 3) voxels into points, of one voxel, and scribbles, of several that touch."""
    marked = np.zeros(shape, bool)
    marked[tuple(points.T)] = True
    labels, count = ndimage.label(marked, np.ones((3, 3, 3)))
    return [np.argwhere(labels == number) for number in range(1, count + 1)]


def _check(request: PromptRequest) -> None:
    both = {*map(tuple, request.foreground.tolist())} & {*map(tuple, request.background.tolist())}
    if both or (not len(request.foreground) and request.outline is None):
        raise UnusableInputError(
            found="a voxel that is both part of it and not" if both else "no prompt for it",
            expected="a place that belongs to the thing, or an outline to correct",
            next_step="Point at the middle of the lesion",
        )


def _sequence(prepared: PreparedStudy) -> int:
    named, every = os.environ.get(SEQUENCE, "").lower(), list(MrSequence)
    if named and named not in every:
        raise UnusableInputError(
            found=f"{SEQUENCE}={named}",
            expected=f"one of {', '.join(every)}",
            next_step=f"Set {SEQUENCE} to one of these, or remove it",
        )
    order = (MrSequence(named), *_READ_FIRST) if named else _READ_FIRST
    return next(every.index(one) for one in order if prepared.present[every.index(one)])
