"""Seconds, peak memory and multiply-adds of a network on one brain, in a process of its own."""

from __future__ import annotations

import copy
import gc
import itertools
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import multiprocessing as processes
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from lesionlens.base.errors import ResourceError
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from research.speed.baselines import OVERLAP, Baseline, all_baselines

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class PassCost:
    """The cost of one network on one brain.

    Parameters
    ----------
    name, form, reads : str
        As in `Baseline`.
    parameters : int
        Number of the network's parameters.
    grid : (3,) int
        Voxels of the input.
    passes : int
        Number of windows.
    seconds, cpu_seconds : float
        Median over `runs` whole brains of wall time and of the CPU time of all threads (which
        other load hardly changes); if `estimated`, one window's time by the number of windows.
    runs : int
        Number of runs after a warm-up.
    estimated : bool
        Whether only one window was run.
    peak_mib, before_mib : float or None
        On a GPU the memory allocated by the network; on the CPU that of the whole process, and
        before the network was made; None if the system does not report it.
    gmacs : float
        10^9 multiply-adds of the whole brain.
    """

    name: str
    form: str
    reads: str
    parameters: int
    grid: tuple[int, int, int]
    passes: int
    seconds: float
    cpu_seconds: float
    runs: int
    estimated: bool
    peak_mib: float | None
    before_mib: float | None
    gmacs: float


@dataclass(frozen=True, slots=True)
class MeasurementOptions:
    """Number of runs after the warm-up, fewer after `enough_s`; or one window, for an estimate."""

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
    baseline: Baseline,
    device: torch.device,
    measurement: MeasurementOptions = MeasurementOptions(),
    context: RunContext = SILENT,
) -> PassCost:
    """Measure the cost of a baseline.

    Raises
    ------
    CancelledError
        Cancelled; checked between passes.
    """
    x = baseline.make_input()
    windows = _windows(x, baseline.window)
    measured_windows = windows[:1] if measurement.estimate else windows
    reset_peak(device)
    before = _resident_mib(device)
    network = baseline.make()

    def run(window_batch: Sequence[Tensor]) -> None:
        for window in window_batch:
            context.check(baseline.name)
            with (
                torch.inference_mode(),
                torch.autocast(device.type, torch.bfloat16, enabled=baseline.bf16),
            ):
                network(window)

    run(windows[:1])  # the first pass allocates and chooses kernels
    times = _times(lambda: run(measured_windows), device, measurement)
    peak = peak_mib(device)
    scale = len(windows) / len(measured_windows)
    i, j, k = x.shape[2:]
    return PassCost(
        name=baseline.name,
        form=baseline.form,
        reads=baseline.reads,
        parameters=sum(p.numel() for p in network.parameters()),
        grid=(i, j, k),
        passes=len(windows),
        seconds=statistics.median(clock for clock, _ in times) * scale,
        cpu_seconds=statistics.median(cpu for _, cpu in times) * scale,
        runs=len(times),
        estimated=len(measured_windows) < len(windows),
        peak_mib=peak,
        before_mib=before,
        gmacs=_gmacs(network, windows[0]) * len(windows),
    )


def _times(
    run: Callable[[], None], device: torch.device, measurement: MeasurementOptions
) -> list[tuple[float, float]]:
    """Return wall and CPU seconds of each run."""
    times: list[tuple[float, float]] = []
    spent = 0.0
    while len(times) < measurement.repeat and (not times or spent < measurement.enough_s):
        _synchronise(device)
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        _synchronise(device)
        times.append((time.perf_counter() - start, time.process_time() - cpu_start))
        spent += times[-1][0]
    return times


def measure_in_process(
    prepared: PreparedStudy,
    number: int,
    device: torch.device,
    measurement: MeasurementOptions = MeasurementOptions(),
    context: RunContext = SILENT,
) -> PassCost:
    """Measure one of the `baselines.all_baselines`, by its number, in a new process.

    Memory is then not shared between networks, and one that needs too much ends alone.

    Raises
    ------
    ResourceError
        The network could not be measured, most likely for lack of memory.
    CancelledError
        Cancelled.
    """
    spawning = processes.get_context("spawn")
    receiver, sender = spawning.Pipe(duplex=False)
    arguments = (sender, prepared, number, str(device), torch.get_num_threads(), measurement)
    process = spawning.Process(target=_measure_and_send, args=arguments, daemon=True)
    process.start()
    sender.close()
    try:
        while not receiver.poll(_POLL_S):
            context.check("the measurement")
        result = receiver.recv()
    except EOFError:
        result = "its process ended without a result"
    finally:
        process.terminate()
        process.join()
    if isinstance(result, PassCost):
        return result
    raise ResourceError(
        found=f"a network that could not be measured ({result})",
        expected="enough memory for it",
        next_step="Close other programs, or measure on another device",
    )


def _measure_and_send(
    sender: Any,
    prepared: PreparedStudy,
    number: int,
    device: str,
    threads: int,
    measurement: MeasurementOptions,
) -> None:
    """Measure in this process, and send a `PassCost` or the error message."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it and ends this process
    torch.set_num_threads(threads)
    torch_device = torch.device(device)
    try:
        baseline = next(itertools.islice(all_baselines(prepared, torch_device), number, None))
        sender.send(measure(baseline, torch_device, measurement))
    except (RuntimeError, MemoryError, OSError) as error:
        sender.send(" ".join(str(error).split())[:200] or type(error).__name__)


def _synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _windows(x: Tensor, window: tuple[int, int, int] | None) -> list[Tensor]:
    if window is None:
        return [x]
    padding = [
        n
        for size, edge in zip(reversed(x.shape[2:]), reversed(window), strict=True)
        for n in (0, max(0, edge - size))
    ]
    padded = functional.pad(x, padding)
    starts = window_starts(tuple(padded.shape[2:]), window)
    return [_window(padded, start, window) for start in starts]


def _window(x: Tensor, start: tuple[int, ...], window: tuple[int, int, int]) -> Tensor:
    for axis, (first, edge) in enumerate(zip(start, window, strict=True), 2):
        x = x.narrow(axis, first, edge)
    return x


def _gmacs(network: nn.Module, x: Tensor) -> float:
    """Count the multiply-adds of one pass (1e9), in convolutions and products, on meta tensors."""
    plain = copy.deepcopy(network).to("meta").requires_grad_(requires_grad=False)
    with FlopCounterMode(display=False) as counter:
        plain(torch.empty(x.shape, device="meta"))
    return float(counter.get_total_flops()) / 2e9


def _resident_mib(device: torch.device) -> float | None:
    """Return the current memory in MiB, as counted by `peak_mib`."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device)) / 2**20
    return _status_mib("VmRSS:")


def reset_peak(device: torch.device) -> None:
    """Reset the peak of memory, if the system allows it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")


def peak_mib(device: torch.device) -> float | None:
    """Return the peak since `reset_peak` in MiB; None if the system does not report it."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    return _status_mib("VmHWM:")


def _status_mib(name: str) -> float | None:
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    line = next((row for row in text.splitlines() if row.startswith(name)), None)
    return None if line is None else int(line.split()[1]) / 2**10
