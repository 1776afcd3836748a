"""Lens: from an opened study to candidates, maps and measures."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.explain import faithfulness, perturbations
from lesionlens.analysis.explain import maps as attention_maps
from lesionlens.analysis.explain.questions import questions_to
from lesionlens.analysis.findings import anatomy, preliminary
from lesionlens.analysis.findings.candidates import Context, Evidence, considered, describe
from lesionlens.analysis.findings.component_scores import (
    ComponentVoxels,
    score_by_all_views,
    score_components,
    voxels_on,
)
from lesionlens.analysis.findings.components import (
    CandidateCriteria,
    ComponentMask,
    component_voxels,
    doubtful_ml,
    draw_components,
    keep,
    plain_scores,
)
from lesionlens.analysis.findings.doubtful import doubtful_parts
from lesionlens.base.grid import Grid
from lesionlens.base.labels import ComputePrecision, Region
from lesionlens.base.provenance import utc_now, versions
from lesionlens.base.records.analysis import Analysis, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.attention import AttentionMaps, MapChecks
from lesionlens.base.records.findings import Findings
from lesionlens.base.records.prediction import Capability, Prediction, QuestionTime
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import native
from lesionlens.engines.choice import EngineChoice
from lesionlens.engines.engine import Engine
from lesionlens.engines.kept_memory import kept_memory
from lesionlens.engines.plugged_in import predict
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.imaging.preparation.prepare import DEFAULT_OPTIONS, PrepareOptions, prepare
from lesionlens.imaging.reading.readers import hashes_of
from lesionlens.results.result import Result

Floats = NDArray[np.float32]


class Lens:
    """The whole analysis with one engine; loads it once, analyses any number of studies.

    Parameters
    ----------
    device : str
        "auto" (the GPU where there is one), "cpu", "cuda", "cuda:N", "xpu", "xpu:N" or "mps".
    weights : str or Path, optional
        A weights file in place of those in use; "default" or "synthetic", those in the package;
        or a version that was accepted on this machine, such as "v1".
    bundle : str or Path, optional
        A MONAI bundle's folder: its network decides instead of ours.
    engine : str or Engine
        Name of an installed engine (entry-point group `lesionlens.engines`), or one of your own;
        with a server the name of one of its models, "lens" for its first.
    server : str or ServerAddress, optional
        Where `lesionlens serve` runs: its network decides instead of one here, and only the
        brain's voxels travel there. Device, weights, bundle and precision are then the server's.
    precision : ComputePrecision or str
        "auto" (float32 on a CPU, bfloat16 on a CUDA or XPU device), "float32" or "bfloat16".

    Raises
    ------
    WeightsError
        The weights are missing, altered or made for another network.
    ResourceError
        The device is not there.
    MissingPluginError
        No such engine is installed.
    ServerError
        The server does not answer, or refuses.
    """

    def __init__(
        self,
        device: str = "auto",
        *,
        weights: str | Path | None = None,
        bundle: str | Path | None = None,
        engine: str | Engine = "lens",
        server: str | ServerAddress | None = None,
        precision: ComputePrecision | str = ComputePrecision.AUTO,
    ) -> None:
        if not isinstance(engine, str):
            self._engine: Engine = engine
            return
        self._engine = EngineChoice(
            device,
            engine,
            None if weights is None else str(weights),
            None if bundle is None else Path(bundle),
            ComputePrecision(precision),
            server=server,
        ).load()

    @property
    def engine(self) -> Engine:
        """The engine that decides."""
        return self._engine

    def __call__(
        self,
        study: Study,
        options: PrepareOptions = DEFAULT_OPTIONS,
        *,
        context: RunContext = SILENT,
        first: preliminary.Listener | None = None,
    ) -> Result:
        """Analyse a study.

        Parameters
        ----------
        study : Study
            From `open_study`.
        options : PrepareOptions
            Which steps of the preparation, and how.
        context : RunContext
            Reports all steps and is polled between them, also from worker threads.
        first : callable, optional
            Called with what the engine's first look flags, where it has one.

        Raises
        ------
        UnusableInputError, ResourceError, CancelledError
            The study cannot be analysed; memory or device do not suffice; the user asked to stop.
        """
        started = utc_now()
        context = context.timed()
        with ThreadPoolExecutor(1) as aside, kept_memory():
            hashes = aside.submit(hashes_of, study)
            prepared = _with_name_checked(prepare(study, context, options), study)
            preliminary.notify(self._engine, prepared, context, first)
            with context.stage("network"):
                prediction = predict(self._engine, prepared, context=context)
            found = _Steps(self._engine, prepared, prediction, context).run(study, hashes)
        run = RunInfo(
            engine=prediction.engine,
            device=prediction.engine.device,
            stages=tuple(context.times or ()),
            versions=versions(),
            inputs=hashes.result(),
            started=started,
            notices=(*prediction.notices, *found.notices),
        )
        analysis = Analysis(study, prepared, found.maps, found.volumes, found.findings, run)
        return Result(analysis, prediction, self._engine)


def _with_name_checked(prepared: PreparedStudy, study: Study) -> PreparedStudy:
    """Add whether the only image of a study is what it is called; several were compared before."""
    if len(study.series) != 1:
        return prepared
    from lesionlens.imaging.reading.sequence_from_image import (  # noqa: PLC0415  slow to import
        named_check,
    )

    (series,) = study.series.values()
    found = named_check(series)
    return prepared if found is None else replace(prepared, quality=(*prepared.quality, found))


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    maps: AttentionMaps | None
    volumes: Volumes
    findings: Findings
    notices: tuple[str, ...]


class _Steps:
    """What follows the network: native grid, candidates, explanations, measures."""

    def __init__(
        self, engine: Engine, prepared: PreparedStudy, prediction: Prediction, context: RunContext
    ) -> None:
        self._engine, self._prepared = engine, prepared
        self._prediction, self._run_context = prediction, context
        self._notices: list[str] = []
        self._dismissed: tuple[ComponentMask, list[float]] | None = None
        self._scores: list[float] = []  # of the components that were kept
        self._questions = questions_to(engine, prepared, prediction, context)

    def run(self, study: Study, hashes: Future[tuple[tuple[str, str], ...]]) -> _Found:
        prepared, prediction = self._prepared, self._prediction
        maps = None
        if prediction.trace is not None:
            maps = attention_maps.draw(prediction.trace, prepared.brain)
        elif Capability.ATTEND not in prediction.engine.capabilities:
            self._notices.append("This engine gives no attention map")
        with self._run_context.stage("native grid"):
            probability = native.bring_regions(prediction.probability, prepared, nested=True)
            attention = native.bring_regions(maps.maps if maps else {}, prepared, nested=False)
        with self._run_context.stage("candidates"):
            marked, spots = self._flag(self._mark(probability))
            self._tell_doubtful(marked, probability.get(Region.ET))
        with self._run_context.stage("explanations"):
            evidence = self._evidence(marked, spots, probability, attention)
            if maps is not None:
                maps = replace(maps, checks=self._check_maps(marked, attention))
            if self._questions is not None and self._questions.unanswered:
                self._notices.append(QuestionTime.left_out(self._questions.unanswered))
        with self._run_context.stage("measures"):
            context = self._context(study, probability[Region.WT], hashes.result())
            below = considered(*self._dismissed, context) if self._dismissed else ()
            findings = replace(describe(marked, evidence, context), considered=below)
            unsure, grid, by_sequence = evidence.uncertainty, marked.grid, evidence.by_sequence
            shares = None if by_sequence is None else by_sequence.by_voxel
            numbers = None
            if unsure is not None and shares is not None:
                doubtful, numbers = doubtful_parts(
                    findings.candidates, findings.components, unsure, shares, grid
                )
                findings = replace(findings, doubtful=doubtful)
        volumes = Volumes(
            labels=Volume(marked.labels, prepared.native),
            probability={r: Volume(p, prepared.native) for r, p in probability.items()},
            attention={r: Volume(a, prepared.native) for r, a in attention.items()},
            uncertainty=None if unsure is None else Volume(unsure, prepared.native),
            evidence=shares,
            doubtful=Volume(numbers, grid) if numbers is not None and findings.doubtful else None,
        )
        return _Found(maps, volumes, findings, tuple(self._notices))

    def _mark(self, probability: Mapping[Region, Floats]) -> ComponentMask:
        return draw_components(probability, self._prepared.native, self._criteria)

    @property
    def _criteria(self) -> CandidateCriteria:
        found = self._prediction
        return CandidateCriteria(found.thresholds, slight_enhancement=found.slight_enhancement)

    def _tell_doubtful(self, marked: ComponentMask, enhancing: Floats | None) -> None:
        ml = 0.0 if enhancing is None else doubtful_ml(marked, enhancing, self._criteria)
        if ml:
            self._notices.append(
                f"{ml:.1f} ml of the tumour core may enhance, too doubtful to be outlined: look at "
                "T1c and at the probability of enhancing tumour"
            )

    def _flag(self, marked: ComponentMask) -> tuple[ComponentMask, list[ComponentVoxels]]:
        """Keep the components that score enough, where the engine can score them."""
        seen, scoring = self._prediction.unperturbed, self._prediction.scoring
        if seen is None:
            return marked, []
        spots = component_voxels(marked, seen.grid)
        found = score_components(seen, spots, scoring)[0]
        wanted = found >= scoring.floor
        kept = [spot for spot, enough in zip(spots, wanted, strict=True) if enough]
        self._scores = found[wanted].tolist()
        self._dismissed = keep(marked, (~wanted).tolist()), found[~wanted].tolist()
        return keep(marked, wanted.tolist()), kept

    def _evidence(
        self,
        marked: ComponentMask,
        spots: list[ComponentVoxels],
        probability: Mapping[Region, Floats],
        attention: Mapping[Region, Floats],
    ) -> Evidence:
        prediction, questions = self._prediction, self._questions
        shown = attention.get(Region.WT)
        if questions is None:
            self._notices.append("This engine cannot tell which sequence mattered")
            return Evidence(
                plain_scores(marked, prediction, probability),
                uncertainty=self._native(prediction.uncertainty),
                attention=shown,
                enhancing=probability.get(Region.ET),
            )
        answers = perturbations.ask(questions, prediction, spots)
        seen = answers.by_sequence
        left_out = None if seen is None else seen.left_out
        return Evidence(
            scores=score_by_all_views(self._scores, left_out, prediction.scoring),
            by_sequence=seen,
            uncertainty=self._native(answers.uncertainty, answers.grid),
            attention=shown,
            enhancing=probability.get(Region.ET),
        )

    def _native(self, values: Floats | None, grid: Grid | None = None) -> Floats | None:
        return None if values is None else native.bring(values, self._prepared, grid)

    def _check_maps(
        self, marked: ComponentMask, attention: Mapping[Region, Floats]
    ) -> dict[Region, MapChecks]:
        """Check where each map lies, and whether the network needed what it shows."""
        prepared, prediction, questions = self._prepared, self._prediction, self._questions
        voxels = np.count_nonzero(prepared.brain) * prepared.working.voxel_ml
        found = faithfulness.all_pointing(
            attention, marked.labels, voxels / prepared.native.voxel_ml
        )
        seen, trace = prediction.unperturbed, prediction.trace
        if seen is None or trace is None or questions is None or not marked.count:
            return found
        inside = prepared.brain.astype(np.float32)
        brain = faithfulness.onto(inside, prepared.working, seen.grid) > 0
        trials = {}
        for region, weights in trace.cross.items():
            flagged = np.argwhere(np.isin(marked.labels, region.labels))
            trials[region] = faithfulness.MapOnTrial(
                faithfulness.onto(weights, prepared.working, seen.grid),
                voxels_on(marked.grid.to_mm(flagged), seen.grid),
            )
        return faithfulness.deletion_test(found, questions, trials, brain)

    def _context(
        self,
        study: Study,
        whole: Floats,
        inputs: tuple[tuple[str, str], ...],
    ) -> Context:
        prepared, about = self._prepared, self._prediction.engine
        digest = ",".join(sorted(sha for _, sha in inputs))
        return Context(
            whole_tumour=whole,
            head=anatomy.find_head(prepared.brain, prepared.working),
            has_t1c=prepared.has_t1c,
            identity=f"{study.uid}|{digest}|{about.name}|{about.weights_sha256}",
            quality=prepared.quality,
            class_probabilities=self._prediction.class_probabilities,
        )
