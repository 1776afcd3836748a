"""The Lens network analyses; prompts go to a server of nnInteractive that you run yourself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.engines.lens.engine import LensEngine

ADDRESS = "NNINTERACTIVE_SERVER"
"""Environment variable: where the server listens."""
API_KEY = "NNINTERACTIVE_API_KEY"
"""Environment variable: its key, where it asks for one."""
SEQUENCE = "NNINTERACTIVE_SEQUENCE"
"""Environment variable: which sequence it reads, such as t1c."""
_READ_FIRST = (MrSequence.FLAIR, MrSequence.T1C, MrSequence.T2, MrSequence.T1)


class Session(Protocol):
    """What is used of `nnInteractiveRemoteInferenceSession`."""

    def set_image(self, image: NDArray[np.float32]) -> Any:
        """Take an image (C, X, Y, Z)."""

    def set_target_buffer(self, target: NDArray[np.uint8]) -> Any:
        """Take the array (X, Y, Z) that answers are written into."""

    def reset_interactions(self) -> Any:
        """Forget all prompts."""

    def add_initial_seg_interaction(self, initial_seg: Any, run_prediction: bool = False) -> Any:
        """Take an outline to begin with."""

    def add_point_interaction(
        self, coordinates: Any, include_interaction: bool, run_prediction: bool = True
    ) -> Any:
        """Take a point."""


def connect() -> Session:
    """Connect to the server that the environment names.

    Raises
    ------
    UnusableInputError
        None is named.
    """
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    address = os.environ.get(ADDRESS, "")
    if not address:
        raise UnusableInputError(
            found="no server of nnInteractive",
            expected=f"its address in {ADDRESS}",
            next_step=f"Start nninteractive-server; then {ADDRESS}=http://localhost:1527",
        )
    found: Session = nnInteractiveRemoteInferenceSession(address, api_key=os.environ.get(API_KEY))
    return found


class NnInteractiveEngine(LensEngine):
    """The Lens engine, whose prompts nnInteractive answers; it reads one sequence at a time."""

    name = "nninteractive"

    def __init__(self, device: str = "auto", weights: str | None = None) -> None:
        super().__init__(device, weights)
        self._session: Session | None = None
        self._shown: tuple[PreparedStudy, NDArray[np.uint8]] | None = None

    @override
    def forget(self) -> None:
        super().forget()
        self._shown = None

    @override
    def answer_prompts(
        self,
        prepared: PreparedStudy,
        question: PromptRequest,
        probability: Mapping[Region, NDArray[np.float32]] | None,
        *,
        context: RunContext,
    ) -> PromptResponse:
        """Send what was pointed at; the image goes once a study. See `SupportsPrompts`.

        Raises
        ------
        UnusableInputError
            Prompts contradict each other, or none says what belongs to the thing.
        ResourceError
            The server does not answer.
        """
        _check(question)
        context.check("asking nnInteractive")
        try:
            mask = self._asked(prepared, question)
        except (OSError, RuntimeError) as error:  # its client raises httpx's errors as these
            raise ResourceError(
                found=f"no answer of nnInteractive's server ({error})",
                expected="its answer",
                next_step=f"Look whether it runs at the address in {ADDRESS}",
            ) from error
        mask[tuple(question.foreground.T)], mask[tuple(question.background.T)] = True, False
        i, j, k = (slice(0, n) for n in prepared.working.shape)
        marks = np.zeros(mask.shape, np.float32)  # it does not say what it attended to
        return PromptResponse((i, j, k), mask.astype(np.float32), marks, np.zeros(mask.shape, bool))

    def _asked(self, prepared: PreparedStudy, question: PromptRequest) -> NDArray[np.bool_]:
        if self._session is None:
            self._session = connect()
        session = self._session
        if self._shown is None or self._shown[0] is not prepared:
            target = np.zeros(prepared.working.shape, np.uint8)
            session.set_image(np.asarray(prepared.channels[_sequence(prepared)][None], np.float32))
            session.set_target_buffer(target)
            self._shown = prepared, target
        target = self._shown[1]
        session.reset_interactions()
        target[...] = 0
        if question.outline is not None:
            session.add_initial_seg_interaction(question.outline.astype(np.uint8))
        points = [(at, False) for at in question.background] + [
            (at, True) for at in question.foreground
        ]
        for number, (at, belongs) in enumerate(points, 1):
            session.add_point_interaction(
                tuple(at.tolist()), belongs, run_prediction=number == len(points)
            )
        return target > 0


def _check(question: PromptRequest) -> None:
    both = {*map(tuple, question.foreground.tolist())} & {*map(tuple, question.background.tolist())}
    if both or (not len(question.foreground) and question.outline is None):
        raise UnusableInputError(
            found="a voxel that is both part of it and not" if both else "no prompt for it",
            expected="a place that belongs to the thing, or an outline to correct",
            next_step="Point at the middle of the lesion",
        )


def _sequence(prepared: PreparedStudy) -> int:
    foreground = os.environ.get(SEQUENCE)
    order = (MrSequence(foreground), *_READ_FIRST) if foreground else _READ_FIRST
    every = list(MrSequence)
    return next(every.index(one) for one in order if prepared.present[every.index(one)])
