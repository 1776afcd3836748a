"""The engine protocol: the interface of any network.

Engines are found by the entry-point group `lesionlens.engines`, never imported from here. An engine
declares its capabilities (`EngineInfo.capabilities`); unsupported fields of the result are None,
with a notice, and are never invented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
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


class Engine(Protocol):
    """A network, or any other method, that makes predictions for a prepared study."""

    @property
    def info(self) -> EngineInfo:
        """Name, version, weights, capabilities, device."""

    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid.

        Parameters
        ----------
        prepared : PreparedStudy
            Channels in scanner units; normalisation is up to the engine.
        context : RunContext
            For progress and cancellation between all longer steps.

        Raises
        ------
        CancelledError
            The user asked to stop.
        ResourceError
            The device or the memory is insufficient.
        """


@runtime_checkable
class SupportsPerturbation(Protocol):
    """Additional methods of an engine with `Capability.PERTURB`."""

    def perturbation_grid(self, prepared: PreparedStudy) -> Grid:
        """Return the grid of `predict_perturbed`."""

    def predict_perturbed(
        self,
        prepared: PreparedStudy,
        perturbations: Sequence[InputPerturbation],
        *,
        context: RunContext,
    ) -> PerturbedPrediction:
        """Run a fast first pass over the whole brain on each perturbed input.

        The unperturbed input gives the same as `Prediction.unperturbed`.
        Inputs that are `fine` are predicted on another grid, which the result names.
        """


@runtime_checkable
class SupportsFirstPass(Protocol):
    """An engine with a fast first pass for preliminary candidates before `predict`."""

    def first_pass(self, prepared: PreparedStudy, *, context: RunContext) -> FirstPass:
        """Run a coarse pass over the whole brain; `predict` may reuse it."""


@runtime_checkable
class SupportsPrompts(Protocol):
    """Additional methods of an engine with `Capability.PROMPT`."""

    def answer_prompts(
        self,
        prepared: PreparedStudy,
        request: PromptRequest,
        probability: Mapping[Region, NDArray[np.float32]] | None,
        *,
        context: RunContext,
    ) -> PromptResponse:
        """Segment from prompts, or correct an outline, on the working grid.

        Parameters
        ----------
        request : PromptRequest
            Prompts in voxels of the working grid.
        probability : mapping or None
            Predicted probabilities, if the study was analysed.

        Raises
        ------
        UnusableInputError
            Prompts contradict each other, are outside the brain, or nothing stands out there.
        """


@runtime_checkable
class SupportsForgetting(Protocol):
    """An engine that caches data of the last study."""

    def forget(self) -> None:
        """Release all cached data."""


def as_promptable(engine: object) -> SupportsPrompts | None:
    """Return the engine if it supports prompts, else None."""
    return engine if isinstance(engine, SupportsPrompts) else None
