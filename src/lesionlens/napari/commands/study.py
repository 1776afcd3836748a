"""Commands on whole studies: open, analyse, compare, export, close."""

from __future__ import annotations

from lesionlens.napari.commands.command import Command, no_result, no_study
from lesionlens.napari.model.screen.screen import Screen


def _no_result(screen: Screen) -> str:
    if screen.analysed and screen.activity is not None:
        return f"{screen.activity.name}: wait until it finishes"
    return "" if screen.can_export else no_result(screen) or "There is no result yet"


OPENERS = (
    Command(
        "open_folder",
        "Open a folder…",
        run=lambda acts: acts.dialogs.ask_path(acts.open, "Open a folder of NIfTI or DICOM files"),
    ),
    Command(
        "open_file",
        "Open a file…",
        run=lambda acts: acts.dialogs.ask_path(
            acts.open_file,
            "Open a file",
            "Volumes (*.nii *.nii.gz *.nrrd *.mha *.mhd *.mgz);;All (*)",
        ),
    ),
    Command("archive", "From the archive (PACS)…", run=lambda acts: acts.dialogs.show_archive()),
    Command(
        "reopen_result",
        "Reopen a saved result…",
        run=lambda acts: acts.dialogs.ask_path(acts.reopen, "Reopen the result in this folder"),
    ),
    Command("compare", "Compare with an earlier result…", run=lambda acts: acts.ask_prior()),
    Command(
        "reopen_mask",
        "Reopen a segmentation (NIfTI, DICOM)…",
        run=lambda acts: acts.dialogs.ask_path(
            acts.reopen,
            "Review this segmentation",
            "Segmentations (*.nii *.nii.gz *.nrrd *.mha *.mhd *.mgz *.dcm);;All (*)",
        ),
    ),
    Command("worklist", "Worklist…", run=lambda acts: acts.dialogs.show_worklist()),
    Command("open_sample", "Try the sample"),
)
"""Entries of the menu that open a study."""

COMMANDS = (
    Command("analyse", "analyse the study", unavailable=no_study),
    Command(
        "add_layers",
        "add the result as plain layers",
        unavailable=lambda screen: "" if screen.analysed else screen.not_added,
    ),
    Command(
        "export",
        "export the result and your review",
        "Control-Shift-S",
        unavailable=_no_result,
        run=lambda acts: acts.dialogs.ask_path(acts.export, "Export into this folder"),
    ),
    Command(
        "copy_sentence",
        "copy the candidate as a sentence to paste",
        "Control-F9",
        unavailable=_no_result,
    ),
    Command(
        "copy_study_sentence",
        "copy the study as a sentence to paste",
        unavailable=_no_result,
        run=lambda acts: acts.copy_sentence(whole=True),
    ),
    Command(
        "assess_response", "assess the response (RANO 2.0) and sign it", unavailable=_no_result
    ),
    Command(
        "withdraw_response", "withdraw the signed response, with a reason", unavailable=_no_result
    ),
    Command(
        "close",
        "close the study",
        unavailable=lambda screen: "" if screen.activity else no_study(screen),
    ),
    Command(
        "show_keys",
        "show these keys",
        "K",
        "show the keys",
        run=lambda acts: acts.dialogs.show_keys(),
    ),
)
