"""The Lens network analyses; prompts go to a server of nnInteractive that you run yourself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

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

ADDRESS, API_KEY = "NNINTERACTIVE_SERVER", "NNINTERACTIVE_API_KEY"
"""Environment variables: where the server listens; its key, where it asks for one."""
SEQUENCE = "NNINTERACTIVE_SEQUENCE"
"""Environment variable: which sequence it reads, such as t1c."""
_MADE_BY = "a server of nnInteractive"  # it does not tell its weights
_READ_FIRST = (MrSequence.FLAIR, MrSequence.T1C, MrSequence.T2, MrSequence.T1)


def connect() -> Any:
    """Return a `client.Server` at the address that the environment names."""
    from lesionlens_nninteractive import client

    address = os.environ.get(ADDRESS, "")
    if not address:
        hint = f"Start nninteractive-server; then set {ADDRESS}=http://localhost:1527."
        raise UnusableInputError("No server of nnInteractive is named.", hint=hint)
    return client.Server(address, os.environ.get(API_KEY))


class NnInteractiveEngine(LensEngine):
    """The Lens engine, whose prompts nnInteractive answers; it reads one sequence at a time."""

    name = "nninteractive"
    _server: Any = None
    _shown: PreparedStudy | None = None

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
        """Send what was pointed at; the image goes once a study. See `lesionlens.plugin.Engine`."""
        foreground, background = (
            set(map(tuple, points.tolist())) for points in (request.foreground, request.background)
        )
        if foreground & background or not (foreground or request.outline is not None):
            raise UnusableInputError(
                "The prompts do not tell what belongs to the lesion.", hint="Point at its middle."
            )
        context.check("asking nnInteractive")
        try:
            try:
                mask = self._ask(prepared, request)
            except ConnectionResetError:  # the server ended the session
                self._disconnect()
                mask = self._ask(prepared, request)
        except OSError as error:
            self._disconnect()
            raise ResourceError(
                f"The server of nnInteractive does not answer: {error}.",
                hint=f"Check that it runs at the address in {ADDRESS} and accepts {API_KEY}.",
            ) from error
        mask[tuple(request.foreground.T)], mask[tuple(request.background.T)] = True, False
        i, j, k = (slice(0, n) for n in mask.shape)
        attention = np.zeros(mask.shape, np.float32)  # it does not say what it attended to
        settled = np.zeros(mask.shape, bool)
        return PromptResponse((i, j, k), mask.astype(np.float32), attention, settled, _MADE_BY)

    def _ask(self, prepared: PreparedStudy, request: PromptRequest) -> NDArray[np.bool_]:
        image = prepared.images[sequence_of(prepared)]
        self._server = self._server or connect()
        if self._shown is not prepared:
            self._server.show(np.asarray(image, np.float32))
            self._shown = prepared
        shape = prepared.working.shape
        prompts = [(part, False) for part in _parts(request.background, shape)]
        prompts += [(part, True) for part in _parts(request.foreground, shape)]
        mask: NDArray[np.bool_] = self._server.ask(request.outline, prompts)
        return mask

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


def sequence_of(prepared: PreparedStudy) -> MrSequence:
    """Return the sequence that the server reads: the one that is named, or FLAIR, if present."""
    named = os.environ.get(SEQUENCE, "").lower()
    if named and named not in tuple(MrSequence):
        raise UnusableInputError(
            f"{SEQUENCE} is {named!r}.", hint=f"Set it to one of {', '.join(MrSequence)}."
        )
    order = (MrSequence(named), *_READ_FIRST) if named else _READ_FIRST
    return next(sequence for sequence in order if sequence in prepared.sequences)
