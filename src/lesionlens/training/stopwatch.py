"""Seconds, peak memory and multiply-adds of a network on one brain."""

from __future__ import annotations

import copy
import gc
import itertools
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from lesionlens.base.stages import NEVER, Cancel, check
from lesionlens.training.contenders import OVERLAP, Contender

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"


@dataclass(frozen=True, slots=True)
class Effort:
    """What one network took.

    Parameters
    ----------
    name, setting : str
        As of the contender.
    parameters : int
        Of the network.
    grid : (3,) int
        Voxels that it reads.
    passes : int
        Windows.
    seconds : float
        Median of `runs` whole brains; with `estimated`, one window's time by the number of windows.
    runs : int
        After one to warm up.
    estimated : bool
        Not every window was run.
    peak_mib : float or None
        On a GPU what the network allocated; on the CPU of the whole process; None where the system
        does not tell.
    gmacs : float
        10^9 multiply-adds of the whole brain.
    """

    name: str
    setting: str
    parameters: int
    grid: tuple[int, int, int]
    passes: int
    seconds: float
    runs: int
    estimated: bool
    peak_mib: float | None
    gmacs: float


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to measure: runs after the first, fewer once a contender has taken `enough_s`."""

    repeat: int = 3
    enough_s: float = 60.0
    estimate: bool = False


def window_starts(shape: tuple[int, ...], window: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the corners of windows that overlap by half and cover the volume.

    Examples
    --------
    >>> window_starts((96, 144, 100), (96, 96, 96))
    [(0, 0, 0), (0, 0, 4), (0, 48, 0), (0, 48, 4)]
    """
    axes = []
    for size, edge in zip(shape, window, strict=True):
        step = max(1, int(edge * (1 - OVERLAP)))
        last = max(0, size - edge)
        axes.append(sorted({*range(0, last, step), last}))
    return list(itertools.product(*axes))


def measure(
    contender: Contender,
    device: torch.device,
    patience: Patience = Patience(),
    cancel: Cancel = NEVER,
) -> Effort:
    """Run a contender and return what it took.

    Raises
    ------
    CancelledError
        The user asked to stop; asked between passes.
    """
    network, x = contender.make(), contender.make_input()
    windows = _windows(x, contender.window)
    shown = windows[:1] if patience.estimate else windows
    gmacs = _gmacs(network, windows[0])

    def brain() -> None:
        for window in shown:
            check(cancel, contender.name)
            with (
                torch.inference_mode(),
                torch.autocast(device.type, torch.bfloat16, enabled=contender.bf16),
            ):
                network(window)

    brain()  # the first run allocates and chooses kernels
    reset_peak(device)
    times = _times(brain, device, patience)
    share = len(windows) / len(shown)
    i, j, k = x.shape[2:]
    return Effort(
        name=contender.name,
        setting=contender.setting,
        parameters=sum(p.numel() for p in network.parameters()),
        grid=(i, j, k),
        passes=len(windows),
        seconds=statistics.median(times) * share,
        runs=len(times),
        estimated=len(shown) < len(windows),
        peak_mib=peak_mib(device),
        gmacs=gmacs * len(windows),
    )


def _times(run: Callable[[], None], device: torch.device, patience: Patience) -> list[float]:
    times: list[float] = []
    while len(times) < patience.repeat and (not times or sum(times) < patience.enough_s):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - start)
    return times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _windows(x: Tensor, window: tuple[int, int, int] | None) -> list[Tensor]:
    if window is None:
        return [x]
    amounts = [
        n
        for size, edge in zip(reversed(x.shape[2:]), reversed(window), strict=True)
        for n in (0, max(0, edge - size))
    ]
    padded = functional.pad(x, amounts)
    starts = window_starts(tuple(padded.shape[2:]), window)
    return [_cut(padded, start, window) for start in starts]


def _cut(x: Tensor, start: tuple[int, ...], window: tuple[int, int, int]) -> Tensor:
    for axis, (first, edge) in enumerate(zip(start, window, strict=True), 2):
        x = x.narrow(axis, first, edge)
    return x


def _gmacs(network: nn.Module, x: Tensor) -> float:
    """Count the multiply-adds of one pass, in convolutions and products, without computing it."""
    plain = copy.deepcopy(network).to("meta").requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        plain(torch.empty(x.shape, device="meta"))
    return float(counter.get_total_flops()) / 2e9


def reset_peak(device: torch.device) -> None:
    """Begin to watch memory anew, where the system lets us."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")


def peak_mib(device: torch.device) -> float | None:
    """Return the peak since `reset_peak` in MiB; None on systems that do not tell."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    line = next((row for row in text.splitlines() if row.startswith("VmHWM:")), None)
    return None if line is None else int(line.split()[1]) / 2**10
