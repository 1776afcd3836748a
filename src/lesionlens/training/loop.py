"""The training loop, resumable over several sessions."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from lesionlens.base.errors import CancelledError
from lesionlens.base.run_context import REPORT, SILENT, RunContext
from lesionlens.base.storage import check_target, claim, locked, write_atomically
from lesionlens.engines.device import autocast
from lesionlens.network.lens_net import LensNetwork
from lesionlens.network.normalise import with_presence
from lesionlens.training import checkpoint as checkpoints
from lesionlens.training.config import TrainConfig
from lesionlens.training.data import (
    SEEDS_PER_SOURCE,
    Batch,
    BatchSource,
    SynthSource,
    mixed,
    patch_stage,
    stage_seed,
)
from lesionlens.training.initial_network import initial_network
from lesionlens.training.losses import lens_loss
from lesionlens.training.optimiser import Optimiser
from lesionlens.training.trained_cases import TrainedCases, differing
from lesionlens.training.training_run import Cases, TrainingRun
from lesionlens.training.validate import validate

logger = logging.getLogger(__name__)
_REPORT_EVERY = 20
_LOG, _VALIDATION = "log.jsonl", "validation.jsonl"
_FILES, _LIST = ("weights.safetensors", _LOG, _VALIDATION), "train.files.json"
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class TrainEvent:
    """Progress of a run."""

    step: int
    steps: int
    loss: float
    minutes: float
    stage: int


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """Outcome of one session."""

    step: int
    steps: int
    finished: bool
    minutes: float
    """Total of all sessions."""
    loss: float
    """Running mean."""
    weights: Path
    """Averaged weights, safetensors."""
    resumed_at: int = 0
    """Step of the checkpoint that this session resumed from."""
    trained_before: tuple[str, ...] = ()
    """Validation cases that were in the training data of the initial weights."""
    trained_on: TrainedCases = field(default_factory=dict)
    """Cases that the weights were trained on in all sessions."""
    differing: tuple[str, ...] = ()
    """Cases that were added, changed or removed since the weights were trained on them."""


OnStep = Callable[[TrainEvent], None]


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Duration, device and data of one call of `train`."""

    minutes: float | None = None
    """Stop after this long; the next call resumes."""
    resume: bool = True
    """Resume from the checkpoint in the output folder, if there is one."""
    device: torch.device = _CPU
    cases: Cases | None = None
    """Train on these instead of synthetic brains."""


TO_THE_END = TrainOptions()


def _create_run(config: TrainConfig, out: Path, options: TrainOptions) -> TrainingRun:
    torch.manual_seed(config.seed)
    initial, notes, parent = initial_network(config)
    network = initial.to(options.device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = Optimiser(network, config.optimiser)
    run = TrainingRun(config, out, options.device, network, optimiser, options.cases, notes, parent)
    check_target(out)
    claim(out, _FILES, _LIST)
    return run


@contextmanager
def _exclusive(run: TrainingRun) -> Iterator[None]:
    """Refuse a second training in the folder: each would delete the other's checkpoint."""
    folder = run.out / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, busy=f"Another training is running in {run.out.name!r}."):
        yield


def _resume(run: TrainingRun, *, resume: bool) -> None:
    """Continue from the checkpoint, if there is one.

    Otherwise the earlier checkpoint is forgotten with the log: a session that is killed before its
    first checkpoint would be followed by one that resumes the earlier run without its log.
    """
    if resume:
        run.restore()
        run.check_held_out()
    else:
        checkpoints.forget(run.out / "checkpoint")
    for name in (_LOG, _VALIDATION):
        _drop_rows(run.out / name, run.step + 1)


def _drop_rows(file: Path, first_step: int) -> None:
    """Remove log lines from a step on: of a killed session, or of the run before --fresh."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    retained = [line for line in lines if _step_of(line) < first_step]
    if retained != lines:
        write_atomically(file, "".join(f"{line}\n" for line in retained))


def _step_of(line: str) -> float:
    """Return the step of a log line; infinity for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _rate_factor(config: TrainConfig, step: int) -> float:
    index, stage_step = config.stage_at(step)
    stage = config.stages[index]
    start, end = stage.rate
    fraction = min(1.0, stage_step / max(1, stage.steps))
    warmup = min(1.0, (step + 1) / max(1, config.optimiser.warmup))
    return (start + (end - start) * fraction) * warmup


def train_step(run: TrainingRun, batch: Batch) -> tuple[float, dict[str, float]]:
    """Train on one batch; return the loss and its terms."""
    device = run.device
    on_device = Batch(*(t.to(device) for t in batch))
    x = with_presence(on_device.channels, on_device.present, on_device.brain)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    with autocast(device) if run.config.autocast else nullcontext():
        output = run.network(x, bounds=on_device.position_range, trace=True)
    loss, terms = lens_loss(output, on_device, run.config.loss)
    value = float(loss.detach())
    if not math.isfinite(value):
        logger.warning("step %d has no finite loss and is skipped", run.step + 1)
    else:
        terms["gradient"] = run.optimiser.step(loss, _rate_factor(run.config, run.step), run.step)
        if not math.isfinite(terms["gradient"]):
            logger.warning("step %d has no finite gradient and is skipped", run.step + 1)
    run.step += 1
    return value, terms


def _stage_source(run: TrainingRun, stage: int) -> BatchSource:
    """Create the source of a stage; seeds differ between stages and sessions."""
    config = run.config
    session = 0 if config.data.workers == 0 else run.session
    first_volume_seed = stage_seed(config.seed, session, stage)
    completed = config.stage_at(run.step)[1]
    stage_config = config.stages[stage]
    if run.cases is not None:
        return run.cases.source(stage_config, config.data, config.seed + stage, completed)
    if stage_config.patches is None:
        return SynthSource(config.draw, stage_config, config.data, first_volume_seed, completed)
    patches = patch_stage(stage_config, stage_config.patches)
    patch_seed = first_volume_seed + 8 * SEEDS_PER_SOURCE
    return mixed(
        lambda n: SynthSource(config.draw, stage_config, config.data, first_volume_seed, n),
        lambda n: SynthSource(config.draw, patches, config.data, patch_seed, n),
        stage_config.patches.share,
        first_volume_seed,
        completed,
    )


def _append_row(file: Path, row: Mapping[str, float]) -> None:
    """Append a line of JSON, which has no infinite numbers: they are null."""
    finite_row = {name: value if math.isfinite(value) else None for name, value in row.items()}
    with (
        checkpoints.disk_errors(f"{file.name}, which could not be written"),
        file.open("a", encoding="utf-8") as stream,
    ):
        stream.write(json.dumps(finite_row) + "\n")


def _report(
    run: TrainingRun,
    value: float,
    terms: dict[str, float],
    source: BatchSource,
) -> None:
    row = {"step": run.step, "minutes": round(run.spent_s / 60, 2), "loss": round(run.loss, 4)}
    row |= {name: round(term, 4) for name, term in terms.items()}
    row |= {"drawn": source.drawn, "shown": source.shown}
    _append_row(run.out / _LOG, row)


def _validate(run: TrainingRun) -> None:
    """Validate on held-out seeds and patients; write a log line."""
    config, device = run.config, run.device
    if not config.validation_volumes and run.cases is None:
        return
    model = LensNetwork(run.network.config).to(device)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    model.load_state_dict(run.optimiser.average)
    stage = config.stages[config.stage_at(run.step)[0]]
    grid = replace(config.draw, shape=stage.shape, spacing_mm=stage.spacing_mm)
    metrics = validate(model, grid, config.validation_volumes, device)
    if run.cases is not None:
        metrics |= run.cases.validate(model, stage, device)
    _drop_rows(run.out / _VALIDATION, run.step)  # a finished run that is called again
    _append_row(run.out / _VALIDATION, {"step": run.step, **metrics})


def _running_mean(mean: float, value: float) -> float:
    """Update the mean loss, NaN before the first; the loss of a skipped step is left out."""
    if not math.isfinite(value):
        return mean
    return value if math.isnan(mean) else 0.98 * mean + 0.02 * value


def _run_session(
    run: TrainingRun, limit_s: float, on_step: OnStep | None, context: RunContext
) -> None:
    """Train until all steps or the time are used up, or the user cancels."""
    config = run.config
    started, spent_before = time.monotonic(), run.spent_s
    stage, source = -1, None
    saved_at, validated_step = started, -1
    try:
        while run.step < config.steps:
            if context.cancel.is_set() or time.monotonic() - started >= limit_s:
                break
            current_stage = config.stage_at(run.step)[0]
            if source is None or current_stage != stage:
                if source is not None:
                    source.close()
                stage, source = current_stage, _stage_source(run, current_stage)
            value, terms = train_step(run, source.batch(config.stages[stage].batch))
            run.spent_s = spent_before + time.monotonic() - started
            run.loss = _running_mean(run.loss, value)
            if run.step % _REPORT_EVERY == 0:
                _report(run, value, terms, source)
                if on_step is not None:
                    on_step(TrainEvent(run.step, config.steps, run.loss, run.spent_s / 60, stage))
            if time.monotonic() - saved_at > config.checkpoint_minutes * 60:
                run.save()
                _validate(run)
                saved_at, validated_step = time.monotonic(), run.step
        if run.cases is not None and validated_step != run.step and not context.cancel.is_set():
            run.save()  # a held-out case may be refused
            _validate(run)
    finally:
        if source is not None:
            source.close()


def train(
    config: TrainConfig,
    out: Path,
    options: TrainOptions = TO_THE_END,
    *,
    on_step: OnStep | None = None,
    context: RunContext = SILENT,
) -> TrainSummary:
    """Train, or resume training, until all steps or the session's minutes are used up.

    Parameters
    ----------
    out : Path
        Receives `checkpoint/`, `weights.safetensors` (the moving average), `log.jsonl` and
        `validation.jsonl`.
    on_step : callable or None
        Called every `_REPORT_EVERY` steps.
    context : RunContext
        Progress, and cancellation before every step; a checkpoint is saved as usual.

    Raises
    ------
    WeightsError
        The checkpoint is damaged or of another network.
    ResourceError
        A checkpoint cannot be written; the last one is intact.
    UnusableInputError
        Another process trains there.
    """
    run = _create_run(config, out, options)
    with _exclusive(run):
        _resume(run, resume=options.resume)
        if run.resumed_at:
            logger.log(REPORT, "continuing from step %d of %d", run.resumed_at, config.steps)
        limit_s = math.inf if options.minutes is None else 60 * options.minutes
        with suppress(CancelledError):  # while cases are prepared
            _run_session(run, limit_s, on_step, context)
        return _summary(run, run.save())


def _summary(run: TrainingRun, weights: Path) -> TrainSummary:
    steps, minutes, trained = run.config.steps, run.spent_s / 60, run.trained
    trained_before = run.cases.in_training_data(run.notes.trained_on) if run.cases else ()
    differing_cases = differing(trained, run.cases.training) if run.cases else ()
    return TrainSummary(
        run.step, steps, run.step >= steps, minutes, run.loss, weights, run.resumed_at,
        trained_before, trained, differing_cases,
    )  # fmt: skip
