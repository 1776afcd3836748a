"""File dialogs of the panel."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.loading import study_paths
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.napari.widgets.dialogs import ask_path
from lesionlens.napari.widgets.pacs_dialog import PacsDialog


class AskingPaths:
    """Mixin of the panel that asks for paths to open, compare or write."""

    actions_: Actions
    archive: PacsDialog | None

    def ask_folder(self) -> None:
        """Ask for a folder and open it."""
        ask_path(self, self.actions_.open, "Open a folder of NIfTI or DICOM files")

    def ask_file(self) -> None:
        """Ask for a NIfTI file, or one of another kind, and open it."""

        def open_file(path: Path) -> None:
            self.actions_.open(study_paths((path,)) or (path,))

        ask_path(self, open_file, "Open a file", "NIfTI (*.nii *.nii.gz);;All (*)")

    def ask_result(self) -> None:
        """Ask for a result folder of the open study and show it again."""
        ask_path(self, self.actions_.reopen, "Reopen the result in this folder")

    def ask_second(self) -> None:
        """Ask for another result of the open study and compare with it."""
        file_filter = "Results and segmentations (findings.json *.nii *.nii.gz *.dcm);;All (*)"
        title = "The second result of this study: its findings.json, or a segmentation"
        ask_path(self, self.actions_.second.open, title, file_filter)

    def ask_prior(self) -> None:
        """Ask for an earlier result, or a folder of results, and compare with it."""
        title = "Compare with the result, or the latest result of the patient, in this folder"
        ask_path(self, self.actions_.compare, title)

    def ask_prior_images(self, result: Path) -> None:
        """Ask for the images of an earlier result, then compare with it."""
        title = "The images of that earlier examination: its folder"
        when_idle(lambda: ask_path(self, partial(self.actions_.compare, result), title))

    def ask_mask(self) -> None:
        """Ask for a mask or a DICOM Segmentation of the open study and show it for review."""
        file_filter = "Segmentations (*.nii *.nii.gz *.dcm);;All (*)"
        ask_path(self, self.actions_.reopen, "Review this segmentation", file_filter)

    def ask_archive(self) -> None:
        """Show the archive's dialog; no request is sent yet."""
        if self.archive is None:
            self.archive = PacsDialog(self, self.actions_.open, lambda: self.actions_.exported)
        self.archive.show()
        self.archive.raise_()

    def ask_export(self) -> None:
        """Ask for a folder and export into it."""
        ask_path(self, self.actions_.export, "Export into this folder")
