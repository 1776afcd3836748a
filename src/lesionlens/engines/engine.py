"""What an engine is: the one interface behind which any network lives.

Engines are found by the entry-point group `lesionlens.engines`, never imported from here. An
engine declares what it can do (`EngineInfo.capabilities`); what it cannot do stays None in the
result, with a notice, and nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import (
    EngineInfo,
    FirstPass,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
)
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext


@dataclass(frozen=True, slots=True)
class Target:
    """What an attribution explains: the evidence for a region."""

    region: Region


class Engine(Protocol):
    """A network, or anything else, that predicts a prepared study."""

    @property
    def info(self) -> EngineInfo:
        """Name, version, weights, capabilities, device."""

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Answer on the working grid.

        Parameters
        ----------
        prepared : PreparedStudy
            Channels in scanner units: any normalisation is the engine's own.
        context : RunContext
            Called with, and checked between, all steps that take longer than a moment.

        Raises
        ------
        CancelledError
            The user asked to stop.
        ResourceError
            The device or the memory does not suffice.
        """

    def attribute(self, prepared: PreparedStudy, target: Target, method: str) -> Volume:
        """Explain by gradients or occlusion, on the working grid.

        Parameters
        ----------
        prepared : PreparedStudy
            The study.
        target : Target
            The region.
        method : str
            Such as "gradient", "grad-cam" or "occlusion".

        Raises
        ------
        UnusableInputError
            The engine has no such method; the message lists those it has.
        """


@runtime_checkable
class SupportsPerturbation(Protocol):
    """The part of an engine with `Capability.PERTURB`."""

    def perturbation_grid(self, prepared: PreparedStudy) -> Grid:
        """Return the grid of `predict_perturbed`."""

    def predict_perturbed(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        *,
        context: RunContext,
    ) -> PerturbedPrediction:
        """Run a quick first pass over the whole brain on each perturbed input.

        The input that keeps all sequences gives what `predict` put into `Prediction.unperturbed`.
        """


@runtime_checkable
class SupportsFirstPass(Protocol):
    """The part of an engine that can say quickly, before `predict`, what it is about to flag."""

    def first_look(self, prepared: PreparedStudy, *, context: RunContext) -> FirstPass:
        """Run a coarse pass over the whole brain; `predict` need not run that again."""


@runtime_checkable
class SupportsPrompts(Protocol):
    """The part of an engine with `Capability.PROMPT`."""

    def answer_prompts(
        self,
        prepared: PreparedStudy,
        question: PromptRequest,
        probability: Mapping[Region, NDArray[np.float32]] | None,
        *,
        context: RunContext,
    ) -> PromptResponse:
        """Outline what was pointed at, or correct an outline, on the working grid.

        Parameters
        ----------
        prepared : PreparedStudy
            The study.
        question : PromptRequest
            In voxels of the working grid.
        probability : mapping or None
            The prediction's, where the study was analysed.
        context : RunContext
            As everywhere.

        Raises
        ------
        UnusableInputError
            Prompts contradict each other, lie outside the brain, or nothing stands out there.
        """


def unknown_method(method: str, expected: str, next_step: str) -> UnusableInputError:
    """Return the error of an engine that is requested a method of attribution it has not."""
    return UnusableInputError(
        found=f"the attribution method {method!r}", expected=expected, next_step=next_step
    )


@runtime_checkable
class SupportsForgetting(Protocol):
    """The part of an engine that keeps something of the last study between questions."""

    def forget(self) -> None:
        """Let go all that is kept of a study."""


def as_prompted(engine: object) -> SupportsPrompts | None:
    """Return the engine where it takes prompts, else None."""
    return engine if isinstance(engine, SupportsPrompts) else None


def as_perturbable(engine: object) -> SupportsPerturbation | None:
    """Return the engine where it predicts perturbed inputs, else None."""
    return engine if isinstance(engine, SupportsPerturbation) else None
