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
_Given = ParamSpec("_Given")
_T = TypeVar("_T")


def accelerators() -> tuple[torch.device, ...]:
    """Return the accelerators available to torch, best first."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is None or found.type not in KINDS:
        return ()
    return tuple(torch.device(found.type, n) for n in range(torch.accelerator.device_count()))


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
    words = requested.strip().lower()
    if words == "cpu":
        return torch.device("cpu")
    there = accelerators()
    if words == "auto":
        return there[0] if there else torch.device("cpu")
    match = re.fullmatch(rf"({'|'.join(KINDS)})(?::(\d{{1,3}}))?", words)
    if match is None:
        raise UnusableInputError(
            found=f"the device {requested!r}",
            expected=WORDS,
            next_step="Use --device auto to choose automatically",
            in_window="Choose auto in Preferences → LesionLens",
        )
    device = torch.device(match[1], int(match[2] or 0))
    if device not in there:
        count = sum(other.type == device.type for other in there)
        kind = device.type.upper()
        raise ResourceError(
            found=f"{count or 'no'} {kind} device{'' if count == 1 else 's'} here",
            expected=f"the device {words}",
            next_step="Use --device cpu or --device auto; `lesionlens doctor` lists what is there",
            in_window="Choose cpu or auto in Preferences → LesionLens",
        )
    return device


def choose_precision(
    device: torch.device, requested: ComputePrecision | str = ComputePrecision.AUTO
) -> ComputePrecision:
    """Choose the precision of predictions on a device: float32 or bfloat16.

    CPUs always predict in float32, so that results agree between machines; bfloat16 hardware would
    save no time. Apple's GPU supports bfloat16 only from macOS 14.

    Raises
    ------
    UnusableInputError
        Unknown precision, or bfloat16 on a device that uses float32.

    Examples
    --------
    >>> choose_precision(torch.device("cpu")).value
    'float32'
    """
    if requested not in tuple(ComputePrecision):
        raise UnusableInputError(
            found=f"the precision {str(requested)!r}",
            expected=", ".join(ComputePrecision),
            next_step="Use --precision auto",
            in_window="Leave the precision at auto",
        )
    has_it = device.type in _BFLOAT16_KINDS
    if requested == ComputePrecision.BFLOAT16 and not has_it:
        raise UnusableInputError(
            found=f"bfloat16 on the device {device.type}",
            expected=f"float32 there; bfloat16 on {' or '.join(_BFLOAT16_KINDS)} alone",
            next_step="Leave out --precision",
            in_window="Leave the precision at auto",
        )
    if requested == ComputePrecision.AUTO:
        return ComputePrecision.BFLOAT16 if has_it else ComputePrecision.FLOAT32
    return ComputePrecision(requested)


def computing_in(
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
    ask = getattr(torch.cpu, "get_capabilities", None)
    found = ask() if ask is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def autocast(
    device: torch.device, requested: ComputePrecision = ComputePrecision.AUTO
) -> AbstractContextManager[object]:
    """Return the autocast context for training.

    bfloat16 by default, but not on a device that emulates it: on a CPU with only AVX2 a training
    step in bfloat16 takes several times as long.

    Raises
    ------
    UnusableInputError
        Bfloat16 is requested of a device that predicts in float32.
    """
    if requested is ComputePrecision.AUTO and has_fast_bfloat16(device):
        return computing_in(ComputePrecision.BFLOAT16, device)
    return computing_in(choose_precision(device, requested), device)


def name_of(device: torch.device) -> str:
    """Return the vendor's name of an accelerator."""
    if device.type == "mps":
        return "Apple GPU"
    return str(torch.get_device_module(device).get_device_name(device))


def describe(
    device: torch.device, precision: ComputePrecision | None = None, threads: int | None = None
) -> str:
    """Describe device, precision and threads in words, for the run's record."""
    numbers = "" if precision is None else f", {precision}"
    if device.type != "cpu":
        return f"{name_of(device)} ({device.type}:{device.index or 0}{numbers})"
    threads = threads or thread_count()
    return f"cpu ({threads} thread{'' if threads == 1 else 's'}{numbers})"


class DevicePlacement:
    """Runs work on the chosen device, or on the CPU if that device lacks an operation.

    Parameters
    ----------
    move : callable
        Moves the engine's state to a device.
    """

    def __init__(self, device: torch.device, move: Callable[[torch.device], None]) -> None:
        self.device, self._move = device, move
        self.notices: tuple[str, ...] = ()
        """Notices, if another device was used than the chosen one, and why."""

    def run(self, act: Callable[[], _T]) -> _T:
        """Run a function; if an accelerator lacks an operation, move to the CPU and retry."""
        try:
            return act()
        except NotImplementedError as error:
            if self.device.type == "cpu":
                raise
            first = str(error).strip().splitlines() or ["no message"]
            self.notices = (
                f"The device {describe(self.device)} lacks an operation, so the CPU was used: "
                f"{first[0][:200]}",
            )
            self.device = torch.device("cpu")
            self._move(self.device)
            return act()


def on_its_device(
    method: Callable[Concatenate[Any, _Given], _T],
) -> Callable[Concatenate[Any, _Given], _T]:
    """Decorate an engine's method to run through the engine's `placement`."""

    def placed(engine: Any, /, *given: _Given.args, **named: _Given.kwargs) -> _T:
        placement: DevicePlacement = engine.placement
        return placement.run(lambda: method(engine, *given, **named))

    update_wrapper(placed, method)
    return placed
