"""State of a training run: written atomically, and read when the run resumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import nn

from lesionlens.base.errors import WeightsError
from lesionlens.training import checkpoint
from lesionlens.training.optimiser import Optimiser

Origin = Mapping[str, object]
"""What a run started from, as plain JSON; it may not change when the run resumes."""
_UNKNOWN: Origin = MappingProxyType({})


def save(
    out: Path,
    network: nn.Module,
    optimiser: Optimiser,
    step: int,
    seconds: float,
    origin: Origin = _UNKNOWN,
) -> None:
    """Write a checkpoint of a run that has taken `step` steps in `seconds`."""
    tensors = {f"network/{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"opt/{k}": v for k, v in optimiser.state().items()}
    meta = {"step": step, "minutes": seconds / 60, "origin": dict(origin)}
    checkpoint.save(out, checkpoint.Checkpoint(tensors, meta))


def restore(
    out: Path, network: nn.Module, optimiser: Optimiser, origin: Origin = _UNKNOWN
) -> tuple[int, float]:
    """Load the latest checkpoint, if there is one; return its steps and seconds.

    Raises
    ------
    WeightsError
        The run in `out` started from something else.
    """
    stored = checkpoint.load(out)
    if stored is None:
        return 0, 0.0
    if stored.meta.get("origin", origin) != origin:
        raise WeightsError(
            found=f"a run in {out.name!r} that began with {stored.meta['origin']}",
            expected=f"one that began with {dict(origin)}",
            next_step="Give the options that it began with, or choose another --out",
        )
    network.load_state_dict(stored.below("network/"))
    optimiser.load(stored.below("opt/"))
    return int(stored.meta["step"]), 60 * float(stored.meta["minutes"])
