"""Analyse one study of a cohort, and store its result.

A worker, local or remote, runs `analyse`, which takes and returns plain records, never raises, and
loads the network once per process.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from lesionlens.base.errors import LesionLensError, environment_error, is_out_of_memory
from lesionlens.base.files import check_outside
from lesionlens.base.provenance import joint_sha256, sha256_of
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.run_context import RunContext
from lesionlens.base.storage import check_target
from lesionlens.base.text import encodable
from lesionlens.engines import EngineChoice
from lesionlens.imaging.reading.input_files import input_digests
from lesionlens.imaging.reading.open import open_study
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.database.descriptions import with_counts
from lesionlens.site.database.records import Status, StudyOutcome

if TYPE_CHECKING:
    from lesionlens.base.records.analysis import Analysis
    from lesionlens.base.records.prediction import EngineInfo
    from lesionlens.results.lens import Lens

logger = logging.getLogger(__name__)
NOT_COMPARED_FILES = frozenset({"evidence"})
"""Export options by which no study is analysed again: a list analysed ahead, which saves evidence,
and a batch skip results of each other."""
NOT_COMPARED_ENGINE = frozenset({"device", "engine", "weights", "bundle", "threads"})
"""Fields of an engine choice that change no result, or that name, version and weights of the loaded
engine, or the configuration of its bundle, represent."""
_OPTION_LABELS = {
    "hidden": "hide",
    "sentence_template": "sentence",
    "maps": "maps",
}
"""Names of options in identifiers, in their order; other options follow by their field's name."""


@dataclass(frozen=True, slots=True)
class CohortChoice:
    """How every study of a cohort is analysed.

    Without a number of threads, the workers of a machine share its cores.
    """

    engine: EngineChoice = field(default_factory=EngineChoice)
    files: ExportOptions = field(default_factory=ExportOptions)


@lru_cache(maxsize=1)
def load_lens(choice: EngineChoice) -> Lens:
    """Return this process's network for an engine choice, loaded once a run."""
    from lesionlens.results.lens import Lens

    return Lens(engine=choice.load())


def forget_networks() -> None:
    """Forget the networks of an earlier run of this process: their weights may have changed."""
    load_lens.cache_clear()


def engine_identity(info: EngineInfo, choice: CohortChoice) -> str:
    """Return an identifier of engine and export options, for detecting changes."""
    parts = (info.name, info.version, info.weights_sha256)
    return " ".join(part for part in (*parts, *_non_default(choice), *_configs(choice)) if part)


def _configs(choice: CohortChoice) -> tuple[str, ...]:
    """Return the digest of a bundle's configuration: it may be edited and the weights stay."""
    bundle = choice.engine.bundle
    if bundle is None:
        return ()
    files = (file for file in (bundle / "configs").glob("*") if file.is_file())
    return (f"configs={joint_sha256(map(sha256_of, files))[:12]}",)


def without_file_options(identifier: str) -> str:
    """Return an identifier without the export options.

    Examples
    --------
    >>> without_file_options("lens 1 0a1b hide=date maps=full threads=2")
    'lens 1 0a1b threads=2'
    """
    labels = {_OPTION_LABELS.get(f.name, f.name) for f in fields(ExportOptions)}
    return " ".join(part for part in identifier.split(" ") if part.split("=")[0] not in labels)


def engine_info(choice: CohortChoice) -> EngineInfo:
    """Load the engine of a choice anew, as its weights may have changed, and describe it."""
    forget_networks()
    return load_lens(choice.engine).engine.info


def identity(choice: CohortChoice) -> str:
    """Load the engine of a choice for a run and return its identifier."""
    return engine_identity(engine_info(choice), choice)


def _non_default(choice: CohortChoice) -> tuple[str, ...]:
    """Return the non-default options that change a result, which extend the identifier."""
    file_fields = dict.fromkeys((*_OPTION_LABELS, *(f.name for f in fields(ExportOptions))))
    engine_fields = [f.name for f in fields(EngineChoice)]
    comparisons = (
        (choice.files, ExportOptions(), [n for n in file_fields if n not in NOT_COMPARED_FILES]),
        (choice.engine, EngineChoice(), [n for n in engine_fields if n not in NOT_COMPARED_ENGINE]),
    )
    return tuple(
        _option_text(name, getattr(chosen, name))
        for chosen, default, names in comparisons
        for name in names
        if getattr(chosen, name) != getattr(default, name)
    )


def _option_text(name: str, value: object) -> str:
    """Return a non-default option in words without spaces; a template as its digest."""
    label = _OPTION_LABELS.get(name, name)
    if value is True:
        return label
    if name == "sentence_template":
        value = hashlib.sha256(str(value).encode()).hexdigest()[:12]
    elif isinstance(value, frozenset):
        value = ",".join(sorted(str(item) for item in value))
    return f"{label}={value}"


def analyse(job: StudyJob, choice: CohortChoice, context: RunContext) -> StudyOutcome:
    """Analyse a study and write its result; a failure is an outcome, never an exception."""
    if context.cancel.is_set():
        return StudyOutcome(job.name, Status.STOPPED, 130, "not started")
    start = time.perf_counter()
    try:
        return _analyse(job, choice, context)
    except Exception as error:
        logger.debug("a study of the cohort failed", exc_info=True)
        status, message = failure(error)
        state = Status.STOPPED if status == 130 else Status.FAILED
        seconds = time.perf_counter() - start
        return StudyOutcome(job.name, state, status, encodable(message), seconds)


def _analyse(job: StudyJob, choice: CohortChoice, context: RunContext) -> StudyOutcome:
    from lesionlens.results.review.earlier import check_result_name

    start = time.perf_counter()
    _check_output(job)
    study = open_study(job.study, context=context)
    if job.is_new:
        check_result_name(input_digests(study), job.out)
    result = load_lens(choice.engine)(study, context=context)
    if choice.files.evidence and result.can_explain:
        result = result.explain(context=context)
    outcome = _store(job, result.analysis, choice)
    return replace(outcome, seconds=time.perf_counter() - start)


def save_result(job: StudyJob, analysis: Analysis, choice: CohortChoice) -> StudyOutcome:
    """Write the result of an analysis that was made elsewhere as `analyse` writes its own.

    Raises
    ------
    UnusableInputError
        The output folder is that of the study, or has foreign files or another study's result.
    """
    from lesionlens.results.review.earlier import check_result_name

    _check_output(job)
    if job.is_new:
        check_result_name(analysis.run.inputs, job.out)
    return _store(job, analysis, choice)


def _check_output(job: StudyJob) -> None:
    from lesionlens.results.export.result_files import check_folder

    check_outside(job.study, job.out)  # a table may list its own folder as a study
    check_target(job.out)
    check_folder(job.out)


def _store(job: StudyJob, analysis: Analysis, choice: CohortChoice) -> StudyOutcome:
    from lesionlens.analysis.followup import study_locations

    run_info, study = analysis.run, analysis.study
    analysis = replace(analysis, options=choice.files)
    study_locations.remember(run_info.inputs, study)
    if job.dataset is None:
        from lesionlens.results.export.exporter import save

        save(analysis, job.out)
    else:
        from lesionlens.results.export.bids import save_bids

        save_bids(analysis, job.dataset, job.name)
    outcome = StudyOutcome(
        name=job.name,
        status=Status.ANALYSED,
        exit_status=0,
        message=analysis.findings.conclusion,
        seconds=sum(stage.seconds for stage in run_info.stages),
        candidates=len(analysis.findings.candidates),
        engine=engine_identity(run_info.engine, choice),
        peak_memory_mib=max(stage.peak_memory_mib for stage in run_info.stages),
    )
    return with_counts(outcome, job.out) or outcome  # with an earlier review that was carried over


def failure(error: BaseException) -> tuple[int, str]:
    """Return exit status and message for an exception.

    Examples
    --------
    >>> failure(MemoryError())[0], failure(KeyError("x"))[1]
    (1, "a defect in LesionLens (KeyError: 'x')")
    >>> failure(ModuleNotFoundError("no", name="torch"))[1].partition(".")[0]
    'The package torch is not installed'
    >>> failure(RuntimeError("can't start new thread"))[1].partition(".")[0]
    'The system starts no more threads'
    """
    if isinstance(error, LesionLensError):
        return error.exit_status, str(error)
    if is_out_of_memory(error):
        return 1, "too little memory for this study; use fewer --workers"
    known_error = environment_error(error)
    if known_error is not None:
        return 1, str(known_error)
    first_line = (str(error).strip().splitlines() or ["no message"])[0][:300]
    return 1, f"a defect in LesionLens ({type(error).__name__}: {first_line})"
