"""TensorBoard logging, if it is installed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import override

from lesionlens.base.text import is_writable
from lesionlens.training.checkpoint import disk_errors

logger = logging.getLogger(__name__)
_disk_errors = partial(disk_errors, "a TensorBoard log that could not be written")


class EventWriter:
    """Writer of scalars and images; this one discards them."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add one point to each curve."""

    def picture(self, name: str, image: Tensor, step: int) -> None:
        """Add a grey image (H, W), 0-1."""

    def close(self) -> None:
        """Flush and close."""


class _TensorBoard(EventWriter):
    def __init__(self, make: Callable[[], Any]) -> None:
        self._hook, threading.excepthook = threading.excepthook, self._silent
        with _disk_errors():
            self._writer = make()

    def _silent(self, args: threading.ExceptHookArgs) -> None:
        """Suppress the traceback of the writer's thread: the error is raised at the next call."""
        if not isinstance(args.exc_value, OSError):
            self._hook(args)

    @override
    def scalars(self, values: dict[str, float], step: int) -> None:
        with _disk_errors():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    @override
    def picture(self, name: str, image: Tensor, step: int) -> None:
        with _disk_errors():
            self._writer.add_image(name, image[None], step)

    @override
    def close(self) -> None:
        threading.excepthook = self._hook
        with _disk_errors():
            self._writer.close()


def open_event_writer(out: Path | None, first_step: int) -> EventWriter:
    """Open a writer in `out/board`, or a silent one without a folder or TensorBoard.

    TensorBoard then hides what a killed session, or the run before --fresh, wrote from
    `first_step` on.
    """
    if out is None:
        return EventWriter()
    if not is_writable(str(out)):
        logger.warning("no board is written: TensorBoard needs a folder whose name is UTF-8")
        return EventWriter()
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return EventWriter()
    return _TensorBoard(lambda: SummaryWriter(str(out / "board"), purge_step=first_step))
