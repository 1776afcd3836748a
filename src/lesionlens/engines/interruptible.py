"""Cancellation and progress within a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock, local

from torch import nn

from lesionlens.base.errors import ResourceError, is_out_of_memory
from lesionlens.base.run_context import RunContext


class _Thread(local):
    counted = True


_thread = _Thread()


def exclude_from_progress() -> None:
    """Exclude this thread's passes from the progress of a concurrent `interruptible` block."""
    _thread.counted = False


@contextmanager
def interruptible(
    network: nn.Module,
    stage: str,
    context: RunContext,
    passes: int = 1,
    rarely_used: nn.Module | None = None,
) -> Iterator[None]:
    """Check for cancellation before every layer, and report the fraction of completed layers.

    Parameters
    ----------
    stage : str
        Name for progress, in words.
    context : RunContext
        Called with the fraction of completed layers; polled before each layer.
    rarely_used : nn.Module or None
        A part that most passes skip; it is not hooked.

    Raises
    ------
    CancelledError
        The user asked to stop; raised from within the pass.
    ResourceError
        The device has too little memory.
    """
    skipped_modules = set() if rarely_used is None else set(rarely_used.modules())
    leaves = [m for m in network.modules() if m not in skipped_modules and not any(m.children())]
    total, completed, progress_lock = max(1, len(leaves) * passes), 0, Lock()

    def report_layer(module: nn.Module, arguments: tuple[object, ...]) -> None:
        nonlocal completed
        del module, arguments
        context.check(stage)
        if not _thread.counted:
            return
        with progress_lock:  # passes may run concurrently, and progress must not decrease
            completed += 1
            context.progress(stage, min(completed / total, 1.0))

    try:
        with ExitStack() as hooks:
            for leaf in leaves:
                hooks.enter_context(leaf.register_forward_pre_hook(report_layer))
            yield
    except (MemoryError, RuntimeError) as error:  # PyTorch's own error is a RuntimeError
        if not is_out_of_memory(error):
            raise
        raise ResourceError(
            found=f"too little memory during {stage}",
            expected="about 3 GB of free memory",
            next_step="Close other programs, or use --device cpu",
            in_window="Close other programs, or choose cpu in Preferences → LesionLens",
        ) from error
