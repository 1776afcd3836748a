"""What the tests of training read from a run's folder."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from lesionlens.training import checkpoint
from lesionlens.training.config import TrainConfig, parse_config


def small_recipe(steps: int, spacing_mm: float) -> TrainConfig:
    """Return a recipe of the smallest network on small brains of 5 mm to `spacing_mm`."""
    shape, spacings = [32, 40, 32], [5.0, spacing_mm]
    stage = {"steps": steps, "shape": shape, "spacing_mm": spacings, "batch": 1}
    return parse_config({
        "network": "tiny",
        "validation_volumes": 0,
        "data": {"workers": 0},
        "optimiser": {"warmup": 2},
        "stages": [stage],
    })  # fmt: skip


def average_of(run_folder: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a run's checkpoint, by parameter name."""
    found = checkpoint.load(run_folder / "checkpoint")
    assert found is not None
    prefix = "average/"
    return {n[len(prefix) :]: t for n, t in found.tensors.items() if n.startswith(prefix)}
