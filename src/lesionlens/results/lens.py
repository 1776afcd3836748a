"""Lens: from an opened study to candidates, maps and measurements."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from lesionlens.analysis import native_grid
from lesionlens.analysis.explain.explain import Explanations, explain
from lesionlens.analysis.findings import preliminary
from lesionlens.analysis.findings.enhancement import without_t1_hyperintensity
from lesionlens.analysis.findings.find import Flagged, find, find_cavity, study_findings
from lesionlens.base.arguments import brief, path_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.provenance import utc_now, versions
from lesionlens.base.records.analysis import Analysis, RunInfo, Volumes
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import trained_on_warning
from lesionlens.base.records.prediction import EngineInfo, Prediction
from lesionlens.base.records.study import PreparedStudy, Study
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.engine import Engine, EngineChoice, in_turn, predict
from lesionlens.imaging.preparation.prepare import DEFAULT_OPTIONS, PrepareOptions, prepare
from lesionlens.imaging.reading.input_files import identity_of, inputs_of, unchanged
from lesionlens.imaging.reading.open import REPORTED
from lesionlens.results.result import Result


class Lens:
    """The whole analysis with one engine, which is loaded once for any number of studies.

    Several threads may share a `Lens`: studies are read and prepared concurrently, and the engine
    processes one at a time. A pickled `Lens` loads its engine again in the other process; an engine
    object that you passed is pickled with it.

    Parameters
    ----------
    device : str
        "auto" (the GPU if there is one), "cpu", "cuda", "cuda:N", "xpu", "xpu:N" or "mps".
    weights : str or Path, optional
        A weights file; "default" or "synthetic" for the shipped weights; None for the default.
    bundle : str or Path, optional
        A MONAI bundle's folder: its network is used instead of the built-in one.
    engine : str, Engine or Future
        Name of an installed engine (entry-point group `lesionlens.engines`), or an engine object,
        which has its own device and weights: the other arguments are then refused.
        A Future is an engine that is still being loaded (`EngineChoice.start_loading`): meanwhile
        the first study is prepared.

    Raises
    ------
    WeightsError
        The weights are missing, altered or made for another network.
    ResourceError
        The device is missing.
    MissingPluginError
        No such engine is installed.
    """

    def __init__(
        self,
        device: str = "auto",
        *,
        weights: str | Path | None = None,
        bundle: str | Path | None = None,
        engine: str | Engine | Future[Engine] = "lens",
    ) -> None:
        choice = EngineChoice(
            device,
            engine=engine if isinstance(engine, str) else "lens",
            weights=None if weights is None else str(path_of(weights, "weights: a file or a name")),
            bundle=None if bundle is None else path_of(bundle, "the folder of a MONAI bundle"),
        )
        if isinstance(engine, str):
            self._choice: EngineChoice | None = choice
            self._engine: Engine | Future[Engine] = choice.load()
            return
        if choice != EngineChoice():
            raise UnusableInputError(
                found="a device, weights or a bundle together with an engine object",
                expected="the engine alone: it already has its own",
                next_step="Leave them out, or name the engine instead",
            )
        self._choice, self._engine = None, engine

    @override
    def __getstate__(self) -> tuple[EngineChoice | None, Engine | None]:
        """Return what a copy in another process needs."""
        return self._choice, self.engine if self._choice is None else None

    def __setstate__(self, state: tuple[EngineChoice | None, Engine]) -> None:
        self._choice, engine = state
        self._engine = engine if self._choice is None else self._choice.load()

    @override
    def __repr__(self) -> str:
        engine = self._engine
        return f"<Lens: {'loading' if isinstance(engine, Future) else engine.info.name}>"

    @property
    def engine(self) -> Engine:
        """The engine, loaded on first use."""
        if isinstance(self._engine, Future):
            self._engine = self._engine.result()
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
            Reports all steps and is polled between them, including from worker threads.
        first : callable, optional
            Called with the preliminary candidates of the engine's first pass, if it has one.

        Raises
        ------
        UnusableInputError, ResourceError, CancelledError
            The study cannot be analysed, or its files changed during the analysis; memory or device
            are insufficient; the user asked to stop.
        """
        if not isinstance(study, Study):
            raise UnusableInputError(
                found=f"{brief(study)}, instead of a study",
                expected="a study, as `open_study` returns it",
                next_step="Open it first: Lens()(open_study(PATH))",
            )
        started = utc_now()
        context = context.timed()
        with unchanged(study), ThreadPoolExecutor(1) as executor:
            inputs = executor.submit(inputs_of, study)
            prepared = prepare(study, context, options)
            engine = self.engine
            with in_turn(context):
                detection = _run_engine(engine, prepared, context, first)
            prediction, explained = detection.prediction, detection.explained
            with context.stage("measurements"):
                findings = study_findings(
                    prepared,
                    prediction,
                    detection.flagged,
                    explained.evidence,
                    identity_of(study, inputs.result()),
                )
        trained_on = _trained_on(prediction.engine, prepared)
        warnings = (trained_on_warning(trained_on),) if trained_on else ()
        reported = (REPORTED,) if study.has_report else ()
        run = RunInfo(
            engine=prediction.engine,
            device=prediction.engine.device,
            stages=tuple(context.times or ()),
            versions=versions(),
            inputs=inputs.result().files,
            series=inputs.result().series,
            started=started,
            notices=(*reported, *warnings, *detection.notices),
            trained_on=trained_on,
        )
        volumes = _volumes(prepared, detection)
        analysis = Analysis(study, prepared, explained.maps, volumes, findings, run)
        return Result(analysis, prediction, engine)


@dataclass(frozen=True, slots=True, eq=False)
class _Detection:
    """The results of all steps that use the engine."""

    prediction: Prediction
    """On the working grid."""
    cavity: Volume | None
    """The resection cavity on the native grid; None if the engine outlines none."""
    flagged: Flagged
    explained: Explanations

    @property
    def notices(self) -> tuple[str, ...]:
        """The notices of all these steps."""
        return (*self.prediction.notices, *self.flagged.notices, *self.explained.notices)


def _run_engine(
    engine: Engine, prepared: PreparedStudy, context: RunContext, first: preliminary.Listener | None
) -> _Detection:
    """Run all steps that use the engine."""
    preliminary.notify(engine, prepared, context, first)
    with context.stage("network"):
        prediction = predict(engine, prepared, context=context)
        prediction = without_t1_hyperintensity(prediction, prepared)
    with context.stage("native grid"):
        probability = native_grid.regions_to_native(prediction.probability, prepared, nested=True)
    with context.stage("candidates"):
        cavity = find_cavity(prediction, probability, prepared)
        flagged = find(prediction, probability, prepared.native, cavity)
    with context.stage("explanations"):
        explained = explain(engine, prepared, prediction, flagged, probability, context=context)
    return _Detection(prediction, cavity, flagged, explained)


def _trained_on(engine: EngineInfo, prepared: PreparedStudy) -> tuple[MrSequence, ...]:
    """Return the sequences of this study whose scans were in the training data."""
    training_digests, study_digests = engine.trained_on, (prepared.scans, prepared.intensities)
    return tuple(
        s for s in MrSequence if not training_digests.isdisjoint(d.get(s) for d in study_digests)
    )


def _volumes(prepared: PreparedStudy, detection: _Detection) -> Volumes:
    """Collect the volumes on the native grid."""
    grid, evidence = prepared.native, detection.explained.evidence
    uncertainty = evidence.uncertainty
    return Volumes(
        labels=Volume(detection.flagged.components.labels, grid),
        probability={r: Volume(p, grid) for r, p in evidence.probability.items()},
        attention={r: Volume(a, grid) for r, a in evidence.attention.items()},
        uncertainty=None if uncertainty is None else Volume(uncertainty, grid),
        cavity=detection.cavity,
    )
