"""Choose the compute device; a request that cannot be met is refused, never replaced."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.labels import ComputePrecision
from lesionlens.network.deterministic import thread_count

KINDS = ("cuda", "xpu", "mps")
"""Supported accelerators: Nvidia's and AMD's, Intel's, Apple's."""
WORDS = "auto, cpu, cuda, cuda:N, xpu, xpu:N or mps"
_BFLOAT16_KINDS = ("cuda", "xpu")
_P = ParamSpec("_P")
_T = TypeVar("_T")


def accelerators() -> tuple[torch.device, ...]:
    """Return the accelerators available to torch, best first."""
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    if accelerator is None or accelerator.type not in KINDS:
        return ()
    return tuple(torch.device(accelerator.type, n) for n in range(torch.accelerator.device_count()))


def choose(requested: str = "auto") -> torch.device:
    """Parse a device name.

    Parameters
    ----------
    requested : str
        "auto" (the first accelerator, else the CPU), "cpu", or a kind of `KINDS`, alone or with
        a number, as in "cuda:1".

    Raises
    ------
    UnusableInputError
        Unknown type of device.
    ResourceError
        The requested device is missing.

    Examples
    --------
    >>> choose("cpu")
    device(type='cpu')
    """
    name = requested.strip().lower()
    if name == "cpu":
        return torch.device("cpu")
    available = accelerators()
    if name == "auto":
        return available[0] if available else torch.device("cpu")
    match = re.fullmatch(rf"({'|'.join(KINDS)})(?::(\d{{1,3}}))?", name)
    if match is None:
        raise UnusableInputError(
            found=f"the device {requested!r}",
            expected=WORDS,
            next_step="Use --device auto to choose automatically",
            in_window="Choose auto in Preferences → LesionLens",
        )
    device = torch.device(match[1], int(match[2] or 0))
    if device not in available:
        count = sum(other.type == device.type for other in available)
        kind = device.type.upper()
        raise ResourceError(
            found=f"{count or 'no'} {kind} device{'' if count == 1 else 's'} here",
            expected=f"the device {name}",
            next_step="Use --device cpu or --device auto; `lesionlens doctor` lists what is "
            "installed",
            in_window="Choose cpu or auto in Preferences → LesionLens",
        )
    return device


def choose_precision(device: torch.device) -> ComputePrecision:
    """Return the precision of predictions on a device: float32 or bfloat16.

    CPUs predict in float32, so that results agree between machines; bfloat16 hardware would
    save no time. Apple's GPU supports bfloat16 only from macOS 14.

    Examples
    --------
    >>> choose_precision(torch.device("cpu")).value
    'float32'
    """
    has_bfloat16 = device.type in _BFLOAT16_KINDS
    return ComputePrecision.BFLOAT16 if has_bfloat16 else ComputePrecision.FLOAT32


def autocast_for(
    precision: ComputePrecision, device: torch.device
) -> AbstractContextManager[object]:
    """Return the autocast context for predictions in a given precision."""
    if precision is ComputePrecision.BFLOAT16:
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware (for training).

    Any CUDA or XPU device; a CPU with AVX-512 BF16 or AMX. Apple's GPU uses float32, because it
    supports bfloat16 only from macOS 14.
    """
    if device.type != "cpu":
        return device.type in _BFLOAT16_KINDS
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)
    capabilities = get_capabilities() if get_capabilities is not None else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, *, enabled: bool = True) -> AbstractContextManager[object]:
    """Return the autocast context for training.

    bfloat16, but not on a device that emulates it: on a CPU with only AVX2 a training step in
    bfloat16 takes several times as long.
    """
    if enabled and has_fast_bfloat16(device):
        return autocast_for(ComputePrecision.BFLOAT16, device)
    return nullcontext()


def name_of(device: torch.device) -> str:
    """Return the vendor's name of an accelerator."""
    if device.type == "mps":
        return "Apple GPU"
    return str(torch.get_device_module(device).get_device_name(device))


def describe(
    device: torch.device, precision: ComputePrecision | None = None, threads: int | None = None
) -> str:
    """Describe device, precision and threads in words, for the run's record."""
    precision_text = "" if precision is None else f", {precision}"
    if device.type != "cpu":
        return f"{name_of(device)} ({device.type}:{device.index or 0}{precision_text})"
    threads = threads or thread_count()
    return f"cpu ({threads} thread{'' if threads == 1 else 's'}{precision_text})"


class DevicePlacement:
    """Runs work on the chosen device, or on the CPU if that device lacks an operation.

    `move` moves the engine's state to a device.
    """

    def __init__(self, device: torch.device, move: Callable[[torch.device], None]) -> None:
        self.device, self._move = device, move
        self.notices: tuple[str, ...] = ()
        """Notices, if another device was used than the chosen one, and why."""

    def run(self, function: Callable[[], _T]) -> _T:
        """Run a function; if an accelerator lacks an operation, move to the CPU and retry."""
        try:
            return function()
        except NotImplementedError as error:
            if self.device.type == "cpu":
                raise
            message_lines = str(error).strip().splitlines() or ["no message"]
            self.notices = (
                f"The device {describe(self.device)} lacks an operation, so the CPU was used: "
                f"{message_lines[0][:200]}",
            )
            self.device = torch.device("cpu")
            self._move(self.device)
            return function()


def on_placement_device(
    method: Callable[Concatenate[Any, _P], _T],
) -> Callable[Concatenate[Any, _P], _T]:
    """Decorate an engine's method to run through the engine's `placement`."""

    def run_on_device(engine: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        placement: DevicePlacement = engine.placement
        return placement.run(lambda: method(engine, *args, **kwargs))

    update_wrapper(run_on_device, method)
    return run_on_device
