"""Let a user stop a network in the middle of a pass, and see how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from torch import nn

from lesionlens.base.errors import ResourceError, is_lack_of_memory
from lesionlens.base.run_context import RunContext


@contextmanager
def interruptible(
    network: nn.Module,
    stage: str,
    context: RunContext,
    passes: int = 1,
    seldom: nn.Module | None = None,
) -> Iterator[None]:
    """Check before every layer whether to stop, and report how many layers are done.

    Parameters
    ----------
    network : nn.Module
        Whose leaves are watched.
    stage : str
        Name for progress, in words.
    context : RunContext
        Called with the share of layers done; polled before each layer.
    passes : int
        How many passes follow.
    seldom : nn.Module or None
        A part that most passes leave out; it is not watched.

    Raises
    ------
    CancelledError
        The user asked to stop; raised from within the pass.
    ResourceError
        The device's memory does not suffice.
    """
    unseen = set() if seldom is None else set(seldom.modules())
    leaves = [m for m in network.modules() if m not in unseen and not any(m.children())]
    total, done, one_at_a_time = max(1, len(leaves) * passes), 0, Lock()

    def before(module: nn.Module, arguments: tuple[object, ...]) -> None:
        nonlocal done
        del module, arguments
        context.check(stage)
        with one_at_a_time:  # passes may run side by side, and progress never falls back
            done += 1
            context.progress(stage, min(done / total, 1.0))

    hooks = [leaf.register_forward_pre_hook(before) for leaf in leaves]
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # PyTorch's own is a RuntimeError
        if not is_lack_of_memory(error):
            raise
        raise ResourceError(
            found=f"too little memory during {stage}",
            expected="about 3 GB of free memory",
            next_step="Close other programs, or use --device cpu",
            in_window="Close other programs, or choose cpu in Preferences → LesionLens",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
