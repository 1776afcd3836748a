"""Make the pictures of a day's reading again: a list, an unaided read, a prior beside this one.

tools/with_display.sh .venv/bin/python research/make_reading_pictures.py

Writes docs/pictures/worklist.png, unaided.png and prior.png, of drawn heads whose truth stands in
the place of a network's answer. `--docs`, `--width`, `--height` and `--theme` are as those of
make_pictures.py.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import napari
import typer
from make_pictures import DOCS, Studio
from qtpy.QtWidgets import QScrollArea

from lesionlens.engines.testing.analysis import make_analysis, write_study
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.napari.demo import wait_for
from lesionlens.napari.dock import WORKLIST, open_panel, open_worklist
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.results.export.nifti import NiftiExporter
from lesionlens.results.export.run import write_run
from lesionlens.results.export.tables import TablesExporter
from lesionlens.results.review.store import ReviewExporter
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import open_worklist_database

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens
    from lesionlens.napari.widgets.worklist_dock import WorklistDock

PLACE = (-28.0, 8.0, 26.0)
SEQUENCES = ("t1", "t1c", "t2", "flair")
THEN_MM, NOW_MM = 11.0, 17.0
SEED = 5


def result_of(place: Path, radius_mm: float, out: Path) -> None:
    """Draw the head with a lesion, and write its truth as a result."""
    head = make_patient(SEED, lesions=(Lesion(PLACE, radius_mm),), skull=True)
    made = make_analysis(head, write_study(head, place))
    out.mkdir(parents=True)
    for exporter in (TablesExporter(), NiftiExporter(), ReviewExporter()):
        exporter.write(made, out)
    write_run(made, out)


def listed(folder: Path, place: Path) -> None:
    """Make a list of three studies, of which the first two have a result."""
    database = open_worklist_database(folder)
    database.add_studies(
        StudyEntry(name, str(place), name, "2026-01-05", SEQUENCES, candidates=1, highest=0.97)
        for name in ("P001", "P002")
    )
    database.add_studies([StudyEntry("P003", str(place), "P003", "2026-01-06", SEQUENCES)])
    database.close()


def settle(studio: Studio, dock: WorklistDock | None = None) -> None:
    """Wait for what runs in the panel, and in the list."""
    wait_for(lambda: not (studio.panel.jobs.running or studio.panel.questions.running))
    if dock is not None:
        wait_for(lambda: not dock.day.jobs.running)
    studio.settle()


def day(studio: Studio, panel: LesionLens, folder: Path) -> None:
    """Open a list, read its first study unaided, sign."""
    open_worklist()
    dock = studio.viewer.window.dock_widgets[WORKLIST]
    dock.day.open(folder)
    panel.actions_.next_study()
    settle(studio, dock)
    panel.actions_.look_at(PLACE)
    panel.actions_.reading.mark(PLACE)
    settle(studio, dock)
    studio.window("pictures/worklist.png")
    panel.actions_.sign()
    settle(studio, dock)
    panel.session.choose_overlay(Overlay.CONTOUR)
    panel.actions_.go_to(1)
    settle(studio, dock)
    panel.findChild(QScrollArea).ensureWidgetVisible(panel.candidates)
    studio.window("pictures/unaided.png")
    dock.parentWidget().hide()


def prior(
    studio: Studio, panel: LesionLens, now: tuple[Path, Path], then: tuple[Path, Path]
) -> None:
    """Open a study with its result, and compare it with an earlier one: each images, result."""
    panel.actions_.open(now[0])
    settle(studio)
    panel.actions_.reopen(now[1])
    settle(studio)
    panel.actions_.compare(then[1], then[0])  # it was never opened here: else a dialog asks
    settle(studio)
    panel.session.choose_overlay(Overlay.CONTOUR)
    panel.actions_.go_to(1)
    studio.window("pictures/prior.png")


def main(
    docs: Annotated[Path, typer.Option(help="Where they go.")] = DOCS,
    width: Annotated[int, typer.Option(help="Of the window, in pixels.")] = 1280,
    height: Annotated[int, typer.Option(help="Of the window, in pixels.")] = 800,
    theme: Annotated[str, typer.Option(help="Of napari: dark or light.")] = "dark",
) -> None:
    """Make the pictures of a day's reading again."""
    with tempfile.TemporaryDirectory() as own:
        root = Path(own)
        os.environ["XDG_DATA_HOME"] = own
        os.environ["XDG_CONFIG_DIRS"] = own
        site = root / "lesionlens" / "settings.toml"
        site.parent.mkdir()
        site.write_text("[reading]\nunaided_first = true\n", encoding="utf-8")
        result_of(root / "P001", NOW_MM, root / "list" / "P001")
        result_of(root / "then", THEN_MM, root / "earlier")
        (root / "list" / "P002").symlink_to(root / "list" / "P001")
        listed(root / "list", root / "P001")
        viewer = napari.Viewer(title="LesionLens")
        viewer.theme = theme
        viewer.window.resize(width, height)
        studio = Studio(open_panel(viewer), docs)
        day(studio, studio.panel, root / "list")
        site.unlink()
        now, then = (root / "P001", root / "list" / "P001"), (root / "then", root / "earlier")
        prior(studio, studio.panel, now, then)
        viewer.close()


if __name__ == "__main__":
    typer.run(main)
