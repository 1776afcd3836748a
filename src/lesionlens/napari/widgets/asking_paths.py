"""File dialogs of the panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QFileDialog

from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.napari.widgets.pacs_dialog import PacsDialog


class AskingPaths:
    """Mixin of the panel that asks for paths to open, compare or write."""

    actions_: Actions
    archive: PacsDialog | None

    def ask_folder(self) -> None:
        """Ask for a folder and open it."""
        self._ask_path(self.actions_.open, "Open a folder of NIfTI or DICOM files")

    def ask_file(self) -> None:
        """Ask for a NIfTI file and open it."""
        self._ask_path(self.actions_.open, "Open a NIfTI file", "NIfTI (*.nii *.nii.gz)")

    def ask_result(self) -> None:
        """Ask for a result folder of the open study and show it again."""
        self._ask_path(self.actions_.reopen, "Reopen the result in this folder")

    def ask_second(self) -> None:
        """Ask for another result of the open study and compare with it."""
        kinds = "Results and segmentations (findings.json *.nii *.nii.gz *.dcm);;All (*)"
        words = "The second result of this study: its findings.json, or a segmentation"
        self._ask_path(self.actions_.second.open, words, kinds)

    def ask_prior(self) -> None:
        """Ask for an earlier result, or a folder of results, and compare with it."""
        words = "Compare with the result, or the latest result of the patient, in this folder"
        self._ask_path(self.actions_.compare, words)

    def ask_prior_images(self, result: Path) -> None:
        """Ask for the images of an earlier result, then compare with it."""

        def ask() -> None:
            words = "The images of that earlier examination: its folder"
            chosen = QFileDialog.getExistingDirectory(self, words)
            if chosen:
                self.actions_.compare(result, Path(chosen))

        when_idle(ask)

    def ask_mask(self) -> None:
        """Ask for a mask or a DICOM Segmentation of the open study and show it for review."""
        kinds = "Segmentations (*.nii *.nii.gz *.dcm);;All (*)"
        self._ask_path(self.actions_.reopen, "Review this segmentation", kinds)

    def _ask_path(self, then: Callable[[Path], object], words: str, kinds: str = "") -> None:
        """Ask for a file of these kinds, or for a folder if none are named."""
        if kinds:
            chosen, _ = QFileDialog.getOpenFileName(self, words, "", kinds)
        else:
            chosen = QFileDialog.getExistingDirectory(self, words)
        if chosen:
            then(Path(chosen))

    def ask_archive(self) -> None:
        """Show the archive's dialog; no request is sent yet."""
        if self.archive is None:
            self.archive = PacsDialog(self, self.actions_.open, lambda: self.actions_.exported)
        self.archive.show()
        self.archive.raise_()

    def ask_export(self) -> None:
        """Ask for a folder and export into it."""
        self._ask_path(self.actions_.export, "Export into this folder")
