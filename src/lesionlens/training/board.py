"""TensorBoard where it is installed; else nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor


class Board(Protocol):
    """Where curves and pictures go."""

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add one point to each curve."""
        ...

    def picture(self, name: str, image: Tensor, step: int) -> None:
        """Add a grey picture (H, W), 0-1."""
        ...

    def close(self) -> None:
        """Write out."""
        ...


class _NoBoard:
    def scalars(self, values: dict[str, float], step: int) -> None:
        """Nothing to do."""

    def picture(self, name: str, image: Tensor, step: int) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, image: Tensor, step: int) -> None:
        self._writer.add_image(name, image[None], step)

    def close(self) -> None:
        self._writer.close()


def open_board(out: Path | None) -> Board:
    """Open a board in `out/board`, or a silent one without a folder or without TensorBoard."""
    if out is None:
        return _NoBoard()
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (optional)
    except ImportError:
        return _NoBoard()
    return _TensorBoard(SummaryWriter(str(out / "board")))
