"""Outline and correct in the real window, by mouse events, and count prompts and seconds.

    tools/with_display.sh .venv/bin/python research/prompt_by_hand.py CASES NAME...

CASES holds cases with their truth (`seg.nii.gz`). F2 is held and the left button clicked on
napari's canvas, each time in the middle of the largest error of the whole volume. First the flagged
whole tumour is corrected, then it is outlined from nothing, as if nothing had been flagged. Printed
are Dice before and after each prompt, on how many slices a brush would have to be used for the
same change, and of each prompt the milliseconds until its answer is painted: by the clock,
processor time of the window's thread, and of the whole process.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import nibabel as nib
import numpy as np
import psutil
import typer
from numpy.typing import NDArray
from prompt_samples import next_click
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from window_latency import MIB, Watch, painted

from lesionlens import Lens, open_study
from lesionlens.base.grid import Grid
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.napari.demo import wait_for
from lesionlens.napari.dock import open_panel, show
from lesionlens.napari.model.choices.views import Layout
from lesionlens.results.result import Result

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens

Mask = NDArray[np.bool_]
_RNG = np.random.default_rng(0)  # `next_click(exact=True)` never asks it


def truth_of(case: Path, grid: Grid) -> Mask:
    """Return the expert's whole tumour on the working grid."""
    image: Any = nib.load(next(case.glob("*seg*")))
    data = (np.asarray(image.dataobj) > 0).astype(np.float32)
    return resample(data, Grid(data.shape, image.affine), grid) >= 0.5


def without_candidates(result: Result) -> Result:
    """Return the same result as if nothing had been flagged."""
    analysis = result.analysis
    labels = analysis.volumes.labels
    empty = replace(labels, data=np.zeros_like(labels.data))
    nothing = replace(
        analysis.findings, candidates=(), components=np.zeros_like(analysis.findings.components)
    )
    left = replace(analysis, volumes=replace(analysis.volumes, labels=empty), findings=nothing)
    return Result(left, result._prediction, result.engine)  # noqa: SLF001


def clicked(panel: LesionLens, voxel: NDArray[np.int64], belongs: bool) -> tuple[float, ...]:
    """Go to a voxel's slice and click it on the canvas; how long the answer took."""
    grid = panel.session.state.overlays.grid
    x, y, z = (float(v) for v in grid.to_mm(voxel))
    panel.actions_.viewpoint.move(point_mm=(x, y, z), centre_mm=(x, y, z))
    _, down, right = panel.viewer.dims.order[-3:]
    panel.viewer.scene.camera.center = (0.0, (x, y, z)[down], (x, y, z)[right])
    painted()
    native = panel.viewer.window._qt_viewer.canvas.native  # noqa: SLF001
    held = Qt.KeyboardModifier.NoModifier if belongs else Qt.KeyboardModifier.AltModifier
    QTest.keyPress(native, Qt.Key.Key_F2)
    watch = Watch()
    at = QPoint(native.width() // 2, native.height() // 2)
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, held, at)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        QApplication.processEvents()
        if not panel.questions.running and not panel.actions_.prompting._asking:  # noqa: SLF001
            break
        time.sleep(0.002)
    painted()
    seconds = watch.read()
    QTest.keyRelease(native, Qt.Key.Key_F2)
    return seconds


def dice(a: Mask, b: Mask) -> float:
    """Overlap of two masks."""
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def played(panel: LesionLens, name: str, truth: Mask, rounds: int) -> None:
    """Point until nothing is wrong or the rounds are over; keep the outline by Enter."""
    overlays = panel.session.state.overlays
    mask = np.zeros(truth.shape, bool)
    for number in np.unique(overlays.components[truth & (overlays.components > 0)]):
        mask |= overlays.components == number
    scores, all_seconds, begun, first = [dice(mask, truth)], [], mask.copy(), time.monotonic()
    for _ in range(rounds):
        found = next_click(truth, mask, _RNG, exact=True)
        if found is None:
            break
        all_seconds.append(clicked(panel, *found))
        sides = panel.actions_.editor.drawn()
        if sides is not None:  # other candidates stay as they are
            others = begun & (overlays.components != panel.session.state.editing)
            mask = (sides[1] > 0) | others
        scores.append(dice(mask, truth))
    whole = time.monotonic() - first
    slices = int((begun ^ mask).any((0, 1)).sum())
    row = [f"{1000 * s[0]:.0f}/{1000 * s[1]:.0f}/{1000 * s[2]:.0f}" for s in all_seconds]
    asked = len(panel.actions_.editor.rounds)
    typer.echo(
        f"| {name} | {' '.join(f'{s:.3f}' for s in scores)} | {asked} of {len(all_seconds)} | "
        f"{whole:.1f} | {slices} | {' '.join(row)} | {os.getloadavg()[0]:.0f} |"
    )


def main(
    cases: Annotated[Path, typer.Argument(help="Folders of sequences with seg.nii.gz.")],
    names: Annotated[list[str], typer.Argument(help="Which of them.")],
    rounds: Annotated[int, typer.Option(help="Prompts at most.")] = 5,
    pictures: Annotated[Path | None, typer.Option(help="Where pictures of the window go.")] = None,
) -> None:
    """Print a row for each lesion."""
    me, lens = psutil.Process(), Lens()
    with tempfile.TemporaryDirectory() as own:
        os.environ["XDG_DATA_HOME"] = own
        typer.echo(
            "| | Dice before and after each prompt | taken | seconds | slices to brush | "
            "ms a prompt: clock/window/process | load |\n|---|---|---|---|---|---|---|"
        )
        for name in names:
            result = lens(open_study(cases / name))
            truth = truth_of(cases / name, result.analysis.prepared.working)
            shown = {"corrected": result, "from nothing": without_candidates(result)}
            for kind, one in shown.items():
                viewer = show(one, block=False)
                viewer.window.resize(1600, 1000)
                panel = open_panel(viewer)
                panel.actions_.show_layout(Layout.SINGLE)
                wait_for(lambda: False, at_most_s=1.0)
                before = me.memory_info().rss
                played(panel, f"{name} {kind}", truth, rounds)
                added = (me.memory_info().rss - before) / MIB
                typer.echo(f"<!-- memory added {added:.0f} MiB -->")
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                    viewer.window.screenshot(str(pictures / f"{name} {kind}.png"), flash=False)
                panel.actions_.review_controller.discard_edit()
                viewer.close()


if __name__ == "__main__":
    typer.run(main)
