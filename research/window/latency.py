"""Measure how long the window takes from an act of the reader until it has painted the effect.

    tools/with_display.sh .venv/bin/python -m research.window.latency STUDY

STUDY is a folder of four sequences; the figures of docs/how-to/napari.md are of 240 x 240 x 155
voxels. A key is pressed or a point clicked as by hand, and the time runs until the window has
painted. Printed are three figures for each act, as least and median of several: wall time,
processor time of the painting thread, and processor time of the process. On a shared machine wall
time also depends on the load.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import napari
import psutil
import typer
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from lesionlens.napari.demo import wait_for
from lesionlens.napari.dock import open_panel
from lesionlens.napari.model.choices.views import Layout
from lesionlens.results.export.exporter import save

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens

MIB = 2**20
TIMES = 12


class Stopwatch:
    """Seconds by the clock, of this thread's processor and of the process's, since it was made."""

    def __init__(self) -> None:
        self._began = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.perf_counter(), time.thread_time(), time.process_time()

    def read(self) -> tuple[float, ...]:
        """Return the three."""
        return tuple(now - then for now, then in zip(self._now(), self._began, strict=True))


def process_events() -> None:
    """Let the window do and paint all that waits; what a timer brings later is not waited for."""
    for _ in range(2):
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.UpdateRequest)


def print_line(label: str, seconds: list[tuple[float, ...]], target_ms: str) -> None:
    """Print one row of the table."""
    columns = list(zip(*seconds, strict=True))
    cells = [
        f"{1000 * min(column):.0f}"
        + (f" / {1000 * statistics.median(column):.0f}" if len(column) > 1 else "")
        for column in columns
    ]
    typer.echo(f"| {label} | {' | '.join(cells)} | {target_ms} |")


def pressed(target: QWidget, key: str, times: int = TIMES) -> list[tuple[float, ...]]:
    """Press a key several times; the first press, which fills caches, is not counted."""
    combination = QKeySequence(key)[0]
    seconds = []
    for repeat in range(times + 1):
        wait_for(lambda: False, at_most_s=0.25)
        stopwatch = Stopwatch()
        QTest.keyClick(target, combination.key(), combination.keyboardModifiers())
        process_events()
        if repeat:
            seconds.append(stopwatch.read())
    return seconds


def probed(panel: LesionLens, target: QWidget, times: int = TIMES) -> list[tuple[float, ...]]:
    """Ask by Shift and a click, each time elsewhere near the middle; until the map is painted."""
    seconds: list[tuple[float, ...]] = []
    centre = target.rect().center()
    for repeat in range(times + 1):
        wait_for(lambda: not panel.questions.running)
        wait_for(lambda: False, at_most_s=0.25)
        position = centre + QPoint(7 * repeat - 40, 5 * repeat - 30)
        previous = panel.session.state.overlays
        QTest.mouseMove(target, position)
        QApplication.processEvents()
        stopwatch = Stopwatch()
        QTest.mouseClick(
            target, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ShiftModifier, position
        )
        end = time.monotonic() + 20
        while panel.session.state.overlays is previous and time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.001)
        process_events()
        if repeat and panel.session.state.overlays is not previous:
            seconds.append(stopwatch.read())
    panel.actions_.end_probe()
    return seconds


def wait_until(done: Callable[[], bool]) -> None:
    """Keep the window alive until something is so, looking often."""
    end = time.monotonic() + 900
    while not done() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.004)


def opened(panel: LesionLens, study: Path) -> None:
    """Drop a study: until its first picture, then until all sequences are there."""
    stopwatch = Stopwatch()
    panel.open_dropped([study])
    wait_until(lambda: len(panel.viewer.layers) > 0)
    process_events()
    print_line("drop → picture", [stopwatch.read()], "2000")
    wait_until(lambda: not panel.jobs.running)
    process_events()
    print_line("drop → all sequences", [stopwatch.read()], "")


def analysed(panel: LesionLens) -> None:
    """Analyse: until preliminary candidates, until the final ones."""
    stopwatch = Stopwatch()
    panel.actions_.analyse()
    wait_until(lambda: panel.session.state.preliminary is not None or not panel.jobs.running)
    process_events()
    print_line("*Analyse* → preliminary", [stopwatch.read()], "2000")
    wait_until(lambda: not panel.jobs.running)
    process_events()
    print_line("*Analyse* → final", [stopwatch.read()], "6000")


def reopened(panel: LesionLens, study: Path, folder: Path) -> None:
    """Save the result, close, open the study again and reopen the result."""
    analysis = panel.session.state.analysis
    if analysis is None:
        raise typer.BadParameter("the analysis failed: nothing to reopen")
    save(analysis, folder)
    del analysis
    panel.actions_.close()
    process_events()
    opened(panel, study)
    stopwatch = Stopwatch()
    panel.actions_.reopen(folder)
    wait_until(lambda: not panel.jobs.running)
    process_events()
    print_line("reopen", [stopwatch.read()], "3000")


def walked(panel: LesionLens, views: str, target: QWidget) -> None:
    """Every act of the reader in the views of now."""
    print_line(f"next candidate, {views}", pressed(target, "N"), "100")
    print_line(f"overlay off or on, {views}", pressed(target, "T"), "50")
    print_line(f"next slice, {views}", pressed(target, "Up"), "50")
    print_line(f"probe → map, {views}", probed(panel, target), "150")


def main(
    study: Annotated[Path, typer.Argument(help="A folder of four sequences.")],
    width: Annotated[int, typer.Option(help="Of the window, in pixels.")] = 1600,
    height: Annotated[int, typer.Option(help="Of the window, in pixels.")] = 1000,
) -> None:
    """Print the table of latencies and of memory."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_DATA_HOME"] = temporary
        process = psutil.Process()
        viewer = napari.Viewer(title="LesionLens")
        viewer.window.resize(width, height)
        panel = open_panel(viewer)
        wait_for(lambda: False, at_most_s=1.0)
        typer.echo(f"load {os.getloadavg()[0]:.1f}, least / median of {TIMES}, milliseconds\n")
        typer.echo(
            "| | clock | processor, window | processor, all | asked |\n|---|---|---|---|---|"
        )
        wait_until(lambda: panel.actions_._lens is not None)  # noqa: SLF001 (loaded while it rests)
        opened(panel, study)
        rows = [("study open", process.memory_info().rss)]
        analysed(panel)
        rows.append(("analysed", process.memory_info().rss))
        for layout, views in ((Layout.SINGLE, "canvas"), (Layout.FOUR, "four views")):
            panel.actions_.show_layout(layout)
            wait_for(lambda: False, at_most_s=1.0)
            linked = panel.views.linked
            target = linked.tiles[0] if linked and linked.tiles else panel.views.canvas
            if target is None:
                raise typer.BadParameter("no window to press keys in")
            walked(panel, views, panel.views.canvas if layout is Layout.SINGLE else target)
        rows.append(("walked through", process.memory_info().rss))
        panel.actions_.show_layout(Layout.SINGLE)
        reopened(panel, study, Path(temporary) / "result")
        for label, size in rows:
            typer.echo(f"{label}: {size / MIB:.0f} MiB")
        viewer.close()


if __name__ == "__main__":
    typer.run(main)
