"""Sums that do not depend on the number of threads, so that a prediction never does.

Torch splits some sums among its threads, and float32 sums in another order end in other digits:
those of a group norm that lies channels last, and matrix products. So do sigmoids, where a thread's
share ends within a vector. Convolutions by oneDNN, `exp` and plain arithmetic voxel by voxel give
the same bits with any number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

P = ParamSpec("P")
R = TypeVar("R")
_ROWS = 256
"""Voxels that are added up in float32 before float64 takes over."""


class _Outside(threading.local):
    threads: int | None = None


_outside = _Outside()


def predicts_on_cpu(x: Tensor) -> bool:
    """Whether this is a prediction in float32 on a CPU, not traced for export."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def thread_count() -> int:
    """Return how many threads a pass has, also within `one_thread`."""
    return _outside.threads or torch.get_num_threads()


@contextmanager
def by_threads(count: int, needed: bool = True) -> Iterator[None]:
    """Compute by so many threads within the block; where not `needed`, nothing changes."""
    threads = torch.get_num_threads()
    if not needed or threads == count:
        yield
        return
    before = _outside.threads
    _outside.threads = threads
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _outside.threads = before


def one_thread(needed: bool = True) -> AbstractContextManager[None]:
    """Compute by one thread within the block; see `by_threads`."""
    return by_threads(1, needed)


@contextmanager
def all_threads() -> Iterator[None]:
    """Within `one_thread`, compute by as many threads as there were outside of it."""
    threads = _outside.threads
    if threads is None:
        yield
        return
    _outside.threads = None
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(1)
        _outside.threads = threads


def added_up_by(count: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a method by so many threads, but for what it does within `all_threads`."""

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        @wraps(method)
        def steady(*given: P.args, **named: P.kwargs) -> R:
            with by_threads(count):
                return method(*given, **named)

        return steady

    return decorate


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)) by torch's `exp`, which rounds alike wherever a thread begins.

    Where a CPU predicts; else torch's own, whose last digit differs at the end of a thread's share.
    """
    if not predicts_on_cpu(x):
        return x.sigmoid()
    return x.neg().exp_().add_(1).reciprocal_()


def silu(x: Tensor) -> Tensor:
    """Return x / (1 + exp(-x)); see `sigmoid`."""
    if not predicts_on_cpu(x):
        return functional.silu(x)
    below = x.neg().exp_().add_(1)
    return torch.div(x, below, out=below)


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` with sums in blocks of fixed length wherever a CPU predicts.

    Weights and their names are those of `nn.GroupNorm`, results equal but for rounding.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not predicts_on_cpu(input) or self.weight is None:
            return super().forward(input)
        mean, variance = _moments(input, self.num_groups)
        each = input.shape[1] // self.num_groups
        scale = (variance + self.eps).rsqrt().repeat_interleave(each, 1) * self.weight.double()
        shift = self.bias.double() - mean.repeat_interleave(each, 1) * scale
        shape = (*scale.shape, *(1,) * (input.dim() - 2))
        return torch.addcmul(shift.float().view(shape), input, scale.float().view(shape))


def _moments(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return the (B, groups) float64 mean and variance of (B, C, ...)."""
    rows = x.movedim(1, -1).reshape(len(x), -1, x.shape[1])
    sums = _sums(rows)
    squares = _sums(rows * rows)
    voxels = rows.shape[1] * (x.shape[1] // groups)
    mean, square = (s.view(len(x), groups, -1).sum(-1) / voxels for s in (sums, squares))
    return mean, (square - mean * mean).clamp_min(0)


def _sums(rows: Tensor) -> Tensor:
    """Add up (B, N, C) over N to (B, C) float64: blocks of fixed length, then their sums."""
    b, n, c = rows.shape
    whole = n - n % _ROWS
    blocks = rows[:, :whole].reshape(b, -1, _ROWS, c).sum(2).double()
    rest = rows[:, whole:].double().sum(1, keepdim=True)
    with one_thread():
        return torch.cat([blocks, rest], 1).sum(1)
