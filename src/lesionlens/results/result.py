"""Result: the result of one analysis, with methods to explore, correct, save and show it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray
from typing_extensions import override

from lesionlens.analysis.explain import probe as probes
from lesionlens.analysis.explain.explain import explain_sequences
from lesionlens.base import plugins
from lesionlens.base.arguments import brief, path_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import check_outside
from lesionlens.base.labels import ByRegion, Region, RegionKey
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.prediction import Prediction, Trace
from lesionlens.base.records.prompts import PromptedVolume, PromptRequest, PromptResponse, Prompts
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import engine as engines
from lesionlens.engines.engine import Engine
from lesionlens.results import notebook as as_notebook
from lesionlens.results import prompted
from lesionlens.results.prompted import AnalysedProbability
from lesionlens.results.review.saved_result import SavedResult

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """One analysed study.

    A pickled copy, as in another process, has no engine, like a result that was opened.

    Parameters
    ----------
    analysis : Analysis
        The record that exporters read.
    prediction, engine : Prediction and Engine, or None
        The engine's prediction, and the engine; only needed by `probe`.
    """

    def __init__(
        self,
        analysis: Analysis | SavedResult,
        prediction: Prediction | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._record, self._prediction, self._engine = analysis, prediction, engine
        self._prompter: Any = None
        self._explained: Result | None = None

    @override
    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process needs: no network, as after `open`."""
        return {**self.__dict__, "_prompter": None, "_prediction": None, "_engine": None}

    def __copy__(self) -> Self:
        return type(self)(self._record, self._prediction, self._engine)

    @classmethod
    def open(cls, folder: str | Path, study: str | Path | Study | None = None) -> Self:
        """Open a saved result with its current review.

        Parameters
        ----------
        folder : str or Path
            A folder written by `save` or `lesionlens analyze`.
        study : str, Path, Study or None
            The analysed study. Without it there are candidates, labels, probability and attention;
            `analysis`, `prompt`, `save` and `show` need it.

        Raises
        ------
        ReadError
            The folder is not a result, is damaged, or belongs to another study.
        """
        from lesionlens.imaging.reading.open import open_study
        from lesionlens.results.review import reopen

        path = path_of(folder, "the folder of a result")
        if study is None:
            return cls(reopen.read_reviewed(reopen.existing_result(path)))
        opened = study if isinstance(study, Study) else open_study(study)
        return cls(reopen.prepare_and_reopen(path, opened, SILENT))

    @property
    def analysis(self) -> Analysis:
        """The record that exporters read.

        Raises
        ------
        UnusableInputError
            The result was opened without its study.
        """
        if isinstance(self._record, Analysis):
            return self._record
        raise UnusableInputError(
            found="a result that was opened without its study",
            expected="the study too, for its images",
            next_step="Open it with Result.open(folder, study)",
        )

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Flagged regions by descending score."""
        return self._record.findings.candidates

    @property
    def attention(self) -> ByRegion[Volume]:
        """Attention of each region, 0 to 1 on the reference grid; keys "wt", "tc", "et" work."""
        return ByRegion(self._record.volumes.attention)

    @property
    def probability(self) -> ByRegion[Volume]:
        """Probability of each region, 0 to 1 on the reference grid."""
        return ByRegion(self._record.volumes.probability)

    @property
    def labels(self) -> Volume:
        """Labels on the reference grid: 0 background, 1 core, 2 oedema, 3 enhancing."""
        return self._record.volumes.labels

    @property
    def review(self) -> Review:
        """The readers' decisions."""
        return self._record.review

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per candidate, with the columns of findings.csv (needs pandas)."""
        return as_notebook.to_dataframe(self._record)

    @override
    def __repr__(self) -> str:
        return f"<Result: {self._record.findings.conclusion} ({self._record.run.engine.name})>"

    def _repr_html_(self) -> str:
        return as_notebook.to_html(self._record)

    @property
    def trace(self) -> Trace | None:
        """Attention weights, for `explain.probe`; None for a reopened result."""
        return self._prediction.trace if self._prediction else None

    @property
    def engine(self) -> Engine | None:
        """The engine; None for a reopened result."""
        return self._engine

    @property
    def can_explain(self) -> bool:
        """Whether `explain` can be computed: of a fresh result, if its engine predicts subsets."""
        return self._prediction is not None and hasattr(self._engine, "predict_subsets")

    def explain(self, *, context: RunContext = SILENT) -> Result:
        """Return this result with what each sequence contributes, computed once.

        Each candidate then has its `sequence_relevance` (signed Shapley values), and
        `analysis.volumes.evidence` the contribution of each sequence at every voxel.

        Raises
        ------
        UnusableInputError
            The result was opened from files, or its engine does not predict subsets.
        """
        if self.analysis.volumes.evidence is not None:
            return self
        if self._prediction is None or not self.can_explain:
            raise UnusableInputError(
                "What each sequence contributes can only be computed for a fresh result of an "
                "engine that can omit sequences.",
                hint="Analyse the study again.",
            )
        if self._explained is None:
            threshold = self._prediction.thresholds[Region.WT]
            analysis = explain_sequences(self._engine, self.analysis, threshold, context=context)
            self._explained = type(self)(analysis, self._prediction, self._engine)
        return self._explained

    def probe(self, voxel: tuple[int, int, int]) -> Volume:
        """Return where a voxel of the reference attends to; see `explain.probe.voxel_attention`."""
        try:
            ((point, _),) = Prompts.of([(voxel, True)]).points
        except UnusableInputError as error:
            raise UnusableInputError(
                found=f"{brief(voxel)} as a voxel",
                expected="three whole numbers (i, j, k)",
                next_step="Count voxels from 0 along the axes of the reference sequence",
            ) from error
        return probes.voxel_attention(self.trace, self._traced_study(), point)

    def _traced_study(self) -> PreparedStudy:
        """Return the prepared study, without which there is no trace."""
        if isinstance(self._record, Analysis):
            return self._record.prepared
        raise UnusableInputError(
            found="a result that was opened without its study",
            expected="a fresh one: a saved result has no attention of single voxels",
            next_step="Analyse the study again",
        )

    def prompt(
        self,
        points: Sequence[tuple[Sequence[int], bool]] = (),
        *,
        scribbles: Sequence[tuple[Sequence[Sequence[int]], bool]] = (),
        box: Sequence[Sequence[int]] | None = None,
        lasso: Sequence[Sequence[int]] = (),
        start: NDArray[Any] | Volume | None = None,
        region: Region | RegionKey | None = None,
    ) -> PromptedVolume:
        """Segment from prompts, or correct an outline.

        Parameters
        ----------
        points : sequence of ((i, j, k), bool)
            Voxels of the reference grid; True for foreground, False for background.
        scribbles : sequence of (sequence of (i, j, k), bool)
            Lines of voxels.
        box : ((i, j, k), (i, j, k)) or None
            Opposite corners of a box around the object; may be one slice thick.
        lasso : sequence of (i, j, k)
            Corners of a closed line around the object on one slice, in any of the three directions.
        start : (I, J, K) array, Volume or None
            The outline to correct, on the reference grid: a mask, or labels as in
            `segmentation.nii.gz`, of which `region` is used. Only voxels connected to a
            contradicting prompt, and near it, change. An empty outline counts as None.
        region : Region, "wt", "tc", "et" or None
            Intended region; None for the object at the prompts.

        Returns
        -------
        PromptedVolume
            Its probability on the reference grid; the mask is ``.data >= 0.5``. `attention` is the
            cross-attention of the prompts, `prompts` the prompts themselves.

        Raises
        ------
        UnusableInputError
            A prompt is outside the brain, prompts contradict each other, or nothing stands out.
        MissingPluginError
            The engine does not support prompts, and torch is not installed.
        """
        return self.prompt_again(Prompts.of(points, scribbles, box, lasso, region), start)

    def prompt_again(
        self, prompts: Prompts, start: NDArray[Any] | Volume | None = None
    ) -> PromptedVolume:
        """Replay stored prompts; with the same start they give the same voxels."""
        return prompted.segment_prompts(prompts, self.analysis.prepared, self.answer_prompts, start)

    def answer_prompts(self, request: PromptRequest) -> PromptResponse:
        """Segment from prompts on the working grid.

        Uses the shipped prompt network if the engine does not support prompts.
        """
        if self._prompter is None:
            has_prompts = hasattr(self._engine, "prompt")
            self._prompter = self._engine if has_prompts else _local_prompts()
        prepared, probability = self.analysis.prepared, self._analysed_probability
        return engines.prompt(self._prompter, prepared, request, probability, context=SILENT)

    @cached_property
    def _analysed_probability(self) -> AnalysedProbability | None:
        """Probability on the working grid; None if nothing predicted one, as for a mask."""
        probability = {r: volume.data for r, volume in self.analysis.volumes.probability.items()}
        return AnalysedProbability(probability, self.analysis.prepared) if probability else None

    def sentence(self, candidate: int | None = None, *, template: str | Path = "") -> str:
        """Return a sentence to paste into a report.

        Parameters
        ----------
        candidate : int or None
            Id of the candidate; None for the study.
        template : str or Path
            A Path is a file as for `--sentence-template`, a text is the template itself; empty for
            the built-in one.

        Raises
        ------
        UnusableInputError
            There is no such candidate, or the template cannot be used.
        """
        from lesionlens.results.export.sentence import Sentences, read_template

        text = read_template(template) if isinstance(template, Path) else template
        sentences = Sentences(self._record, text)
        if candidate is None:
            return sentences.of_study()
        by_id = {c.id: c for c in self.candidates}
        if candidate not in by_id:
            raise UnusableInputError(
                found=f"no candidate {candidate!r}",
                expected=f"one of: {', '.join(map(str, by_id)) or 'none: it has no candidate'}",
                next_step="Choose one of them, or leave the candidate out for the whole study",
            )
        return sentences.of(by_id[candidate])

    def save(self, out: str | Path) -> Path:
        """Write all files of the contract into a folder: together, or not at all.

        Raises
        ------
        UnusableInputError
            The folder is the study or lies in it, its name is empty, or it contains foreign files
            with these names.
        ExportError, ResourceError
            A file cannot be written; the folder is unchanged.
        """
        from lesionlens.results.export.exporter import save

        folder = path_of(out, "the folder for the result")
        check_outside(self.analysis.study.root, folder)
        save(self.analysis, folder)
        return folder

    def show(self) -> Any:
        """Open the result in napari.

        Raises
        ------
        MissingPluginError, ResourceError
            napari is not installed; there is no display.
        """
        plugins.check_window()
        return import_module("lesionlens.napari.dock").show(self)


def _local_prompts() -> Any:
    with plugins.plugin_errors(__name__, "prompt network", "when it was loaded"):
        from lesionlens.engines.prompting import Prompter

        return Prompter()
