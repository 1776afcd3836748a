"""Deterministic predictions: identical bits with any number of threads.

Torch and oneDNN split sums by the number of threads, and the order of float32 sums changes the last
digits. So a pass always uses the same number of threads, and further cores run concurrent passes
(`network.concurrent_passes`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from lesionlens.base.process.shared_block import SharedBlock

P = ParamSpec("P")
R = TypeVar("R")
_ROWS = 256
"""Voxels summed in float32 before switching to float64."""
_CHUNK_ROWS = 64 * _ROWS
"""Voxels whose squares exist at once: they stay in the processor's cache."""


class _ThreadSetting(threading.local):
    threads: int | None = None


_outer_setting = _ThreadSetting()
"""The number of threads outside the blocks of this thread."""


_process_threads = SharedBlock(torch.get_num_threads, lambda _: None)
"""The number of threads of the process outside all blocks.

Torch gives a new thread the number that any thread set last: within a block of another thread, that
of the block.
"""


def thread_count() -> int:
    """Return the number of threads set outside `fixed_threads`; in a worker its own."""
    if _outer_setting.threads is not None:
        return _outer_setting.threads
    return _process_threads.before if _process_threads.is_active else torch.get_num_threads()


def set_threads_of_worker(count: int) -> None:
    """Set the number of threads of this thread, which was started for passes of a block."""
    torch.set_num_threads(count)
    _outer_setting.threads = count


@contextmanager
def restored_threads() -> Iterator[int]:
    """Restore the number of threads after the block, which may set it and start workers.

    Yields
    ------
    int
        The number that this thread has again afterwards.
    """
    is_outermost = _outer_setting.threads is None
    with _process_threads if is_outermost else nullcontext(torch.get_num_threads()) as threads:
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Use exactly this number of threads, and float32 in full, within the block.

    A default device that the caller set in this thread does not apply either.
    """
    previous = _outer_setting.threads
    with restored_threads() as threads:
        _outer_setting.threads = previous or threads
        torch.set_num_threads(count)
        try:
            with _full_precision, _no_default_device():
                yield
        finally:
            _outer_setting.threads = previous


@contextmanager
def _no_default_device() -> Iterator[None]:
    """Unset `torch.set_default_device` in this thread, under which attention is rounded otherwise.

    Torch then has no fused attention between queries, not even where the default is the CPU. The
    default is that of a new tensor: `torch.get_default_device` of torch 2.8 fails once it is unset.
    """
    previous = torch.empty(0).device
    torch.set_default_device(None)
    was_set = previous != torch.empty(0).device  # not by a block `with torch.device(...)`
    try:
        yield
    finally:
        if was_set:
            torch.set_default_device(previous)


def _require_full_precision() -> str:
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by torch's newer interface, with which this one must not be mixed
        return "highest"
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    return before


def _restore_precision(before: str) -> None:
    if before != "highest":
        torch.set_float32_matmul_precision(before)


_full_precision = SharedBlock(_require_full_precision, _restore_precision)
"""Products of matrices in float32, in the whole process, while any block lasts.

Programs often allow less for the whole process, by `torch.set_float32_matmul_precision`: they then
have the digits of bfloat16 on a CPU, and of TF32 on a GPU.
"""


def with_threads(count: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a method within `fixed_threads`."""

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        @wraps(method)
        def run_with_threads(*args: P.args, **kwargs: P.kwargs) -> R:
            with fixed_threads(count):
                return method(*args, **kwargs)

        return run_with_threads

    return decorate


def predicts_on_cpu(x: Tensor) -> bool:
    """Return whether this is a float32 prediction on a CPU, not traced for export."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def silu(x: Tensor) -> Tensor:
    """Apply SiLU to a tensor that nothing else uses: in place where a CPU predicts."""
    return functional.silu(x, inplace=predicts_on_cpu(x))


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, where nothing else uses x: in place where a CPU predicts."""
    return x.add_(y) if predicts_on_cpu(x) else x + y


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` with exact sums for predictions on a CPU, of a tensor that nothing else uses.

    Torch sums a channels-last volume entirely in float32, with errors up to 3e-4: too much for
    results that another runtime must reproduce. Such a prediction replaces its input. Parameters
    are those of `nn.GroupNorm`.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not predicts_on_cpu(input) or self.weight is None:
            return super().forward(input)
        mean, variance = _moments(input, self.num_groups)
        channels_per_group = input.shape[1] // self.num_groups
        scale = (variance + self.eps).rsqrt().repeat_interleave(
            channels_per_group, 1
        ) * self.weight.double()
        shift = self.bias.double() - mean.repeat_interleave(channels_per_group, 1) * scale
        shape = (*scale.shape, *(1,) * (input.dim() - 2))
        return torch.addcmul(shift.float().view(shape), input, scale.float().view(shape), out=input)


def _moments(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return the (B, groups) float64 mean and variance of (B, C, ...)."""
    rows = x.movedim(1, -1).reshape(len(x), -1, x.shape[1])
    voxels = rows.shape[1] * (x.shape[1] // groups)
    mean, square = (s.view(len(x), groups, -1).sum(-1) / voxels for s in _sums(rows))
    return mean, (square - mean * mean).clamp_min(0)


def _sums(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sum (B, N, C) and its squares over N, each to (B, C) float64."""
    b, n, c = rows.shape
    aligned = n - n % _ROWS
    sums, squares = [], []
    for start in range(0, aligned, _CHUNK_ROWS):
        blocks = rows[:, start : min(start + _CHUNK_ROWS, aligned)].reshape(b, -1, _ROWS, c)
        sums.append(blocks.sum(2).double())
        squares.append(blocks.square().sum(2).double())
    remainder = rows[:, aligned:]
    sums.append(remainder.double().sum(1, keepdim=True))
    squares.append(remainder.square().double().sum(1, keepdim=True))
    return torch.cat(sums, 1).sum(1), torch.cat(squares, 1).sum(1)
