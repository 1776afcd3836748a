"""Dialogs of the panel, as the acts of a window open them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class PanelDialogs(Protocol):
    """What a panel asks the reader for; each answer calls an act."""

    def ask_folder(self) -> None:
        """Ask for a folder to open."""

    def ask_file(self) -> None:
        """Ask for a file to open."""

    def ask_archive(self) -> None:
        """Show the dialog of the archive (PACS)."""

    def ask_result(self) -> None:
        """Ask for a saved result to reopen."""

    def ask_second(self) -> None:
        """Ask for a second result of the open study."""

    def ask_prior(self) -> None:
        """Ask for an earlier result to compare with."""

    def ask_prior_images(self, result: Path) -> None:
        """Ask for the images of an earlier result."""

    def ask_mask(self) -> None:
        """Ask for a segmentation to review."""

    def ask_export(self) -> None:
        """Ask for the folder that receives the export."""

    def request_worklist(self) -> None:
        """Show the worklist beside the picture."""

    def show_keys(self) -> None:
        """Show the table of keys."""

    def type_reason(self) -> None:
        """Move the focus to the field of the reason."""
