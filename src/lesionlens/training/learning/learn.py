"""Fine-tune on signed reviews: gather, split patients, train, evaluate, write a proposal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from lesionlens.analysis.evaluation.paired import paired
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.errors import ConfigError, ReadError
from lesionlens.base.files.access import make_folder
from lesionlens.base.files.atomic_file import write_atomically, write_together
from lesionlens.base.files.bounded_read import read_json
from lesionlens.base.files.folder_lock import folder_lock
from lesionlens.base.files.manifest import check_free
from lesionlens.base.files.staging import check_target
from lesionlens.base.provenance import utc_now
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.device import choose
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.engines.threads import use_threads
from lesionlens.network import weights as weight_files
from lesionlens.network.versions import WeightsStore
from lesionlens.network.weights_metadata import WeightsInfo, WeightsNotes, notes_of
from lesionlens.training.config import TrainConfig
from lesionlens.training.distributed import ProcessGroup
from lesionlens.training.learning import page
from lesionlens.training.learning.held_out import HeldOutScorer, ScoredWeights, synthetic_metrics
from lesionlens.training.learning.proposal import (
    PAGE,
    RECORD,
    WEIGHTS,
    HeldOutCase,
    MetricChange,
    NamedWeights,
    Proposal,
    digests,
)
from lesionlens.training.learning.recipe import STEPS, learn_recipe
from lesionlens.training.learning.signed_reviews import Gathered, SignedReview, gather
from lesionlens.training.loop import TrainEvent, TrainOptions, TrainSummary, train
from lesionlens.training.real_cases import (
    SPLIT_NAME,
    RealCases,
    config_for_cases,
    read_split,
    write_split,
)
from lesionlens.training.trained_cases import description

BEGUN = "begun.json"
_MIN_HELD_OUT = 10  # held-out patients below which a caution is shown
_MAX_DROP = 0.02  # drop of Dice on synthetic brains that is reported even if the interval is wide
_TRAINING_FRACTION = 0.85  # training's share of the progress bar


class _Metric(NamedTuple):
    title: str
    key: str
    better: Literal[1, -1] = 1
    """Whether higher or lower values are better."""


_DICE = (
    _Metric("Dice, whole tumour", "wt"),
    _Metric("Dice, tumour core", "tc"),
    _Metric("Dice, enhancing", "et"),
)
_PATIENT_METRICS = (
    *_DICE,
    _Metric("sensitivity", "sensitivity"),
    _Metric("false candidates", "fp", -1),
    _Metric("lesion-wise F1, whole tumour", "lesion_f1_wt"),
)
_SYNTHETIC_METRICS = (
    *_DICE,
    _Metric("Dice, resection cavity", "cavity"),
    _Metric("flagged in tumour-free brains (ml)", "flagged_ml", -1),
)


@dataclass(frozen=True, slots=True)
class LearnJob:
    """Data and settings of a fine-tuning run.

    Parameters
    ----------
    results, out : Path
        Reviewed results; output folder.
    studies, readers : Path or None, and tuple of str
        See `learning.signed_reviews.gather`.
    recipe : TrainConfig or None
        A site's own configuration; None for the built-in one.
    steps : int
        Steps of the built-in configuration.
    start : str or None
        Initial weights, as for `network.weights.load_chosen`; None for those in use.
    network : EngineChoice
        Device, precision and threads.
    synthetic_volumes : int
        Number of synthetic brains for the evaluation.
    """

    results: Path
    studies: Path | None
    out: Path
    recipe: TrainConfig | None = None
    steps: int = STEPS
    start: str | None = None
    network: EngineChoice = field(default_factory=EngineChoice)
    synthetic_volumes: int = 12
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LearnOutcome:
    """Outcome of one session; `proposal` is None if training is not finished."""

    trained: TrainSummary
    gathered: Gathered
    proposal: Proposal | None


def learn(
    job: LearnJob, *, minutes: float | None = None, context: RunContext = SILENT
) -> LearnOutcome:
    """Fine-tune on signed reviews and propose weights; the same call resumes an interrupted run.

    Parameters
    ----------
    minutes : float or None
        Stop training after this long.
    context : RunContext
        Reports progress and is checked for cancellation before each step and case.

    Raises
    ------
    UnusableInputError, ConfigError
        Nothing is signed; fewer than two patients; a folder of another run; a recipe without
        synthetic brains, or with its own initial weights.
    CancelledError
        The user asked to stop during the evaluation; complete results are kept.
    """
    check_target(job.out)
    _check_leaves_weights(job.recipe)
    context.progress("reading reviews", 0.0)
    gathered = gather(job.results, job.studies, job.readers)
    parent = weight_files.chosen_path(job.start)
    _, parent_info = weight_files.load(parent)
    signed_cases = [review.case for review in gathered.reviews]
    recipe = config_for_cases(learn_recipe(parent, job.recipe, job.steps), signed_cases)
    _check_recipe(recipe)
    make_folder(job.out)
    _check_same(job.out, parent_info.sha256, recipe)
    _inherit_split(job.out, gathered, WeightsStore(), parent_info.sha256)
    cases = RealCases(signed_cases, job.out, recipe, context.part(0, 0.1))
    use_threads(job.network.threads)
    processes = ProcessGroup(choose(job.network.device))

    def report(event: TrainEvent) -> None:
        fraction = 0.1 + (_TRAINING_FRACTION - 0.1) * event.step / event.steps
        context.progress(f"step {event.step} of {event.steps}, loss {event.loss:.3f}", fraction)

    options = TrainOptions(
        minutes, processes=processes, cases=cases, precision=job.network.precision
    )
    trained = train(recipe, job.out, options, on_step=report, context=context)
    if not trained.finished:
        return LearnOutcome(trained, gathered, None)
    proposed = _write_proposed(job.out, trained, parent_info)
    before = ScoredWeights("before", parent, parent_info.sha256)
    after = ScoredWeights("after", job.out / WEIGHTS, proposed.sha256)
    held_out_names = {case.name for case in cases.parts.validation}
    held_out = [r for r in gathered.reviews if r.case.name in held_out_names]
    evaluation = context.part(_TRAINING_FRACTION, 1.0)
    scores = _score_both(job, recipe, held_out, (before, after), evaluation)
    proposal = _proposal(gathered, cases, parent_info, proposed, scores, trained)
    pages = ((PAGE, page.html(proposal)), (RECORD, proposal.file_text()))
    write_together([(job.out / name, content) for name, content in pages])
    return LearnOutcome(trained, gathered, proposal)


def _check_leaves_weights(recipe: TrainConfig | None) -> None:
    if recipe is not None and recipe.init is not None:
        raise ConfigError(
            found=f"a recipe with init = {recipe.init!r}",
            expected="one that leaves the initial weights to --weights, or to those in use",
            next_step="Delete `init` from the recipe, and name other weights with --weights",
        )


def _check_recipe(recipe: TrainConfig) -> None:
    if recipe.data.drawn_share <= 0 or recipe.data.held_out <= 0:
        raise ConfigError(
            found="a recipe without "
            + ("synthetic brains" if recipe.data.drawn_share <= 0 else "patients who are held out"),
            expected="drawn_share and held_out above zero in [data]: otherwise the network may "
            "forget, unnoticed, what these patients do not show",
            next_step="Set both, or use `lesionlens train --finetune`",
        )


def _check_same(out: Path, parent_sha256: str, recipe: TrainConfig) -> None:
    """Refuse to resume in a folder that was started with other weights or another recipe."""
    comparable = replace(recipe, init=parent_sha256)
    digest = hashlib.sha256(repr(comparable).encode()).hexdigest()
    current = {"parent_sha256": parent_sha256, "recipe": digest}
    path = out / BEGUN
    if not path.is_file():
        check_free(out, (PAGE, RECORD, WEIGHTS, SPLIT_NAME), {})
        write_atomically(path, json.dumps(current, indent=1) + "\n")
        return
    try:
        previous = read_json(path)
    except (OSError, ValueError, ReadError):
        previous = None
    if not isinstance(previous, dict) or previous.keys() != current.keys():
        raise ConfigError(
            found=f"a damaged or unreadable {BEGUN} in {out.name!r}",
            expected="the record of the weights and the recipe that this run was started with",
            next_step="Restore it from a backup, or choose another folder with --out",
        )
    if previous != current:
        raise ConfigError(
            found=f"{out.name!r}, which was started with other weights, another recipe or --steps, "
            f"or {'without' if recipe.cavity else 'with'} a resection cavity in a review",
            expected="the same as before, or a new folder",
            next_step="Choose another folder with --out",
        )


def _inherit_split(out: Path, gathered: Gathered, store: WeightsStore, parent: str) -> None:
    """Write a split that keeps each patient on the side it had for the initial weights."""
    version = store.of(parent)
    if version is None:
        return
    path = out / SPLIT_NAME
    held_out_by_patient = read_split(path)  # of an earlier run, before later reviews were signed
    patients = {review.case.patient for review in gathered.reviews}
    for patient in patients - held_out_by_patient.keys():
        digest = digests([patient])[0]
        if digest in version.trained_on or digest in version.held_out:
            held_out_by_patient[patient] = digest not in version.trained_on
    write_split(path, held_out_by_patient, {})


def _write_proposed(out: Path, trained: TrainSummary, parent_info: WeightsInfo) -> NamedWeights:
    """Write the proposed weights in half precision, named after the initial ones."""
    network, info = weight_files.load(trained.weights)
    state, path = network.state_dict(), out / WEIGHTS
    if path.is_file():  # of an earlier call: identical weights keep their file and SHA-256
        earlier, earlier_info = weight_files.load(path)
        earlier_state = earlier.state_dict()
        if all(torch.equal(state[name].half().float(), earlier_state[name]) for name in state):
            return NamedWeights(version=earlier_info.version, sha256=earlier_info.sha256)
    timestamp = datetime.now(UTC).strftime("%Y%m%d.%H%M")
    version = f"{parent_info.version.partition('+')[0]}+tuned.{timestamp}"
    provenance = {
        **info.provenance,
        "data": f"{parent_info.version}, then {description(trained.trained_on)}",
    }
    notes = WeightsNotes(**notes_of(info) | {"version": version, "provenance": provenance})
    sha256 = weight_files.save(path, network.config, state, notes, dtype=torch.float16)
    return NamedWeights(version=version, sha256=sha256)


@dataclass(frozen=True, slots=True)
class _ComparedScores:
    """Scores of the initial and of the proposed weights."""

    cases: Sequence[tuple[SignedReview, CaseScore, CaseScore]]
    """Each held-out review, with its score before and after."""
    synthetic: tuple[Sequence[Mapping[str, float]], ...]
    """Metrics of each synthetic brain, before and after."""


def _score_both(
    job: LearnJob,
    recipe: TrainConfig,
    reviews: Sequence[SignedReview],
    compared: tuple[ScoredWeights, ScoredWeights],
    context: RunContext,
) -> _ComparedScores:
    """Score held-out reviews and synthetic brains by the initial and the proposed weights."""
    folder = job.out / "held_out"
    make_folder(folder)
    scorer = HeldOutScorer(job.results, folder, job.network)
    parts = [context.part(n / 4, (n + 1) / 4) for n in range(4)]
    with folder_lock(folder, busy=f"another `learn` that scores in {job.out.name!r}"):
        before, after = (
            scorer.score(reviews, weights, part)
            for weights, part in zip(compared, parts[:2], strict=True)
        )
        synthetic = tuple(
            synthetic_metrics(weights, recipe, job.synthetic_volumes, job.network, part)
            for weights, part in zip(compared, parts[2:], strict=True)
        )
    return _ComparedScores([*zip(reviews, before, after, strict=True)], synthetic)


def _metric_changes(
    metrics: Sequence[_Metric],
    before: Sequence[Mapping[str, float | None]],
    after: Sequence[Mapping[str, float | None]],
) -> tuple[MetricChange, ...]:
    keys = [metric.key for metric in metrics]
    figures = {figure.key: figure for figure in paired(before, after, keys)}
    return tuple(
        MetricChange(title=metric.title, better=metric.better, **asdict(figure))
        for metric in metrics
        if (figure := figures.get(metric.key)) is not None
    )


def _proposal(
    gathered: Gathered,
    cases: RealCases,
    parent_info: WeightsInfo,
    proposed: NamedWeights,
    scores: _ComparedScores,
    trained: TrainSummary,
) -> Proposal:
    parts = cases.parts
    complete = [row for row in scores.cases if not (row[1].failed or row[2].failed)]
    patients = _metric_changes(
        _PATIENT_METRICS,
        [score.metrics for _, score, _ in complete],
        [score.metrics for _, _, score in complete],
    )
    synthetic = _metric_changes(_SYNTHETIC_METRICS, *scores.synthetic)
    ancestor = WeightsStore().of(parent_info.sha256)
    trained_on = digests(case.patient for case in trained.trained_on.values())
    held_out = digests(case.patient for case in parts.validation)
    return Proposal(
        made=utc_now(),
        parent=NamedWeights(version=parent_info.version, sha256=parent_info.sha256),
        proposed=proposed,
        steps=trained.step,
        counts={
            **gathered.counts,
            "studies": len(gathered.reviews),
            "patients": len({review.case.patient for review in gathered.reviews}),
            "trained on (patients)": len(trained_on),
            "held out (patients)": len(held_out),
        },
        left_out=gathered.left_out,
        patients=patients,
        drawn=synthetic,
        cases=tuple(_held_out_case(*row) for row in scores.cases),
        cautions=(
            *_failure_cautions(scores),
            *(
                f"One scan in the cases {first} and {second} of two patients: both are counted"
                for first, second in cases.repeated
            ),
            *cautions(
                patients,
                synthetic,
                [review for review, *_ in complete],
                parent_info.sha256,
                trained.trained_before,
                trained.differing,
            ),
        ),
        trained_on=tuple(sorted({*trained_on, *(ancestor.trained_on if ancestor else ())})),
        held_out=tuple(sorted({*held_out, *(ancestor.held_out if ancestor else ())})),
    )


def _held_out_case(review: SignedReview, before: CaseScore, after: CaseScore) -> HeldOutCase:
    """Return the record of a case, with the reason for each side that has no usable result."""
    return HeldOutCase(
        name=review.case.name,
        healthy=before.healthy,
        drawn_by_weights=review.drawn_by_weights,
        before={} if before.failed else before.metrics,
        after={} if after.failed else after.metrics,
        problems=tuple(score.problems[0] for score in (before, after) if score.failed),
    )


def _failure_cautions(scores: _ComparedScores) -> list[str]:
    """List the held-out cases without a usable result on either side, with the reason."""
    return [
        f"{score.case} has no usable result {side} and is in none of the figures; the same command "
        f"tries it again: {score.problems[0]}"
        for side, side_scores in (
            ("before", [before for _, before, _ in scores.cases]),
            ("after", [after for _, _, after in scores.cases]),
        )
        for score in side_scores
        if score.failed
    ]


def cautions(
    patients: Sequence[MetricChange],
    synthetic: Sequence[MetricChange],
    reviews: Sequence[SignedReview],
    parent_sha256: str,
    trained_before: Sequence[str] = (),
    differing: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the warnings to consider before weights are accepted.

    `reviews` are those that were compared; `trained_before` names the held-out cases that were in
    the training data of the initial weights; for `differing` see `training.loop.TrainSummary`.
    """
    lines = [
        f"{change.title}: significantly worse {evidence}"
        for rows, evidence in (
            (patients, "on held-out patients"),
            (synthetic, "on synthetic brains"),
        )
        for change in rows
        if change.figure.verdict(change.better) < 0
    ]
    lines += [
        f"{change.title}: {-change.figure.difference:.3f} lower on synthetic brains, but not "
        f"significantly"
        for change in synthetic
        if change.better > 0
        and change.figure.difference < -_MAX_DROP
        and change.figure.verdict(1) == 0
    ]
    count = len({review.case.patient for review in reviews})
    if count < _MIN_HELD_OUT:
        lines.append(f"Few held-out patients were compared: {count}. So few give wide intervals")
    unchanged = [r for r in reviews if r.drawn_by_weights and r.weights_sha256 == parent_sha256]
    if unchanged:
        lines.append(
            f"In {len(unchanged)} of {len(reviews)} held-out cases readers accepted every outline "
            "of the earlier weights unchanged: Dice favours those weights there"
        )
    if trained_before:
        lines.append(
            "The earlier weights were trained on held-out cases, which favours them: "
            + ", ".join(trained_before)
        )
    if differing:
        lines.append(
            "Reviews were added, changed or withdrawn after training; another --out trains on them "
            f"as they are now: {', '.join(differing)}"
        )
    return tuple(lines)
