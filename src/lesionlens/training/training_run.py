"""State of one training session, saved and restored, and the protocol of real cases."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Protocol

import torch

from lesionlens.base.errors import ConfigError, WeightsError
from lesionlens.base.text import abbreviated_list
from lesionlens.network import weights
from lesionlens.network.lens_net import LensNetwork
from lesionlens.network.weights import WeightsNotes
from lesionlens.training import checkpoint as checkpoints
from lesionlens.training.config import DataConfig, StageConfig, TrainConfig
from lesionlens.training.data import BatchSource
from lesionlens.training.initial_network import name_of
from lesionlens.training.optimiser import Optimiser
from lesionlens.training.trained_cases import (
    SYNTHETIC,
    TrainedCases,
    data_after,
    from_record,
    merged,
    to_record,
)


class Cases(Protocol):
    """Real cases instead of the generator; implemented by `training.real_cases.RealCases`."""

    @property
    def training(self) -> TrainedCases:
        """The training cases."""
        ...

    def in_training_data(self, trained_on: Collection[str]) -> tuple[str, ...]:
        """Return the validation cases that were in the training data of earlier weights."""
        ...

    def source(
        self, stage: StageConfig, config: DataConfig, seed: int, completed: int
    ) -> BatchSource:
        """Return a source of the training cases."""
        ...

    def validate(
        self,
        network: LensNetwork,
        stage: StageConfig,
        device: torch.device,
    ) -> dict[str, float]:
        """Return metrics on the held-out patients."""
        ...


@dataclass(slots=True)
class TrainingRun:
    """State of one session."""

    config: TrainConfig
    out: Path
    device: torch.device
    network: LensNetwork
    optimiser: Optimiser
    cases: Cases | None = None
    notes: WeightsNotes = field(default_factory=WeightsNotes)
    """Metadata of the initial weights."""
    parent_sha256: str | None = None
    """SHA-256 of the initial weights; None without any."""
    step: int = 0
    resumed_at: int = 0
    """Step of the checkpoint that this session resumed from."""
    earlier_cases: TrainedCases | None = None
    """Cases of earlier sessions; None without a step."""
    spent_s: float = 0.0
    session: int = 0
    loss: float = float("nan")

    @property
    def trained(self) -> TrainedCases:
        """Cases that the weights were trained on, in this session or an earlier one."""
        if self.cases is None:
            return {}
        if self.earlier_cases is None:
            return self.cases.training
        if self.step == self.resumed_at:
            return self.earlier_cases
        return merged(self.earlier_cases, self.cases.training)

    def save(self) -> Path:
        """Write checkpoint and averaged weights; return the weights' path."""
        path = self.out / "weights.safetensors"
        tensors = {f"network/{n}": p for n, p in self.network.state_dict().items()}
        tensors |= self.optimiser.state()
        meta = {
            "step": self.step,
            "minutes": self.spent_s / 60,
            "session": self.session,
            "loss": self.loss,
            "network": name_of(self.config),
            "seed": self.config.seed,
            "recipe": recipe_record(self.config),
            "cases": to_record(self.trained),
            "parent_sha256": self.parent_sha256,
        }
        checkpoints.save(self.out / "checkpoint", checkpoints.Checkpoint(tensors, meta))
        stage = self.config.stages[self.config.stage_at(max(0, self.step - 1))[0]]
        scans = {scan for case in self.trained.values() for scan in case.scans}
        notes = replace(
            self.notes,
            spacing_mm=max(1.0, round(sum(stage.spacing_mm) / 2, 2)),
            focus_spacing_mm=_focus_mm(stage) or self.notes.focus_spacing_mm,
            provenance=self._provenance(),
            trained_on=(*self.notes.trained_on, *sorted(scans)),
        )
        weights.save(path, self.network.config, self.optimiser.average, notes)
        return path

    def _provenance(self) -> dict[str, Any]:
        """Describe the training data, including that of the initial weights."""
        before = self.notes.provenance
        data = str(before.get("data", "unknown")) if self.parent_sha256 else SYNTHETIC
        record: dict[str, Any] = {
            "data": data_after(data, self.trained),
            "steps": self.step,
            "minutes": round(self.spent_s / 60, 1),
        }
        return record | ({"parent_sha256": self.parent_sha256} if self.parent_sha256 else {})

    def _check_parent(self, before: str | None) -> None:
        """Refuse initial weights that differ from those of the earlier sessions.

        Metadata and record of training data would be of other weights.
        """
        if before == self.parent_sha256:
            return
        hashes = [f"{sha[:12]}…" if sha else "none" for sha in (before, self.parent_sha256)]
        raise WeightsError(
            found="initial weights that differ from those that this run started with "
            f"(SHA-256 {hashes[1]})",
            expected=f"those with SHA-256 {hashes[0]}",
            next_step="Choose another --out, restore the initial weights, or start from scratch "
            "with --fresh",
        )

    def _check_data(self, *, had_cases: bool) -> None:
        """Refuse synthetic brains in a run on real cases, and the reverse."""
        if had_cases is (self.cases is not None):
            return
        kinds = ("synthetic brains alone", "real cases")
        raise ConfigError(
            found=f"a run on {kinds[had_cases]} that would continue with {kinds[not had_cases]}",
            expected="the same data as before",
            next_step=f"Continue it by `{'finetune' if had_cases else 'train'}`, or choose another "
            "--out",
        )

    def restore(self) -> None:
        """Resume from the checkpoint in this folder, if there is one."""
        checkpoint = checkpoints.load(self.out / "checkpoint")
        if checkpoint is None:
            return
        if checkpoint.meta["network"] != name_of(self.config):
            raise WeightsError(
                found=f'a checkpoint of network "{checkpoint.meta["network"]}"',
                expected=f'"{name_of(self.config)}" as in the recipe',
                next_step="Choose another output folder, or start from scratch with --fresh",
            )
        check_same_recipe(checkpoint.meta["recipe"], self.config, int(checkpoint.meta["step"]))
        self._check_parent(checkpoint.meta["parent_sha256"])
        if checkpoint.meta["step"]:
            self._check_data(had_cases=bool(checkpoint.meta["cases"]))
        try:
            self.network.load_state_dict(checkpoint.below("network/"))
            self.optimiser.load(dict(checkpoint.tensors))
        except (KeyError, RuntimeError) as error:
            raise WeightsError(
                found=f'a checkpoint of another version of the network "{name_of(self.config)}"',
                expected="the tensors of the network in the recipe",
                next_step="Choose another output folder, or start from scratch with --fresh",
            ) from error
        self.step, self.session = int(checkpoint.meta["step"]), int(checkpoint.meta["session"]) + 1
        self.resumed_at = self.step
        if self.step:
            self.earlier_cases = from_record(checkpoint.meta["cases"])
        self.spent_s = float(checkpoint.meta["minutes"]) * 60
        self.loss = float(checkpoint.meta["loss"])

    def check_held_out(self) -> None:
        """Refuse to validate on a case that an earlier session was trained on.

        Raises
        ------
        ConfigError
            Its name or its patient was changed since.
        """
        scans = {scan for case in (self.earlier_cases or {}).values() for scan in case.scans}
        leaked = self.cases.in_training_data(scans) if self.cases else ()
        if leaked:
            raise ConfigError(
                found=f"held-out cases that this run was trained on before: {', '.join(leaked)}",
                expected="cases and patients named as in its earlier sessions",
                next_step="Restore the names, or choose another output folder",
            )


def _focus_mm(stage: StageConfig) -> float | None:
    """Return the spacing of patch refinement for weights trained on patches, else None."""
    if stage.patches is None:
        return None
    return round(sum(stage.patches.spacing_mm) / 2, 2)


_MAX_LISTED = 4


def recipe_record(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as stored in a checkpoint: plain JSON."""
    record: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return record


def check_same_recipe(before: Mapping[str, Any], config: TrainConfig, step: int) -> None:
    """Refuse a configuration that differs from the checkpoint's.

    Later stages, and the number of steps of the current one, may change; so may the folder of the
    initial weights, as on another machine.

    Raises
    ------
    WeightsError
        They differ; the message states where.
    """
    earlier = dict(_values(_trained_part(before, step)))
    now = dict(_values(_trained_part(recipe_record(config), step)))
    changed = sorted(
        name for name in earlier.keys() | now.keys() if earlier.get(name) != now.get(name)
    )
    if not changed:
        return
    differences = [f"{name} was {earlier.get(name)} and is {now.get(name)}" for name in changed]
    raise WeightsError(
        found=f"a changed recipe: {abbreviated_list(differences, _MAX_LISTED, '; ')}",
        expected=f"the recipe that this run started with, which is at step {step}",
        next_step="Choose another --out, change the recipe back, or start from scratch with "
        "--fresh",
    )


def _trained_part(recipe: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return a configuration without the parts that are not trained yet."""
    stages, remaining = [], step
    for stage in recipe["stages"]:
        if remaining <= stage["steps"]:
            stages.append({key: value for key, value in stage.items() if key != "steps"})
            break
        stages.append(stage)
        remaining -= stage["steps"]
    return {**recipe, "stages": stages, "init": PurePath(recipe["init"] or "").name}


def _values(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of a configuration by name, such as `optimiser.rate`."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _values(value, f"{name}.{key}" if name else key)
    elif isinstance(node, list) and any(isinstance(item, dict) for item in node):
        for number, item in enumerate(node, 1):
            yield from _values(item, f"{name}[{number}]")
    else:
        yield name, node
