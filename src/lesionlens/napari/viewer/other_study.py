"""Images shown instead of the study's while a key is held: a prior, or other series."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.choices.views import ComparisonImages
from lesionlens.napari.model.geometry.slices import OrientedVolume
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.overlays.maps import contrast_limits
from lesionlens.napari.model.overlays.window_level import Limits, dragged
from lesionlens.napari.model.screen.board import Board, Tile
from lesionlens.napari.model.screen.drawing import Drawing, TilePainter
from lesionlens.napari.model.screen.slice_annotations import OUTSIDE


@dataclass(frozen=True, slots=True)
class ComparedImages:
    """Comparison images, ready to be drawn."""

    compared: ComparisonImages
    artist: TilePainter
    limits: dict[MrSequence, Limits]
    """Windows by sequence."""
    auto: dict[MrSequence, Limits]
    """Initial windows."""

    @classmethod
    def of(cls, compared: ComparisonImages) -> ComparedImages:
        """Prepare the images of a comparison, with their initial windows."""
        pictures = {s: OrientedVolume.of(v.data, v.grid) for s, v in compared.volumes.items()}
        limits = {
            s: compared.window or contrast_limits(v.data) for s, v in compared.volumes.items()
        }
        return cls(compared, TilePainter(pictures), {**limits}, limits)

    def board(self, board: Board) -> Board:
        """Return the board without anything of the open study."""
        marks = board.marks if self.compared.other_image else ()
        return replace(board, analysis=None, overlays=None, marks=marks)

    def draw(self, board: Board, tile: Tile, viewpoint: Viewpoint) -> Drawing:
        """Return the content of a tile: its own image and outlines, none of the open study's."""
        compared, own_board = self.compared, self.board(board)
        drawing = self.artist.draw(own_board, tile, viewpoint)
        plane_name = tile.plane.value if compared.other_image else drawing.lines[0]
        resampled = compared.resampled.get(tile.sequence)
        # its slices are those of the grid that it was resampled to or cropped on, of no series
        described = [OUTSIDE] if OUTSIDE in drawing.lines else [resampled or "", *drawing.lines[2:]]
        return replace(
            drawing,
            lines=(
                f"{compared.description} · {plane_name}",
                *filter(None, (*described, *compared.registration.splitlines())),
            ),
            outlines=self.artist.flagged(own_board, tile, viewpoint, compared.components),
            box=None,
        )

    def drag(self, sequence: MrSequence, by: tuple[float, float]) -> None:
        """Change the window of an image by pixels to the right (width) and down (level)."""
        sequences = [sequence] if not self.compared.other_image else list(self.limits)
        for key in sequences:
            self.limits[key] = dragged(self.limits[key], self.auto[key], by)
