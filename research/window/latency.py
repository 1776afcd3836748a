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

from lesionlens.napari.dock import open_panel
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.preferences import read_preferences
from lesionlens.results.export.exporter import save
from research.window.demo import wait_for

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens

MIB = 2**20
TIMES = 12


class Stopwatch:
    """Wall seconds, and CPU seconds of this thread and of the process, since its creation."""

    def __init__(self) -> None:
        self._started = self._times()

    @staticmethod
    def _times() -> tuple[float, float, float]:
        return time.perf_counter(), time.thread_time(), time.process_time()

    def read(self) -> tuple[float, ...]:
        """Return the three times."""
        return tuple(now - then for now, then in zip(self._times(), self._started, strict=True))


def process_events() -> None:
    """Process all pending events of the window, twice; later timers are not waited for."""
    for _ in range(2):
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.UpdateRequest)


def print_row(label: str, seconds: list[tuple[float, ...]], target_ms: str) -> None:
    """Print one row of the table."""
    columns = list(zip(*seconds, strict=True))
    cells = [
        f"{1000 * min(column):.0f}"
        + (f" / {1000 * statistics.median(column):.0f}" if len(column) > 1 else "")
        for column in columns
    ]
    typer.echo(f"| {label} | {' | '.join(cells)} | {target_ms} |")


def time_key(target: QWidget, key: str, times: int = TIMES) -> list[tuple[float, ...]]:
    """Time several presses of a key; the first one, which fills caches, is omitted."""
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


def time_probe(panel: LesionLens, target: QWidget, times: int = TIMES) -> list[tuple[float, ...]]:
    """Time probes (Shift and a click) near the centre, until the map is painted."""
    seconds: list[tuple[float, ...]] = []
    centre = target.rect().center()
    for repeat in range(times + 1):
        wait_for(lambda: not panel.latest_request.running)
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
    """Process events until a condition holds, for 15 minutes at most."""
    end = time.monotonic() + 900
    while not done() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.004)


def time_opening(panel: LesionLens, study: Path) -> None:
    """Time dropping a study: until its first image, and until all sequences are loaded."""
    stopwatch = Stopwatch()
    panel.actions_.open_dropped((study,))
    wait_until(lambda: len(panel.viewer.layers) > 0)
    process_events()
    print_row("drop → picture", [stopwatch.read()], "2000")
    wait_until(lambda: not panel.jobs.running)
    process_events()
    print_row("drop → all sequences", [stopwatch.read()], "")


def time_analysis(panel: LesionLens) -> None:
    """Time an analysis: until the preliminary and until the final candidates."""
    stopwatch = Stopwatch()
    panel.actions_.analyse()
    wait_until(lambda: panel.session.state.preliminary is not None or not panel.jobs.running)
    process_events()
    print_row("*Analyse* → preliminary", [stopwatch.read()], "2000")
    wait_until(lambda: not panel.jobs.running)
    process_events()
    print_row("*Analyse* → final", [stopwatch.read()], "6000")


def time_reopening(panel: LesionLens, study: Path, folder: Path) -> None:
    """Save the result, close, open the study again and time reopening the result."""
    analysis = panel.session.state.analysis
    if analysis is None:
        raise typer.BadParameter("the analysis failed: nothing to reopen")
    save(analysis, folder)
    del analysis
    panel.actions_.close()
    process_events()
    time_opening(panel, study)
    stopwatch = Stopwatch()
    panel.actions_.reopen(folder)
    wait_until(lambda: not panel.jobs.running)
    process_events()
    print_row("reopen", [stopwatch.read()], "3000")


def time_acts(panel: LesionLens, views: str, target: QWidget) -> None:
    """Time every act of the reader in the current views."""
    print_row(f"next candidate, {views}", time_key(target, "N"), "100")
    print_row(f"overlay off or on, {views}", time_key(target, "T"), "50")
    print_row(f"next slice, {views}", time_key(target, "Up"), "50")
    print_row(f"probe → map, {views}", time_probe(panel, target), "150")


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
            "| | clock | processor, window | processor, all | target |\n|---|---|---|---|---|"
        )
        panel.actions_.loaded_lens.load(
            read_preferences().engine
        )  # what the window does while idle
        time_opening(panel, study)
        rows = [("study open", process.memory_info().rss)]
        time_analysis(panel)
        rows.append(("analysed", process.memory_info().rss))
        for layout, views in ((Layout.SINGLE, "canvas"), (Layout.FOUR, "four views")):
            panel.actions_.show_layout(layout)
            wait_for(lambda: False, at_most_s=1.0)
            linked = panel.views.linked
            target = linked.tiles[0] if linked and linked.tiles else panel.views.canvas
            if target is None:
                raise typer.BadParameter("no view to press keys in")
            time_acts(panel, views, panel.views.canvas if layout is Layout.SINGLE else target)
        rows.append(("walked through", process.memory_info().rss))
        panel.actions_.show_layout(Layout.SINGLE)
        time_reopening(panel, study, Path(temporary) / "result")
        for label, size in rows:
            typer.echo(f"{label}: {size / MIB:.0f} MiB")
        viewer.close()


if __name__ == "__main__":
    typer.run(main)
