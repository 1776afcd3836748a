"""State of a training run: written whole, and read again where the run goes on."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lesionlens.training import checkpoint
from lesionlens.training.optimiser import Optimiser


def save(out: Path, network: nn.Module, optimiser: Optimiser, step: int, seconds: float) -> None:
    """Write a checkpoint of a run that has taken `step` steps in `seconds`."""
    tensors = {f"network/{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"opt/{k}": v for k, v in optimiser.state().items()}
    meta = {"step": step, "minutes": seconds / 60}
    checkpoint.save(out, checkpoint.Checkpoint(tensors, meta))


def restore(out: Path, network: nn.Module, optimiser: Optimiser) -> tuple[int, float]:
    """Load the latest checkpoint, if there is one; return its steps and seconds."""
    stored = checkpoint.load(out)
    if stored is None:
        return 0, 0.0
    network.load_state_dict(stored.below("network/"))
    optimiser.load(stored.below("opt/"))
    return int(stored.meta["step"]), 60 * float(stored.meta["minutes"])
