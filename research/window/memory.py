"""Measure whether a window grows while studies are opened, analysed, viewed and closed in it.

    tools/with_display.sh .venv/bin/python -m research.window.memory STUDY --studies 50
    tools/with_display.sh .venv/bin/python -m research.window.memory STUDIES --results RESULTS

The shipped network analyses every study; with `--results`, saved results of the studies in a folder
(of the same names) are reopened in turn. Printed are the memory of the process after each closed
study (RSS, and the part of this process alone), its peak so far and its seconds; at the end, the
growth in MiB per study from the third on: by a straight line through all, and last less third.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import napari
import numpy as np
import psutil
import typer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from lesionlens.base.process.memory import release_memory
from lesionlens.base.process.peak_memory import peak_memory_mib
from lesionlens.napari.dock import open_panel
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.results.review.reopen import results_in
from research.window.demo import wait_for

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens

MIB = 2**20
WARM = 3


def read_study(panel: LesionLens, root: Path, result: Path | None) -> int:
    """Open a study, analyse or reopen it, show it in every layout, probe, decide, close.

    Return the number of its candidates.
    """

    def idle() -> bool:
        return not (panel.jobs.running or panel.latest_request.running)

    acts, session = panel.actions_, panel.session
    acts.open(root)
    wait_for(idle)
    if result is None:
        acts.analyse()
    else:
        acts.reopen(result)
    wait_for(idle)
    analysis = session.state.analysis
    if analysis is None:
        raise typer.BadParameter(f"not analysed: {session.state.problem}")
    panel.commands.run("next_candidate")
    for overlay in (Overlay.CONTOUR, Overlay.MAP):
        session.choose_overlay(overlay)
        wait_for(lambda: False, at_most_s=0.1)
    for name in ("four_views", "three_planes", "three_planes"):
        panel.commands.run(name)
        wait_for(lambda: False, at_most_s=0.2)
    candidate = session.state.focused
    if candidate is not None:
        acts.probe(candidate.centroid_mm)
        wait_for(idle)
        panel.commands.run("accept")
    candidate_count = len(analysis.findings.candidates)
    acts.close()
    wait_for(lambda: False, at_most_s=0.1)
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    return candidate_count


def main(
    study: Annotated[Path, typer.Argument(help="A small study; with --results, several.")],
    results: Annotated[Path | None, typer.Option(help="Saved results of these studies.")] = None,
    studies: Annotated[int, typer.Option(help="Number of studies to open.")] = 50,
) -> None:
    """Print a line for each study, then the growth of memory."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_DATA_HOME"] = temporary
        os.environ["XDG_CACHE_HOME"] = temporary  # each is prepared again, like fifty patients
        process = psutil.Process()
        viewer = napari.Viewer(title="LesionLens")
        viewer.window.resize(1280, 800)
        panel = open_panel(viewer)
        wait_for(lambda: False, at_most_s=1.0)
        sizes = []
        saved = [None] if results is None else results_in(results)
        for number in range(1, studies + 1):
            began = time.perf_counter(), time.process_time()
            result = saved[(number - 1) % len(saved)]
            source = study if result is None else study / result.name
            root = shutil.copytree(source, Path(temporary) / f"study {number}")
            candidate_count = read_study(panel, root, result)
            shutil.rmtree(root)
            release_memory()
            memory = process.memory_full_info()
            sizes.append(memory.rss / MIB)
            typer.echo(
                f"study {number}: RSS {sizes[-1]:.0f} MiB, own {memory.uss / MIB:.0f} MiB, "
                f"largest {peak_memory_mib():.0f} MiB; "
                f"{candidate_count} candidates; "
                f"{time.perf_counter() - began[0]:.1f} s by the clock, "
                f"{time.process_time() - began[1]:.1f} of the processor"
            )
        later = np.array(sizes[WARM - 1 :])
        if later.size > 1:
            growth_mib = np.polyfit(np.arange(later.size), later, 1)[0]
            typer.echo(f"from study {WARM} on: {growth_mib:+.2f} MiB per study by a straight line")
            typer.echo(f"last less study {WARM}: {later[-1] - later[0]:+.0f} MiB")
            typer.echo(f"most less study {WARM}: {later.max() - later[0]:+.0f} MiB")
        viewer.close()


if __name__ == "__main__":
    typer.run(main)
