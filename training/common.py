"""What several trainers need: the state of a run, cases by sequence, progress."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lesionlens.base.errors import WeightsError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import PreparedStudy
from lesionlens.imaging.preparation.resampling import resample
from training import checkpoint
from training.optimiser import Optimiser

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
            f"The run in {out.name!r} began with {stored.meta['origin']}, not {dict(origin)}.",
            hint="Give the options that it began with, or choose another --out.",
        )
    network.load_state_dict(stored.below("network/"))
    optimiser.load(stored.below("opt/"))
    return int(stored.meta["step"]), 60 * float(stored.meta["minutes"])


def resample_labels(labels: NDArray[np.generic], source: Grid, target: Grid) -> NDArray[np.uint8]:
    """Return labels resampled to another grid by nearest neighbour."""
    return resample(labels.astype(np.float32), source, target, nearest=True).astype(np.uint8)


def restricted_to(prepared: PreparedStudy, subset: Collection[MrSequence]) -> PreparedStudy:
    """Return a prepared study with only these of its sequences; the others are zero and absent."""
    present = prepared.present & np.array([s in subset for s in MrSequence])
    channels = prepared.channels * present[:, None, None, None]
    return replace(prepared, channels=channels, present=present)


def print_progress(text: str) -> None:
    """Print a line to standard error at once, so that it also appears in a file or pipe."""
    print(text, file=sys.stderr, flush=True)
