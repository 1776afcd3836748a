"""Images shown instead of the study's while a key is held: a prior, or other series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.choices.views import ComparedPictures
from lesionlens.napari.model.geometry.slices import Picture
from lesionlens.napari.model.overlays.maps import contrast_limits
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.drawing import Artist


@dataclass(frozen=True, slots=True)
class OtherStudy:
    """Comparison images, ready to be drawn."""

    compared: ComparedPictures
    artist: Artist
    limits: Mapping[MrSequence, tuple[float, float]]
    """Windows by sequence."""


class OtherStudies:
    """Cache of the current comparison."""

    def __init__(self) -> None:
        self._made: OtherStudy | None = None

    def forget(self) -> None:
        """Clear the cache."""
        self._made = None

    def of(self, board: Board, tile: Tile) -> OtherStudy | None:
        """Return the images shown instead of a tile's, if any."""
        compared = board.views.compared if board.views.swapped or tile.prior else None
        if compared is None or tile.sequence not in compared.volumes:
            return None
        if self._made is None or self._made.compared is not compared:
            pictures = {s: Picture.of(v.data, v.grid) for s, v in compared.volumes.items()}
            limits = {s: contrast_limits(v.data) for s, v in compared.volumes.items()}
            self._made = OtherStudy(compared, Artist(pictures), limits)
        return self._made
