"""What the tests of training read from a run's folder."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from lesionlens.training import checkpoint


def average_of(run_folder: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a run's checkpoint, by parameter name."""
    found = checkpoint.load(run_folder / "checkpoint")
    assert found is not None
    prefix = "average/"
    return {n[len(prefix) :]: t for n, t in found.tensors.items() if n.startswith(prefix)}
