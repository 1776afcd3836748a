"""Result: what one analysis gave, and what can be asked of it and done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from lesionlens.analysis.explain import counterfactual
from lesionlens.analysis.explain import probe as probes
from lesionlens.analysis.explain.counterfactual import WhatIf
from lesionlens.analysis.findings.components import component_mask_of, component_voxels
from lesionlens.base import plugins
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.prediction import Prediction, Trace
from lesionlens.base.records.prompts import (
    PromptedRegion,
    PromptedVolume,
    PromptQuestion,
    Prompts,
)
from lesionlens.base.stages import NEVER, Cancel, Progress, StageClock, no_progress
from lesionlens.engines.engine import Engine, SupportsPrompts, as_perturbable, as_prompted
from lesionlens.results import prompted


class Result:
    """One analysed study.

    Parameters
    ----------
    analysis : Analysis
        Everything that is exported.
    prediction, engine : Prediction and Engine, or None
        The engine's prediction, and itself; needed by `probe`, `layer_attention` and `what_if`
        alone.
    """

    def __init__(
        self,
        analysis: Analysis,
        prediction: Prediction | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._analysis, self._prediction, self._engine = analysis, prediction, engine
        self._prompter: SupportsPrompts | None = None

    @property
    def analysis(self) -> Analysis:
        """The record that exporters read."""
        return self._analysis

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Flagged regions by falling score."""
        return self._analysis.findings.candidates

    @property
    def attention(self) -> Mapping[Region, Volume]:
        """Attention of each region, 0 to 1 on the reference grid; keys "wt", "tc", "et" work."""
        return self._analysis.volumes.attention

    @property
    def probability(self) -> Mapping[Region, Volume]:
        """Probability of each region, 0 to 1 on the reference grid."""
        return self._analysis.volumes.probability

    @property
    def labels(self) -> Volume:
        """Labels on the reference grid: 0 background, 1 core, 2 oedema, 3 enhancing."""
        return self._analysis.volumes.labels

    @property
    def trace(self) -> Trace | None:
        """What the network attended to, for `explain.probe`; None of a reopened result."""
        return self._prediction.trace if self._prediction else None

    @property
    def engine(self) -> Engine | None:
        """The engine, for its `attribute`; None of a reopened result."""
        return self._engine

    def probe(self, voxel: tuple[int, int, int]) -> Volume:
        """Return where a voxel of the reference grid attends; see `explain.probe.ask`."""
        i, j, k = (int(v) for v in voxel)
        return probes.ask(self.trace, self._analysis.prepared, (i, j, k))

    def layer_attention(self, region: Region | str, layer: int, head: int | None = None) -> Volume:
        """Return the attention of one layer or head; see `explain.probe.layer_attention`."""
        return probes.layer_attention(
            self.trace, self._analysis.prepared, Region(region), layer, head
        )

    def what_if(
        self, candidate: int, *, progress: Progress = no_progress, cancel: Cancel = NEVER
    ) -> WhatIf:
        """Hide one candidate, by its id, and predict again; see `explain.counterfactual.ask`."""
        prediction, engine = self._prediction, as_perturbable(self._engine)
        seen = None if prediction is None else prediction.unperturbed
        if prediction is None or seen is None or engine is None:
            raise UnusableInputError(
                found="a result that was reopened, or an engine that cannot predict again",
                expected="a fresh result of an engine with the capability `perturb`",
                next_step="Analyse the study again",
            )
        prepared = self._analysis.prepared
        marked = component_mask_of(self._analysis.findings, prepared.native)
        spots = component_voxels(marked, seen.grid)
        clock = StageClock(progress, cancel)
        return counterfactual.ask(engine, prepared, prediction, spots, candidate - 1, clock)

    def prompt(
        self,
        points: Sequence[tuple[Sequence[int], bool]] = (),
        *,
        scribbles: Sequence[tuple[Sequence[Sequence[int]], bool]] = (),
        box: Sequence[Sequence[int]] | None = None,
        start: NDArray[Any] | None = None,
        region: Region | str | None = None,
    ) -> PromptedVolume:
        """Outline what is pointed at, or correct an outline.

        Parameters
        ----------
        points : sequence of ((i, j, k), bool)
            Voxels of the reference grid; True for part of it, False for no part of it.
        scribbles : sequence of (sequence of (i, j, k), bool)
            Lines of voxels.
        box : ((i, j, k), (i, j, k)) or None
            Opposite corners of a box that holds it; one slice will do.
        start : (I, J, K) array or None
            The outline to correct. Only what is joined to a prompt that contradicts it, and near
            to that, changes.
        region : Region, str or None
            Which region is meant: "wt", "tc", "et"; None for the thing pointed at.

        Returns
        -------
        PromptedVolume
            Its probability on the reference grid; the mask is ``.data >= 0.5``. Where the prompts
            attended is `attention`, what was asked `prompts`.

        Raises
        ------
        UnusableInputError
            A prompt lies outside the brain, prompts contradict each other, or nothing stands out.
        """
        return self.prompt_again(Prompts.of(points, scribbles, box, region), start)

    def prompt_again(self, prompts: Prompts, start: NDArray[Any] | None = None) -> PromptedVolume:
        """Answer prompts that were kept; with the same start they give the same voxels."""
        return prompted.ask(prompts, self._analysis.prepared, self._answer_prompts, start)

    def _answer_prompts(self, question: PromptQuestion) -> PromptedRegion:
        """Ask the engine; one that takes no prompts leaves them to the network of the package."""
        known = None if self._prediction is None else self._prediction.probability
        asked = as_prompted(self._engine) or self._prompter or _local_prompts()
        self._prompter = asked
        return asked.answer_prompts(
            self._analysis.prepared, question, known, progress=no_progress, cancel=NEVER
        )

    def save(self, out: str | Path) -> Path:
        """Write every file of the contract into a folder: together, or not at all."""
        from lesionlens.results.export.exporter import save  # noqa: PLC0415  (exporters load much)

        save(self._analysis, Path(out))
        return Path(out)

    def show(self) -> Any:
        """Open the result in the installed viewer (napari).

        Raises
        ------
        MissingPluginError
            No viewer is installed.
        """
        installed = plugins.names(plugins.VIEWERS)
        name = "napari" if "napari" in installed or not installed else installed[0]
        return cast("Any", plugins.load(plugins.VIEWERS, name))(self)


def _local_prompts() -> SupportsPrompts:
    from lesionlens.engines.prompting import StudyPrompts  # noqa: PLC0415  (loads torch)

    return StudyPrompts()
