"""Fine-tune the network on a site's own cases, or on results that a reader has signed.

`finetune` runs or continues a run in a folder, which afterwards holds `weights.safetensors`, the
page `held_out.html` (each held-out patient before and after), and what the next session needs:
`checkpoint.safetensors`, `split.json` and the prepared `cases/`.

The weights are the mean of the initial ones and of a moving average over the steps, because
training on a few patients alone forgets what they do not show (Wortsman et al. 2022,
arXiv:2109.01903).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from safetensors import SafetensorError
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.base.errors import CancelledError, ConfigError, UnusableInputError, WeightsError
from lesionlens.base.labels import Region
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import locked, write_atomically
from lesionlens.engines.device import autocast
from lesionlens.network import weights as weight_files
from lesionlens.network.lens_net import LensNetwork
from lesionlens.network.normalise import with_presence
from lesionlens.network.weights import WeightsInfo, WeightsNotes, notes_of
from lesionlens.training.augmentation import PreparedCase, training_batch
from lesionlens.training.cases import TrainingCases
from lesionlens.training.losses import CAVITY, Batch, lens_loss
from lesionlens.training.references import find_real_cases

STEPS = 260
WEIGHTS, PAGE, _CHECKPOINT = "weights.safetensors", "held_out.html", "checkpoint.safetensors"
_RATE, _LAST_RATE, _WARMUP, _CLIP, _DECAY = 4e-4, 0.03, 20, 3.0, 0.99
_BETAS = (0.9, 0.98)
_INITIAL_SHARE = 0.3
"""Share of the initial weights in the mean."""
_WINDOW_SHARE, _WINDOW = 0.1, (88, 88, 88)
"""Share of the steps on windows of the finer voxels of the refinement."""
_SAVE_S = 600.0
_REGION_TENSORS = ("queries.query", "refine.weight", "refine.bias")  # a row for each region


@dataclass(frozen=True, slots=True)
class FinetuneJob:
    """What to train on, and how far."""

    cases: Path
    """Cases with references, or results with signed reviews."""
    out: Path
    """Will hold patients' images."""
    studies: Path | None = None
    """The studies of results, as `batch` was given them."""
    steps: int = STEPS
    weights: str | None = None
    """Initial weights, as for `network.weights.weights_path`."""
    convention: str | None = None
    """Label conventions of the references, as for `evaluate`."""


@dataclass(frozen=True, slots=True)
class FinetuneOutcome:
    """Result of one session; times and steps are of all sessions."""

    step: int
    resumed_at: int
    minutes: float
    loss: float
    """Running mean; NaN before the first step."""
    weights: Path
    held_out: pandas.DataFrame | None
    """Dice of each held-out case: columns ``wt before``, ``wt after`` and so on; None if the
    session was cancelled."""
    trained_before: tuple[str, ...]
    """Held-out cases that the initial weights were trained on."""
    left_out: tuple[tuple[str, str], ...]
    """Name of each result that is not trained on, and why."""


class _Run:
    """Network, optimiser and moving average, saved to one file."""

    def __init__(
        self, initial: LensNetwork, info: WeightsInfo, out: Path, device: torch.device, *,
        cavity: bool,
    ) -> None:  # fmt: skip
        torch.manual_seed(1)
        self.initial, self.info, self.device, self.out = initial, info, device, out
        regions = 4 if cavity else self.info.config.regions
        self.network = LensNetwork(replace(self.info.config, regions=regions))
        state, fresh = initial.state_dict(), self.network.state_dict()
        for name in _REGION_TENSORS:
            state[name] = torch.cat([state[name], fresh[name][len(state[name]) :]])
        self.network.load_state_dict(state)
        self.network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.start = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.average = {name: value.clone() for name, value in self.start.items()}
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=_RATE, betas=_BETAS, weight_decay=0.01
        )
        self.step, self.resumed_at, self.spent_s, self.loss = 0, 0, 0.0, math.nan
        self.trained: dict[str, dict[str, Any]] = {}

    def save(self) -> None:
        """Write the checkpoint."""
        tensors = {f"network/{n}": value for n, value in self.network.state_dict().items()}
        tensors |= {f"average/{n}": value for n, value in self.average.items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"{key}/{name}"] = value
        meta = {
            "step": self.step,
            "spent_s": self.spent_s,
            "loss": self.loss if math.isfinite(self.loss) else None,
            "initial": self.info.sha256,
            "trained": self.trained,
        }
        path = self.out / _CHECKPOINT
        weight_files.write_tensors(path, tensors, {"run": json.dumps(meta)}, torch.float32)

    def resume(self) -> None:
        """Continue from the checkpoint, if there is one."""
        path = self.out / _CHECKPOINT
        if not path.is_file():
            if (self.out / WEIGHTS).exists():
                raise UnusableInputError(
                    f"{WEIGHTS} in {self.out.name!r} is of another run.",
                    hint="Choose another --out.",
                )
            return
        try:
            tensors, metadata = weight_files.read_tensors(path)
            meta = json.loads(metadata["run"])
            if meta["initial"] != self.info.sha256:
                raise WeightsError(
                    f"The run in {self.out.name!r} started with other weights.",
                    hint="Name them with --weights, or choose another --out.",
                )
            by_kind: dict[str, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                kind, _, name = name.partition("/")
                by_kind.setdefault(kind, {})[name] = value.to(self.device)
            self.network.load_state_dict(by_kind.pop("network"))
            self.average = by_kind.pop("average")
            for name, parameter in self.network.named_parameters():
                moments = {kind: v[name] for kind, v in by_kind.items() if name in v}
                if moments:
                    moments["step"] = moments["step"].cpu()
                    self.optimiser.state[parameter] = moments
            self.step = self.resumed_at = int(meta["step"])
            self.spent_s, self.trained = float(meta["spent_s"]), dict(meta["trained"])
            self.loss = math.nan if meta["loss"] is None else float(meta["loss"])
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            hint = "Delete it, or choose another --out."
            raise WeightsError(f"{_CHECKPOINT} cannot be continued.", hint=hint) from error

    def train_on(self, batch: Batch, steps: int) -> None:
        """Take one step; one without a finite loss or gradient changes nothing."""
        batch = Batch(*(tensor.to(self.device) for tensor in batch))
        x = with_presence(batch.channels, batch.present, batch.brain)
        with autocast(self.device):
            output = self.network(x, bounds=batch.bounds, maps=True)
        loss = lens_loss(output, batch)
        done = min(1.0, self.step / max(1, steps))
        cosine = _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = _RATE * cosine * min(1.0, (self.step + 1) / _WARMUP)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        value = float(loss.detach())
        if math.isfinite(value) and math.isfinite(norm):
            self.optimiser.step()
            decay = min(_DECAY, (1 + self.step) / (10 + self.step))
            for name, tensor in self.network.state_dict().items():
                self.average[name].lerp_(tensor, 1 - decay)
            self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        self.step += 1

    def mean(self) -> dict[str, Tensor]:
        """Return the weights for use."""
        share = _INITIAL_SHARE if self.step else 1.0
        return {n: value.lerp(self.start[n], share) for n, value in self.average.items()}


def finetune(
    job: FinetuneJob,
    *,
    minutes: float | None = None,
    device: torch.device,
    context: RunContext = SILENT,
) -> FinetuneOutcome:
    """Train on one side of the patients and judge on the other; the same call continues.

    Parameters
    ----------
    minutes : float or None
        Stop the session after this time.
    context : RunContext
        A cancelled session is saved, and not judged.

    Raises
    ------
    UnusableInputError, ConfigError, WeightsError
        A case, the split or the weights cannot be used.
    """
    if job.out.is_file():
        raise UnusableInputError(f"{job.out.name!r} is a file.", hint="Name a folder with --out.")
    initial, info = weight_files.load(job.weights)  # refused before any case is read
    conventions = read_conventions(job.convention, job.cases)
    found = find_real_cases(job.cases, studies=job.studies, convention=conventions.of)
    conventions.check(case.name for case in found.cases)
    job.out.mkdir(parents=True, exist_ok=True)
    with locked(job.out, busy=f"Another training is running in {job.out.name!r}."):
        cavity = any(case.cavity for case in found.cases)
        run = _Run(initial, info, job.out, device, cavity=cavity)
        run.resume()
        spacings_mm = tuple(filter(None, (info.spacing_mm, info.focus_spacing_mm)))
        cases = TrainingCases(found.cases, job.out, spacings_mm, context)
        leaked = cases.among([scan for case in run.trained.values() for scan in case["scans"]])
        if leaked:
            raise ConfigError(
                f"This run was trained on held-out cases before: {', '.join(leaked)}.",
                hint="Restore their names, or choose another --out.",
            )
        limit_s = math.inf if minutes is None else 60 * minutes
        with suppress(CancelledError):
            _train(run, cases, job.steps, limit_s, context)
        run.save()
        held_out, notes = None, _notes(run)
        if not context.cancel.is_set():
            held_out, temperature = _judge(run, cases)
            notes = replace(notes, temperature=temperature)
            write_atomically(job.out / PAGE, _page(held_out, notes))
        path = job.out / WEIGHTS
        weight_files.save(path, run.network.config, run.mean(), notes)
        before = cases.among(run.info.trained_on)
    return FinetuneOutcome(
        run.step, run.resumed_at, run.spent_s / 60, run.loss, path, held_out, before,
        found.left_out,
    )  # fmt: skip


def _train(
    run: _Run, cases: TrainingCases, steps: int, limit_s: float, context: RunContext
) -> None:
    """Train until the last step, the end of the time or a cancellation."""
    for case in cases.training:  # all are prepared before the first step
        cases.prepared(case, cases.spacings_mm[0])
    started = saved = time.monotonic()
    spent_before = run.spent_s
    run.network.train()
    while run.step < steps and time.monotonic() - started < limit_s:
        context.check("training")
        rng = np.random.default_rng((1, run.step))
        case = cases.training[int(rng.integers(len(cases.training)))]
        fine = len(cases.spacings_mm) > 1 and rng.random() < _WINDOW_SHARE
        packed = cases.prepared(case, cases.spacings_mm[fine])
        seed = int(rng.integers(2**31))
        run.train_on(training_batch(packed, _WINDOW if fine else None, seed), steps)
        scans = {*run.trained.get(case.name, {}).get("scans", ()), *cases.scans(case)}
        run.trained[case.name] = {"patient": case.patient, "scans": sorted(scans)}
        run.spent_s = spent_before + time.monotonic() - started
        context.progress(f"step {run.step}, loss {run.loss:.3f}", run.step / steps)
        if time.monotonic() - saved > _SAVE_S:
            run.save()
            saved = time.monotonic()


def _notes(run: _Run) -> WeightsNotes:
    """Return the notes of the new weights: those of the initial ones, with the new data."""
    info, patients = run.info, {case["patient"] for case in run.trained.values()}
    cases = f"{len(run.trained)} real cases of {len(patients)} patients"
    provenance = {
        "data": f"{info.provenance.get('data', 'unknown')}, then {cases}",
        "steps": run.step,
        "minutes": round(run.spent_s / 60, 1),
        "parent_sha256": info.sha256,
    }
    scans = {scan for case in run.trained.values() for scan in case["scans"]}
    known = notes_of(info) | {"operating_points": ()}
    known["version"] = f"{info.version.partition('+')[0]}+tuned"
    known["trained_on"] = tuple(dict.fromkeys((*info.trained_on, *sorted(scans))))
    return WeightsNotes(**known | {"provenance": provenance})


def _judge(run: _Run, cases: TrainingCases) -> tuple[pandas.DataFrame, tuple[float, float, float]]:
    """Return the Dice of the held-out cases before and after, and the new temperatures.

    The initial temperatures were fitted on whole analyses: each is changed by the factor by which
    the best temperature of a single pass changes.
    """
    tuned = LensNetwork(run.network.config).to(run.device)
    tuned.load_state_dict(run.mean())
    rows: dict[str, dict[str, float]] = {}
    inside: dict[str, list[tuple[Tensor, Tensor]]] = {"before": [], "after": []}
    for case in cases.held_out:
        packed = cases.prepared(case, cases.spacings_mm[0])
        code = torch.from_numpy(packed.code)
        for when, network in (("before", run.initial), ("after", tuned)):
            logits = _logits(network.to(run.device).eval(), packed, run.device)
            inside[when].append((logits[:, code > 0], code[code > 0]))
            scores = rows.setdefault(case.name, {})
            scores |= {f"{name} {when}": dice for name, dice in _dice(logits, packed).items()}
    new = []
    for region, temperature in enumerate(run.info.temperature):
        before, after = (_best_temperature(inside[when], region) for when in ("before", "after"))
        new.append(round(temperature * min(max(after / before, 0.5), 2.0), 4))
    return pandas.DataFrame.from_dict(rows, orient="index"), (new[0], new[1], new[2])


@torch.inference_mode()
def _logits(network: LensNetwork, case: PreparedCase, device: torch.device) -> Tensor:
    """Return (R, I, J, K) float32 logits of a whole brain, on the CPU."""
    brain = torch.from_numpy(case.code > 0)[None].to(device)
    channels = torch.from_numpy(case.channels.astype(np.float32))[None].to(device)
    x = with_presence(channels, torch.from_numpy(case.present)[None].to(device), brain)
    with autocast(device):
        logits: Tensor = network(x, lesions=False).logits[0]
    return logits.float().cpu()


def _dice(logits: Tensor, case: PreparedCase) -> dict[str, float]:
    """Return the Dice of each region, 1 where neither outline has a voxel."""
    wanted = {region.value: case.code > n + 1 for n, region in enumerate(Region)}
    if len(logits) > len(Region) and (case.instances == CAVITY).any():
        wanted["cavity"] = case.instances == CAVITY
    scores = {}
    for (name, reference), values in zip(wanted.items(), logits.numpy(), strict=False):
        predicted = (values > 0) & (case.code > 0)
        total = int(predicted.sum()) + int(reference.sum())
        scores[name] = 2 * int((predicted & reference).sum()) / total if total else 1.0
    return scores


def _best_temperature(brains: Sequence[tuple[Tensor, Tensor]], region: int) -> float:
    """Return the temperature of least cross-entropy over the voxels of brains."""
    logits = torch.cat([values[region] for values, _ in brains])
    wanted = torch.cat([code > region + 1 for _, code in brains]).float()

    def entropy(exponent: float) -> float:
        scaled = logits / math.exp(exponent)
        return float(functional.binary_cross_entropy_with_logits(scaled, wanted))

    found = minimize_scalar(entropy, bounds=(-1.5, 1.5), method="bounded")
    return math.exp(float(found.x))


def _page(held_out: pandas.DataFrame, notes: WeightsNotes) -> str:
    """Return the page of the held-out cases."""
    table = pandas.concat([held_out, held_out.mean().to_frame("mean").T])
    temperatures = ", ".join(f"{value:.2f}" for value in notes.temperature)
    return (
        "<!doctype html><meta charset=utf-8><title>Held-out cases</title>"
        "<h1>Held-out cases before and after fine-tuning</h1>"
        f"<p>Dice of one pass over the whole brain. Training data: "
        f"{escape(str(notes.provenance['data']))}. New temperatures: {temperatures}.</p>"
        f"{table.to_html(float_format='{:.3f}'.format, na_rep='')}"
        "<p>Research use only. A few patients say little: a difference of 0.02 may be chance.</p>\n"
    )
