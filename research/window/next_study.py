"""Measure how long the next study of a worklist takes, until all linked views are painted.

    tools/with_display.sh .venv/bin/python -m research.window.next_study LIST

LIST is a folder of `lesionlens worklist scan` with analysed studies (`worklist ahead`). A key is
pressed in the window, as by hand, once the next study was read in the background (`--at-once`:
before that). Printed are wall time, and processor time of the painting thread and of the process,
as in `window/latency.py`.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import napari
import typer
from qtpy.QtTest import QTest

from lesionlens.napari.controllers.worklist_controller import WorklistController
from lesionlens.napari.dock import open_panel
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.widgets.worklist_dock import WorklistDock
from research.window.demo import wait_for
from research.window.latency import Stopwatch, process_events, wait_until


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the worklist.", metavar="LIST")],
    times: Annotated[int, typer.Option(help="Number of steps from study to study.")] = 6,
    *,
    at_once: Annotated[bool, typer.Option("--at-once", help="Do not wait in between.")] = False,
) -> None:
    """Print a line for each step."""
    viewer = napari.Viewer(title="LesionLens")
    viewer.window.resize(1600, 1000)
    panel = open_panel(viewer)
    dock = WorklistDock(viewer, panel.actions_, panel.commands)
    viewer.window.add_dock_widget(dock, name="Worklist")
    wait_for(lambda: False, at_most_s=1.0)
    if not dock.controller.open(folder) or len(dock.session.state.rows) < 2:
        raise typer.BadParameter("no worklist of at least two studies")
    panel.commands.run("next_study")
    wait_until(lambda: not panel.jobs.running)
    panel.actions_.show_layout(Layout.FOUR)
    process_events()
    typer.echo(f"load {os.getloadavg()[0]:.1f}; seconds: clock, processor of the window, of all")
    forward = True
    for _ in range(times):
        if not at_once:
            wait_until(partial(_is_prefetched, dock.controller))
            wait_for(lambda: False, at_most_s=0.5)
        if dock.session.neighbour(1 if forward else -1) is None:
            forward = not forward
        previous = dock.session.state.current
        linked = panel.views.linked
        if linked is None or not linked.tiles:
            raise typer.BadParameter("no linked views")
        stopwatch = Stopwatch()
        QTest.keyClick(linked.tiles[0], *_keys(forward=forward))
        wait_until(partial(_has_moved, dock, previous))
        wait_until(lambda: not panel.jobs.running)
        process_events()
        seconds = stopwatch.read()
        state = panel.session.state
        candidate_count = len(state.analysis.findings.candidates) if state.analysis else None
        tiles = len(panel.views.linked.tiles) if panel.views.linked else 0
        step_name = "next, read ahead" if forward and not at_once else "not read ahead"
        typer.echo(
            f"{step_name}: {', '.join(f'{s:.2f}' for s in seconds)}; "
            f"{candidate_count} candidates, {tiles} views"
        )
    viewer.close()


def _keys(*, forward: bool) -> tuple[object, object]:
    from qtpy.QtCore import Qt

    key = Qt.Key.Key_PageDown if forward else Qt.Key.Key_PageUp
    return key, Qt.KeyboardModifier.NoModifier


def _is_prefetched(controller: WorklistController) -> bool:
    prefetched = controller._next_study._prefetched
    return prefetched is None or prefetched.opened.done()


def _has_moved(dock: WorklistDock, previous: tuple[str, int] | None) -> bool:
    return dock.session.state.current != previous


if __name__ == "__main__":
    typer.run(main)
