"""The compute device: `choose` one by name; `Placement` runs an engine's work on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import nn

from lesionlens.base.errors import ResourceError, UnusableInputError, is_out_of_memory
from lesionlens.base.labels import ComputePrecision
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import counted

_T = TypeVar("_T")
_Method = TypeVar("_Method", bound=Callable[..., Any])
_HINT = "Choose cpu or auto as the device; `lesionlens doctor` lists what is here."


def accelerators() -> tuple[torch.device, ...]:
    """Return the accelerators of torch: cuda (Nvidia, AMD), xpu (Intel) or mps (Apple)."""
    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None or kind.type not in ("cuda", "xpu", "mps"):
        return ()
    return tuple(torch.device(kind.type, n) for n in range(torch.accelerator.device_count()))


def choose(requested: str = "auto") -> torch.device:
    """Return a device by name; "auto" is the first accelerator, or the CPU."""
    name, available = requested.strip().lower(), accelerators()
    if name in ("cpu", "auto"):
        return available[0] if name == "auto" and available else torch.device("cpu")
    match = re.fullmatch(r"(cuda|xpu|mps)(?::(\d{1,3}))?", name)
    if match is None:
        hint = "Name auto, cpu, cuda, cuda:N, xpu, xpu:N or mps."
        raise UnusableInputError(f"There is no device {requested!r}.", hint=hint)
    device = torch.device(match[1], int(match[2] or 0))
    if device not in available:
        raise ResourceError(f"The device {name} does not exist here.", hint=_HINT)
    return device


def precision_of(device: torch.device) -> ComputePrecision:
    """Return the precision of passes under `autocast`: bfloat16 on CUDA, float32 elsewhere."""
    return ComputePrecision.BFLOAT16 if device.type == "cuda" else ComputePrecision.FLOAT32


def autocast(device: torch.device) -> torch.autocast:
    """Return the context in which a network computes in `precision_of` its device."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def describe(device: torch.device, threads: int | None = None) -> str:
    """Describe a device with its threads or precision, for the run's record."""
    if device.type == "cpu":
        return f"cpu ({counted(threads or torch.get_num_threads(), 'thread')})"
    name_of = getattr(torch.get_device_module(device), "get_device_name", lambda _: "Apple GPU")
    return f"{name_of(device)} ({device.type}:{device.index or 0}, {precision_of(device)})"


class Placement:
    """Runs an engine's work on the requested device; with "auto", on the CPU if that fails."""

    def __init__(self, requested: str, move: Callable[[torch.device], None]) -> None:
        self.device, self._requested, self._move = choose(requested), requested, move
        self.notices: tuple[str, ...] = ()  # why the CPU was used

    def run(self, work: Callable[[], _T]) -> _T:
        """Run work; a named accelerator that lacks memory or an operation is a ResourceError."""
        try:
            return work()
        except (RuntimeError, ResourceError) as error:
            is_lack = isinstance(error, NotImplementedError | ResourceError)
            if self.device.type == "cpu" or not (is_lack or is_out_of_memory(error)):
                raise
            lack = f"{describe(self.device)} lacks memory, or an operation of the network"
            if self._requested.strip().lower() != "auto":
                raise ResourceError(f"The device {lack}.", hint=_HINT) from error
        self.device, self.notices = torch.device("cpu"), (f"The CPU was used: {lack}.",)
        self._move(self.device)
        return work()


def placed(method: _Method) -> _Method:
    """Decorate an engine's method to run through the engine's `placement`."""

    @wraps(method)
    def run(engine: Any, *args: Any, **kwargs: Any) -> Any:
        return engine.placement.run(lambda: method(engine, *args, **kwargs))

    return cast("_Method", run)


@contextmanager
def interruptible(
    network: nn.Module,
    stage: str,
    context: RunContext,
    passes: int = 1,
    skipped: nn.Module | None = None,
) -> Iterator[None]:
    """Within the block, poll for cancellation before each layer, and report the share that ran.

    `passes` is how often the network runs; `skipped` is a part of it that seldom runs.
    """
    unwatched = set() if skipped is None else set(skipped.modules())
    layers = [m for m in network.modules() if m not in unwatched and not any(m.children())]
    total, started = max(1, len(layers) * passes), 0

    def before_layer(*_: object) -> None:
        nonlocal started
        context.check(stage)
        started += 1
        context.progress(stage, min(started / total, 1.0))

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_pre_hook(before_layer))
        yield
