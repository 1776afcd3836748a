"""Make the pictures of the reading pages: a worklist, an unaided read, a prior examination.

    tools/with_display.sh .venv/bin/python -m research.make.reading_pictures

Writes docs/pictures/worklist.png, unaided.png and prior.png of the sample patients and the shipped
weights. There is one examination of the real patient: the prior is the same scan with a smaller
outline, as the page with the picture states. `--docs`, `--width`, `--height` and `--theme` are
those of `make/pictures.py`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import napari
import nibabel as nib
import numpy as np
import typer
from qtpy.QtWidgets import QScrollArea
from scipy import ndimage

from lesionlens import Candidate, Lens, open_study
from lesionlens.base.files import user_folders
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.samples import FOLDER, STUDY
from lesionlens.napari.dock import WORKLIST, open_panel, open_worklist
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.results.result import Result
from lesionlens.results.review.reopen import prepare_and_reopen
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import open_worklist_database
from research.make.pictures import DOCS, Studio
from research.window.demo import wait_for

if TYPE_CHECKING:
    from lesionlens.napari.dock import LesionLens
    from lesionlens.napari.widgets.worklist_dock import WorklistDock

PATIENT, SYNTHETIC = "BraTS2021_01660", "SYNTHETIC-SAMPLE"
SEQUENCES = ("t1", "t1c", "t2", "flair")
SHRUNK_VOXELS = 4

Point = tuple[float, float, float]


def write_earlier_study(folder: Path) -> None:
    """Write the sample without its last slice: the same voxels would be refused as a prior."""
    folder.mkdir()
    for file in STUDY.glob("*.nii.gz"):
        nib.save(nib.load(file).slicer[..., :-1], folder / file.name)


def results_of(result_folder: Path, prior_folder: Path, earlier_study: Path) -> Candidate:
    """Write the sample's result, and one with a smaller outline; return the candidate."""
    result = Lens()(open_study(STUDY))
    result.save(result_folder)
    write_earlier_study(earlier_study)
    image = nib.load(result_folder / "segmentation.nii.gz").slicer[..., :-1]
    labels = np.asanyarray(image.dataobj)
    inner = ndimage.binary_erosion(labels > 0, iterations=SHRUNK_VOXELS)
    mask = prior_folder.parent / "smaller_seg.nii.gz"
    nib.save(nib.Nifti1Image(np.where(inner, labels, 0).astype(np.uint8), image.affine), mask)
    Result(prepare_and_reopen(mask, open_study(earlier_study), SILENT)).save(prior_folder)
    return result.candidates[0]


def make_worklist(folder: Path, highest: float | None) -> None:
    """Make a worklist of both sample patients, the first with a result."""
    database = open_worklist_database(folder)
    database.add_studies(
        [
            StudyEntry(PATIENT, str(STUDY), PATIENT, "", SEQUENCES, candidates=1, highest=highest),
            StudyEntry(SYNTHETIC, str(FOLDER / "study_dicom"), SYNTHETIC, "2026-01-05", SEQUENCES),
        ]
    )
    database.close()


def settle(studio: Studio, dock: WorklistDock | None = None) -> None:
    """Wait for running jobs of the panel and of the worklist."""
    wait_for(lambda: not (studio.panel.jobs.running or studio.panel.latest_request.running))
    if dock is not None:
        wait_for(lambda: not dock.controller.jobs.running)
    studio.settle()


def reading_session(studio: Studio, panel: LesionLens, folder: Path, position_mm: Point) -> None:
    """Open a worklist, read its first study unaided, and sign."""
    open_worklist()
    dock = studio.viewer.window.dock_widgets[WORKLIST]
    dock.controller.open(folder)
    panel.commands.run("next_study")
    settle(studio, dock)
    panel.actions_.go_to_point(position_mm)
    panel.actions_.read_controller.marking.mark(position_mm)
    settle(studio, dock)
    studio.window("pictures/worklist.png")
    panel.actions_.dialogs.ask_signature = lambda _, then: then("A. Reader")
    panel.actions_.sign()
    settle(studio, dock)
    panel.session.choose_overlay(Overlay.CONTOUR)
    panel.actions_.go_to_candidate(1)
    settle(studio, dock)
    panel.findChild(QScrollArea).ensureWidgetVisible(panel.candidates)
    studio.window("pictures/unaided.png")
    dock.parentWidget().hide()


def prior(
    studio: Studio, panel: LesionLens, result_folder: Path, prior_folder: Path, earlier_study: Path
) -> None:
    """Open the study with its result, and compare it with the prior."""
    panel.actions_.open(STUDY)
    settle(studio)
    panel.actions_.reopen(result_folder)
    settle(studio)
    panel.actions_.compare(prior_folder, earlier_study)
    settle(studio)
    panel.session.choose_overlay(Overlay.CONTOUR)
    panel.actions_.go_to_candidate(1)
    studio.window("pictures/prior.png")


def main(
    docs: Annotated[Path, typer.Option(help="Folder of the documentation, to write into.")] = DOCS,
    width: Annotated[int, typer.Option(help="Of the window, in pixels.")] = 1280,
    height: Annotated[int, typer.Option(help="Of the window, in pixels.")] = 800,
    theme: Annotated[str, typer.Option(help="Of napari: dark or light.")] = "dark",
) -> None:
    """Make the pictures of the reading pages."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        os.environ["XDG_DATA_HOME"] = temporary
        user_folders.site_settings = lambda: root / "lesionlens"
        site = root / "lesionlens" / "settings.toml"
        site.parent.mkdir()
        site.write_text("[reading]\nunaided_first = true\n", encoding="utf-8")
        result_folder, prior_folder = root / "list" / PATIENT, root / "earlier"
        earlier_study = root / "earlier_study"
        flagged = results_of(result_folder, prior_folder, earlier_study)
        make_worklist(root / "list", flagged.score)
        viewer = napari.Viewer(title="LesionLens")
        viewer.theme = theme
        viewer.window.resize(width, height)
        studio = Studio(open_panel(viewer), docs)
        reading_session(studio, studio.panel, root / "list", flagged.centroid_mm)
        site.unlink()
        prior(studio, studio.panel, result_folder, prior_folder, earlier_study)
        viewer.close()


if __name__ == "__main__":
    typer.run(main)
