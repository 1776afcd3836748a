"""Outline and correct in the real window with the real mouse, by prompts and by the brush.

    tools/with_display.sh .venv/bin/python -m research.prompts.by_hand CASES NAME... [--brush]
        [--scribbles]

CASES holds cases with reference outlines (`seg.nii.gz`). xdotool moves the pointer and presses the
keys of the X display, so that input takes the same path as a reader's. With prompts, F2 is held and
the middle of the largest error of the whole volume is clicked; F5 switches between foreground and
background. First the flagged whole tumour is corrected (Shift+E), then it is outlined anew, as if
nothing had been flagged. With `--scribbles`, a line is drawn along the part of that error on the
axial slice instead (`evaluate.scribble_through`). With `--brush`, the tumour is also painted: on
every third axial slice of the reference, border and inside are swept at the pace of a hand, and the
slices between are interpolated (Shift+W).

Printed: Dice, acts, wall seconds, slices visited, and the load; for a prompt, the milliseconds
until its answer is painted: wall time, processor time of the window's thread, and of the whole
process. Going to a slice is not timed, which favours the brush, as it needs more slices.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import nibabel as nib
import numpy as np
import typer
from numpy.typing import NDArray
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from skimage import measure

from lesionlens import Lens, open_study
from lesionlens.base.grid import Grid
from lesionlens.base.masks import depth_inside, dice
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.napari.dock import open_panel, show
from lesionlens.napari.model.choices.views import Layout
from lesionlens.results.result import Result
from research.prompts.evaluate import scribble_through
from research.prompts.samples import next_click
from research.window.demo import wait_for
from research.window.latency import Stopwatch, process_events

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens

Mask = NDArray[np.bool_]
Seconds = tuple[float, ...]
_POINTER_PX_S = 400.0
_STEP_PX = 6.0
_SETTLE_S = 0.4
_THICK_VOX, _THIN_VOX = 4.5, 1.5
_RNG = np.random.default_rng(0)  # not used by `next_click(exact=True)`


def reference_mask(case: Path, grid: Grid) -> Mask:
    """Return the reference of the whole tumour on the working grid."""
    reference: Any = nib.load(next(case.glob("*seg*")))
    data = (np.asarray(reference.dataobj) > 0).astype(np.float32)
    return resample(data, Grid(data.shape, reference.affine), grid) >= 0.5


def without_candidates(result: Result) -> Result:
    """Return the result without its candidates."""
    analysis = result.analysis
    labels = analysis.volumes.labels
    empty = replace(labels, data=np.zeros_like(labels.data))
    empty_findings = replace(
        analysis.findings, candidates=(), components=np.zeros_like(analysis.findings.components)
    )
    emptied = replace(
        analysis, volumes=replace(analysis.volumes, labels=empty), findings=empty_findings
    )
    return Result(emptied, result._prediction, result.engine)


class InputSimulator:
    """Pointer and keys of the X display, controlled by xdotool while the window runs."""

    def __init__(self, panel: LesionLens) -> None:
        self._panel, window = panel, panel.viewer.window._qt_window
        self._canvas = panel.viewer.window._qt_viewer.canvas
        window.move(0, 0)
        process_events()
        self.xdotool("windowfocus", str(int(window.winId())))

    def xdotool(self, *arguments: str) -> None:
        """Run an xdotool command, and let the window paint the effect."""
        process = subprocess.Popen(["xdotool", *arguments])
        while process.poll() is None:
            QApplication.processEvents()
            time.sleep(0.002)
        process_events()

    def settle(self) -> None:
        """Wait until the docks that appear after F2 is released no longer move the canvas."""
        end = time.monotonic() + _SETTLE_S
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.01)
        process_events()

    def centre_on(self, point_mm: NDArray[np.float64]) -> None:
        """Show the slice of a point, with the point in the centre of the canvas."""
        x, y, z = (float(v) for v in point_mm)
        self._panel.actions_.viewpoint.move(point_mm=(x, y, z), centre_mm=(x, y, z))
        _, down, right = self._panel.viewer.dims.order[-3:]
        self._panel.viewer.scene.camera.center = (0.0, (x, y, z)[down], (x, y, z)[right])
        process_events()

    def screen_position(self, point_mm: NDArray[np.float64]) -> tuple[str, str]:
        """Return the screen coordinates of a point of the slice, as arguments of xdotool."""
        _, down, right = self._panel.viewer.dims.order[-3:]
        view = self._canvas.view
        canvas_point = (view.transform * view.scene.transform).map(
            [point_mm[right], point_mm[down]]
        )
        native = self._canvas.native
        on_screen = native.mapToGlobal(
            QPoint(round(float(canvas_point[0])), round(float(canvas_point[1])))
        )
        return str(on_screen.x()), str(on_screen.y())

    def drag_along(self, line_mm: list[NDArray[np.float64]]) -> None:
        """Drag along a line at the speed of a hand."""
        pixels = [self.screen_position(point) for point in line_mm]
        arguments = ["mousemove", *pixels[0], "mousedown", "1"]
        previous = np.array(pixels[0], float)
        for pixel in pixels[1:]:
            steps = max(
                1,
                round(float(np.abs(np.array(pixel, float) - previous).max()) / _STEP_PX),
            )
            for fraction in np.linspace(0, 1, steps + 1)[1:]:
                x, y = previous + fraction * (np.array(pixel, float) - previous)
                arguments += ["mousemove", str(round(x)), str(round(y))]
                arguments += ["sleep", f"{_STEP_PX / _POINTER_PX_S:.3f}"]
            previous = np.array(pixel, float)
        self.xdotool(*arguments, "mouseup", "1")


def give_prompt(
    panel: LesionLens, simulator: InputSimulator, line: NDArray[np.int64], *, is_foreground: bool
) -> Seconds:
    """Go to a slice, click a voxel or draw a line; return the seconds until the response."""
    overlays = panel.session.state.overlays
    assert overlays is not None
    grid = overlays.grid
    line_mm = [grid.to_mm(voxel) for voxel in line]
    simulator.centre_on(line_mm[len(line) // 2])
    if panel.actions_.prompting.excluding is is_foreground:
        simulator.xdotool("key", "F5")
    simulator.xdotool("mousemove", *simulator.screen_position(line_mm[0]), "keydown", "F2")
    stopwatch = Stopwatch()
    if len(line) > 1:
        simulator.drag_along(line_mm)
    else:
        simulator.xdotool("click", "1")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        QApplication.processEvents()
        if not panel.latest_request.running and panel.actions_.prompting._answering_outline is None:
            break
        time.sleep(0.002)
    process_events()
    seconds = stopwatch.read()
    simulator.xdotool("keyup", "F2")
    simulator.settle()
    return seconds


def brush_strokes(inside: Mask) -> list[tuple[float, list[tuple[float, float]]]]:
    """Return brush strokes that paint a mask on a slice: diameter and path, in voxels.

    The inside is painted in rows by a thick brush, the border by a thin one.
    """
    depth = depth_inside(inside)
    strokes = []
    for row in range(0, depth.shape[0], round(1.6 * _THICK_VOX)):
        runs, count = ndimage.label(depth[row] > _THICK_VOX)
        for number in range(1, count + 1):
            columns = np.flatnonzero(runs == number)
            ends = [(float(row), float(columns[0])), (float(row), float(columns[-1]))]
            strokes.append((2 * _THICK_VOX, ends))
    parts, count = ndimage.label(inside)
    for number in range(1, count + 1):
        part_depth = np.where(parts == number, depth, 0)
        for level in (min(_THIN_VOX, 0.75 * part_depth.max()), 2.5 * _THIN_VOX):
            for line in measure.find_contours(part_depth, level):
                path = [(float(a), float(b)) for a, b in (*line[::2], line[-1])]
                strokes.append((2 * _THIN_VOX, path))
    return strokes


def paint_by_brush(
    panel: LesionLens, simulator: InputSimulator, name: str, reference: Mask, step: int = 3
) -> None:
    """Paint a mask from nothing on every third slice, and interpolate the slices between."""
    overlays = panel.session.state.overlays
    assert overlays is not None
    grid = overlays.grid
    panel.commands.run("draw_lesion")
    process_events()
    layer = panel.viewer.layers.selection.active
    levels = np.flatnonzero(reference.any((0, 1)))
    levels_painted = sorted({*levels[::step].tolist(), int(levels[-1])})
    strokes, seconds = 0, 0.0
    for level in levels_painted:
        inside = reference[:, :, level]
        centre = np.array([*ndimage.center_of_mass(inside), level])
        simulator.centre_on(grid.to_mm(centre))
        started = time.monotonic()
        for size, line in brush_strokes(inside):
            layer.brush_size = size
            simulator.drag_along([grid.to_mm(np.array([i, j, level])) for i, j in line])
            strokes += 1
        seconds += time.monotonic() - started
    painted_labels = panel.actions_.editor.drawn()
    painted_only = dice(painted_labels[1] > 0, reference) if painted_labels else 0.0
    started = time.monotonic()
    simulator.xdotool("key", "shift+w")
    wait_for(lambda: False, at_most_s=0.5)
    seconds += time.monotonic() - started
    painted_labels = panel.actions_.editor.drawn()
    score = dice(painted_labels[1] > 0, reference) if painted_labels else 0.0
    typer.echo(
        f"| {name}, brush | {painted_only:.3f} {score:.3f} | {strokes} strokes | {seconds:.1f} | "
        f"{len(levels_painted)} | | {os.getloadavg()[0]:.0f} |"
    )


def correct_by_prompts(
    panel: LesionLens,
    simulator: InputSimulator,
    name: str,
    reference: Mask,
    rounds: int,
    *,
    scribbles: bool,
) -> None:
    """Give prompts until the outline is correct or `rounds` are used."""
    overlays = panel.session.state.overlays
    assert overlays is not None
    mask = np.zeros(reference.shape, bool)
    candidate_ids = overlays.components[reference & (overlays.components > 0)]
    for number in np.unique(candidate_ids):
        mask |= overlays.components == number
    scores, all_seconds, initial_mask, first = (
        [dice(mask, reference)],
        [],
        mask.copy(),
        time.monotonic(),
    )
    slices = set()
    if candidate_ids.size:
        panel.session.go_to_candidate(int(np.bincount(candidate_ids).argmax()))
        simulator.xdotool("key", "shift+e")
    for _ in range(rounds):
        click = next_click(reference, mask, _RNG, exact=True)
        if click is None:
            break
        voxel, is_foreground = click
        wrong = (reference != mask) & (reference == is_foreground)
        line = scribble_through(wrong, voxel, axes=(2,)) if scribbles else voxel[None]
        slices.add(int(voxel[2]))
        all_seconds.append(give_prompt(panel, simulator, line, is_foreground=is_foreground))
        edited = panel.actions_.editor.drawn()
        if edited is not None:  # other candidates stay as they are
            other_candidates = initial_mask & (overlays.components != panel.session.state.editing)
            mask = (edited[1] > 0) | other_candidates
        scores.append(dice(mask, reference))
    total_s = time.monotonic() - first
    row = [f"{1000 * s[0]:.0f}/{1000 * s[1]:.0f}/{1000 * s[2]:.0f}" for s in all_seconds]
    round_count = len(panel.actions_.editor.rounds)
    typer.echo(
        f"| {name} | {' '.join(f'{s:.3f}' for s in scores)} | "
        f"{round_count} of {len(all_seconds)} | "
        f"{total_s:.1f} | {len(slices)} | {' '.join(row)} | {os.getloadavg()[0]:.0f} |"
    )


def main(
    cases: Annotated[Path, typer.Argument(help="Folders of sequences with seg.nii.gz.")],
    names: Annotated[list[str], typer.Argument(help="Names of the cases.")],
    rounds: Annotated[int, typer.Option(help="Prompts at most.")] = 5,
    *,
    from_nothing: Annotated[bool, typer.Option(help="Outline each from nothing too.")] = True,
    brush: Annotated[bool, typer.Option(help="Paint each from nothing too.")] = False,
    scribbles: Annotated[bool, typer.Option(help="Draw lines in place of clicks.")] = False,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for pictures of the window.")
    ] = None,
) -> None:
    """Print a row for each lesion."""
    lens = Lens()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_DATA_HOME"] = temporary
        typer.echo(
            "| | Dice before and after each act | acts | seconds | slices visited | "
            "ms per prompt: clock/window/process | load |\n|---|---|---|---|---|---|---|"
        )
        for name in names:
            result = lens(open_study(cases / name))
            reference = reference_mask(cases / name, result.analysis.prepared.working)
            empty_result = without_candidates(result)
            starts = {"corrected": result}
            if from_nothing:
                starts["from nothing"] = empty_result
            if brush:
                starts["brush"] = empty_result
            for kind, start in starts.items():
                viewer = show(start, block=False)
                viewer.window.resize(1600, 1000)
                panel = open_panel(viewer)
                panel.actions_.show_layout(Layout.SINGLE)
                wait_for(lambda: False, at_most_s=1.0)
                simulator = InputSimulator(panel)
                if kind == "brush":
                    paint_by_brush(panel, simulator, name, reference)
                else:
                    correct_by_prompts(
                        panel, simulator, f"{name} {kind}", reference, rounds, scribbles=scribbles
                    )
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                    viewer.window.screenshot(str(pictures / f"{name} {kind}.png"), flash=False)
                panel.actions_.review_controller.discard_edit()
                viewer.close()


if __name__ == "__main__":
    typer.run(main)
