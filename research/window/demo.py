"""`make demo`: open a study and its result in the panel, or save a screenshot.

python -m research.window.demo sample_data/study --result out/demo --screenshot napari.png
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import napari
import typer
from qtpy.QtWidgets import QApplication

from lesionlens.base.errors import LesionLensError, ResourceError
from lesionlens.napari.dock import LesionLens, open_panel
from lesionlens.napari.model.choices.choices import Overlay

WINDOW = (1500, 950)
PATIENCE_S = 600.0
_SETTLE_S = 0.6


def demo(
    study: Annotated[Path, typer.Argument(help="A folder of NIfTI or DICOM files.")],
    result: Annotated[
        Path | None, typer.Option(help="Its saved result, to show instead of analysing again.")
    ] = None,
    screenshot: Annotated[
        Path | None, typer.Option(help="Save a screenshot of the window as PNG and exit.")
    ] = None,
) -> None:
    """Open a study in napari and analyse it, or reopen its result, as a reader would."""
    viewer = napari.Viewer(title="LesionLens")
    viewer.window.resize(*WINDOW)
    panel = open_panel(viewer)
    try:
        run_study(panel, study, result, is_attended=screenshot is None)
    except LesionLensError as error:
        typer.echo(str(error), err=True)
        if screenshot is not None:
            raise typer.Exit(error.exit_status) from error
    if screenshot is None:
        napari.run()
        return
    paint(viewer, screenshot)
    viewer.close()


def run_study(
    panel: LesionLens, study: Path, result: Path | None = None, *, is_attended: bool = True
) -> None:
    """Open, analyse or reopen a study, and show the first candidate with the attention map.

    Parameters
    ----------
    is_attended : bool
        Whether somebody answers whose an unnamed read is; else it is shown as unnamed.

    Raises
    ------
    LesionLensError
        Failure shown in the panel.
    """
    if not is_attended:
        panel.actions_.dialogs.ask_owner = lambda _identity, _time, answer: answer(None)
    panel.actions_.open(study)
    wait_for(lambda: not panel.jobs.running)
    _raise_problem(panel)
    if result is None:
        panel.actions_.analyse()
    else:
        panel.actions_.reopen(result)
    unnamed_reads = panel.actions_.read_controller.unnamed_reads
    wait_for(lambda: not (panel.jobs.running or unnamed_reads.asking_owner))
    _raise_problem(panel)
    panel.session.choose_overlay(Overlay.MAP)
    panel.session.step(1)


def paint(viewer: napari.Viewer, path: Path) -> None:
    """Write the whole window as PNG, once it has settled."""
    wait_for(lambda: False, at_most_s=_SETTLE_S)
    path.parent.mkdir(parents=True, exist_ok=True)
    viewer.screenshot(str(path), canvas_only=False, flash=False)


def wait_for(condition: Callable[[], bool], at_most_s: float = PATIENCE_S) -> None:
    """Process events until a condition holds, or the time limit is reached."""
    end = time.monotonic() + at_most_s
    while not condition() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)


def _raise_problem(panel: LesionLens) -> None:
    problem = panel.session.state.problem
    if problem is not None:
        raise LesionLensError(
            found=problem.found, expected=problem.expected, next_step=problem.next_step
        )
    if panel.jobs.running:
        raise ResourceError(
            found=f"no result after {PATIENCE_S:.0f} s",
            expected="an analysis within that time",
            next_step="Run `lesionlens doctor` to see what this machine has",
            in_window="Close other programs, then try again",
        )


if __name__ == "__main__":
    typer.run(demo)
