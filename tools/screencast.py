"""Film the window while the sample patient is read: about half a minute, as WebM.

tools/with_display.sh .venv/bin/python -m tools.screencast docs/pictures/screencast.webm

The window is driven by the commands that keys and buttons run; the analysis is shown faster than it
is. Needs ffmpeg.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import napari
import typer
from PIL import Image, ImageDraw, ImageFont
from research.window.demo import wait_for

from lesionlens.imaging.samples import STUDY
from lesionlens.napari.dock import open_panel
from lesionlens.napari.model.choices.choices import Overlay

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens

SIZE, A_SECOND = (1120, 700), 8
CAPTION = 26
LARGEST = 1_500_000


class Film:
    """Frames of the window, each with a caption below it."""

    def __init__(self, panel: LesionLens, folder: Path) -> None:
        self.panel, self.folder, self.count = panel, folder, 0

    def hold(self, caption: str, seconds: float = 1.5) -> None:
        """Show the window as it is for a while."""
        shown = self.panel.viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        frame = Image.new("RGB", (SIZE[0], SIZE[1] + CAPTION), "#11131a")
        frame.paste(Image.fromarray(shown).resize(SIZE), (0, 0))
        font = ImageFont.load_default(15)
        ImageDraw.Draw(frame).text((12, SIZE[1] + 4), caption, fill="#ffd166", font=font)
        for _ in range(max(1, round(seconds * A_SECOND))):
            frame.save(self.folder / f"{self.count:04d}.png")
            self.count += 1

    def run(self, caption: str, *commands: str, seconds: float = 1.8) -> None:
        """Run commands as their keys would, wait for what they ask, and show the outcome."""
        for command in commands:
            self.panel.commands.run(command)
        self.settle()
        self.hold(caption, seconds)

    def scroll(self, caption: str, slices: int, each: int = 1) -> None:
        """Go through slices."""
        for _ in range(slices):
            for _ in range(each):
                self.panel.commands.run("next_slice")
            wait_for(lambda: False, at_most_s=0.15)
            self.hold(caption, 1 / A_SECOND)

    def settle(self) -> None:
        """Wait for all that was asked, and for the window to paint it."""
        panel = self.panel
        wait_for(lambda: not (panel.jobs.running or panel.questions.running))
        wait_for(lambda: False, at_most_s=0.6)


def main(
    out: Annotated[Path, typer.Argument(help="The film, .webm.")],
    width: Annotated[int, typer.Option(help="Of the film, in pixels.")] = 960,
) -> None:
    """Film the window."""
    with tempfile.TemporaryDirectory() as own:
        os.environ["XDG_DATA_HOME"] = own  # the user's own decisions are neither shown nor touched
        viewer = napari.Viewer(title="LesionLens")
        viewer.window.resize(*SIZE)
        film = Film(open_panel(viewer), Path(own))
        story(film)
        viewer.close()
        encode(Path(own), out, width)
    if out.stat().st_size > LARGEST:
        raise SystemExit(f"{out.name} is larger than {LARGEST} bytes: make it narrower")


def story(film: Film) -> None:
    """Open, read, analyse, question, decide, correct."""
    panel = film.panel
    panel.actions_.open(STUDY)
    film.settle()
    film.hold("A real patient: four sequences, recognised by their names")
    film.scroll("Read it yourself first", 14, 2)
    panel.actions_.analyse()
    while panel.jobs.running:
        wait_for(lambda: not panel.jobs.running, at_most_s=2.5)
        film.hold("Analyse (shown faster than it is)", 1 / A_SECOND)
    panel.session.choose_overlay(Overlay.OFF)
    film.run("N: go to the first candidate", "next_candidate")
    panel.session.choose_overlay(Overlay.CONTOUR)
    film.run("T: its outline", seconds=1.5)
    panel.session.choose_overlay(Overlay.MAP)
    film.run("T: where the network looked, whole tumour", seconds=2)
    film.run("tumour core", "next_region", seconds=1.2)
    film.run("enhancing tumour", "next_region", seconds=1.2)
    film.run("", "next_region", seconds=0.3)
    panel.session.choose_overlay(Overlay.CONTOUR)
    candidate = panel.session.candidate()
    if candidate is not None:
        panel.actions_.probe(candidate.centroid_mm)
        film.run("Shift and a click: where did this voxel attend?", seconds=2.2)
        film.run("", "end_probe", seconds=0.3)
    film.run("Four sequences, linked", "four_views", seconds=2)
    film.scroll("Four sequences, linked", 8)
    film.run("A: accept", "four_views", "next_candidate", "accept", seconds=1.8)
    film.run("Shift+E: correct the outline with a brush", "edit_outline", seconds=2)
    notice = "Research use only. Flags regions; does not exclude disease."
    film.run(notice, "discard_edit", seconds=2)


def encode(frames: Path, out: Path, width: int) -> None:
    """Write the frames as VP9."""
    command = [
        *("ffmpeg", "-y", "-loglevel", "error", "-framerate", str(A_SECOND)),
        *("-i", str(frames / "%04d.png"), "-vf", f"scale={width}:-2", "-c:v", "libvpx-vp9"),
        *("-crf", "40", "-b:v", "0", "-pix_fmt", "yuv420p", "-an", str(out)),
    ]
    subprocess.run(command, check=True)  # noqa: S603  (our own)


if __name__ == "__main__":
    typer.run(main)
