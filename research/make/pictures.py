"""Make every picture of the documentation from the sample patient and the shipped weights.

    tools/with_display.sh .venv/bin/python -m research.make.pictures

Writes docs/pictures/*.png except napari.png, which `make demo` writes: the whole window, or the
canvas with the relevant part of the panel. `--docs out/pictures --width 1600 --height 1000
--theme light` writes the same pictures elsewhere, for inspection.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import napari
import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QWidget

from lesionlens.base.labels import MrSequence, Region
from lesionlens.napari.dock import open_panel
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.geometry.planes import Plane
from research.window.demo import run_study, wait_for

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens

DOCS = Path(__file__).resolve().parents[2] / "docs"
SAMPLE = DOCS.parent / "sample_data" / "study"
SIDE_PX, MAX_WIDTH_PX, MAX_BYTES = 520, 1040, 150_000
BACKGROUND = (38, 41, 48)


class Studio:
    """One viewer with the analysed sample, of which pictures are taken."""

    def __init__(self, panel: LesionLens, docs: Path) -> None:
        self.panel, self.docs = panel, docs
        self.viewer = panel.viewer
        self.size = (0, 0)

    def settle(self, seconds: float = 0.6) -> None:
        """Wait for running jobs, and for the window to paint their results."""
        panel = self.panel
        wait_for(lambda: not (panel.jobs.running or panel.latest_request.running))
        wait_for(lambda: False, at_most_s=seconds)

    def window(self, name: str) -> None:
        """Save a picture of the whole window."""
        self.settle()
        screenshot = self.viewer.screenshot(canvas_only=False, flash=False)
        save_png(screenshot[..., :3], self.docs / name)

    def canvas_and_block(self, name: str, block: QWidget | None = None) -> None:
        """Save a picture of the canvas, with a block of the panel beside it."""
        self.settle()
        size = (SIDE_PX, SIDE_PX) if self.viewer.dims.ndisplay == 2 else None
        canvas = self.viewer.screenshot(size=size, canvas_only=True, flash=False)[..., :3]
        self.settle()  # an answer that arrived meanwhile changes the block's layout
        sides = [canvas] if block is None else [canvas, widget_pixels(block)]
        height = max(side.shape[0] for side in sides)
        save_png(np.concatenate([padded(side, height) for side in sides], axis=1), self.docs / name)


def widget_pixels(block: QWidget) -> NDArray[np.uint8]:
    """Return the pixels of a painted widget with a margin, (rows, columns, 3)."""
    image = block.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1)
    pixels = rows[:, : image.width() * 3].reshape(image.height(), image.width(), 3)
    framed = np.full((pixels.shape[0] + 24, pixels.shape[1] + 24, 3), pixels[-1, 0], np.uint8)
    framed[12:-12, 12:-12] = pixels
    return framed


def padded(picture: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Pad a picture below to a height."""
    below = np.full((height - picture.shape[0], picture.shape[1], 3), BACKGROUND, np.uint8)
    return np.concatenate([picture, below])


def save_png(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a PNG with as many colours as fit into `MAX_BYTES`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.width > MAX_WIDTH_PX:
        image = image.resize((MAX_WIDTH_PX, round(image.height * MAX_WIDTH_PX / image.width)))
    for colours in (256, 128, 64):
        image.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            return
    raise SystemExit(f"{path.name} stays larger than {MAX_BYTES} bytes: make its side smaller")


def main(
    docs: Annotated[Path, typer.Option(help="Folder of the documentation, to write into.")] = DOCS,
    width: Annotated[int, typer.Option(help="Of the window, in pixels.")] = 1280,
    height: Annotated[int, typer.Option(help="Of the window, in pixels.")] = 800,
    theme: Annotated[str, typer.Option(help="Of napari: dark or light.")] = "dark",
) -> None:
    """Make every picture of the documentation."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_DATA_HOME"] = temporary  # the user's decisions are not shown or changed
        viewer = napari.Viewer(title="LesionLens")
        viewer.theme = theme
        viewer.window.resize(width, height)
        panel = open_panel(viewer)
        studio = Studio(panel, docs)
        studio.size = (width, height)
        preliminary_result(studio, panel)
        run_study(panel, SAMPLE)
        for step in (
            coronal_view,
            linked_views,
            attention_maps,
            contribution_maps,
            uncertainty_and_what_if,
            three_dimensions,
            outline_editing,
        ):
            step(studio, panel)
        viewer.close()


def preliminary_result(studio: Studio, panel: LesionLens) -> None:
    """Save a picture of the preliminary candidates, while the analysis runs."""
    panel.actions_.open(SAMPLE)
    wait_for(lambda: not panel.jobs.running)
    panel.actions_.analyse()
    wait_for(lambda: panel.session.state.preliminary is not None or not panel.jobs.running)
    panel.commands.run("next_candidate")
    wait_for(lambda: False, at_most_s=3.0)  # the panel is laid out while the analysis continues
    screenshot = studio.viewer.screenshot(canvas_only=False, flash=False)
    save_png(screenshot[..., :3], studio.docs / "pictures/first-look.png")
    panel.jobs.stop()
    wait_for(lambda: not panel.jobs.running)


def coronal_view(studio: Studio, panel: LesionLens) -> None:
    """Save a picture of the window with a coronal view."""
    panel.session.choose_plane(Plane.CORONAL)
    panel.commands.run("accept")
    panel.session.choose_overlay(Overlay.CONTOUR)
    studio.window("pictures/napari-coronal.png")
    panel.commands.run("undo")
    panel.session.choose_plane(Plane.AXIAL)


def linked_views(studio: Studio, panel: LesionLens) -> None:
    """Save pictures of the window with four views and with three planes."""
    session, acts = panel.session, panel.actions_
    session.choose_overlay(Overlay.CONTOUR)
    acts.show_layout(Layout.FOUR)
    acts.go_to_candidate(1)
    studio.window("pictures/four-views.png")
    session.choose_overlay(Overlay.MAP)
    acts.show_layout(Layout.PLANES)
    acts.go_to_candidate(1)
    studio.window("pictures/three-planes.png")
    session.choose_overlay(Overlay.CONTOUR)
    acts.show_layout(Layout.SINGLE)
    acts.go_to_candidate(1)


def attention_maps(studio: Studio, panel: LesionLens) -> None:
    """Save pictures of the outline, of each region's map, and of one attention head."""
    session, block = panel.session, panel.attention
    session.choose_overlay(Overlay.CONTOUR)
    studio.canvas_and_block("pictures/contour.png", block)
    session.choose_overlay(Overlay.MAP)
    for region in Region:
        session.choose_region(region)
        studio.canvas_and_block(f"pictures/map-{region.value}.png", block)
    session.choose_region(Region.WT)
    session.choose_layer(1, 0)
    studio.canvas_and_block("pictures/one-head.png", block)
    session.choose_layer(None)


def contribution_maps(studio: Studio, panel: LesionLens) -> None:
    """Save the contributions of T1c and of FLAIR side by side."""
    session, pictures = panel.session, []
    for sequence in (MrSequence.T1C, MrSequence.FLAIR):
        second = next(
            opinion for opinion in session.state.second_opinions if opinion.sequence is sequence
        )
        session.choose_overlay(Overlay.MAP)
        session.choose_layer(second)
        studio.settle()
        size = (SIDE_PX, SIDE_PX)
        screenshot = studio.viewer.screenshot(size=size, canvas_only=True, flash=False)[..., :3]
        pictures += [screenshot, np.full((SIDE_PX, 4, 3), BACKGROUND, np.uint8)]
    save_png(np.concatenate(pictures[:-1], axis=1), studio.docs / "pictures/evidence.png")
    session.choose_layer(None)


def uncertainty_and_what_if(studio: Studio, panel: LesionLens) -> None:
    """Save pictures of the uncertainty and of the score without a sequence."""
    session, block = panel.session, panel.attention
    session.choose_overlay(Overlay.CONTOUR)
    session.choose_uncertainty(visible=True)
    studio.canvas_and_block("pictures/uncertainty.png", block)
    session.choose_uncertainty(visible=False)
    panel.actions_.ask_without()
    session.choose_sequence(MrSequence.FLAIR)
    studio.canvas_and_block("pictures/what-if.png", block)
    session.choose_sequence(MrSequence.T1C)


def three_dimensions(studio: Studio, panel: LesionLens) -> None:
    """Save a picture of the map in 3D."""
    panel.session.choose_overlay(Overlay.MAP)
    studio.viewer.window.resize(
        1000, SIDE_PX + 140
    )  # rendering without a GPU is slow for many pixels
    studio.settle()
    studio.viewer.dims.ndisplay = 3
    studio.canvas_and_block("pictures/three-dimensions.png")
    studio.viewer.dims.ndisplay = 2
    studio.viewer.window.resize(*studio.size)


def outline_editing(studio: Studio, panel: LesionLens) -> None:
    """Save a picture of an outline while it is edited."""
    panel.session.choose_overlay(Overlay.CONTOUR)
    panel.commands.run("edit_outline")
    studio.canvas_and_block("pictures/editing.png", panel.candidates)
    panel.commands.run("discard_edit")


if __name__ == "__main__":
    typer.run(main)
