"""Commands on whole studies: open, analyse, compare, export, close."""

from __future__ import annotations

from lesionlens.napari.commands.command import Command, no_result, no_study
from lesionlens.napari.model.screen.screen import Screen


def _no_result(screen: Screen) -> str:
    if screen.analysed and screen.activity is not None:
        return f"{screen.activity.name}: wait until it has ended"
    return "" if screen.can_export else no_result(screen) or "There is no result yet"


OPENERS = (
    Command("open_folder", "Open a folder…", lambda acts: acts.dialogs.ask_folder()),
    Command("open_file", "Open a NIfTI file…", lambda acts: acts.dialogs.ask_file()),
    Command("archive", "From the archive (PACS)…", lambda acts: acts.dialogs.ask_archive()),
    Command("reopen_result", "Reopen a saved result…", lambda acts: acts.dialogs.ask_result()),
    Command(
        "compare",
        "Compare with an earlier result…",
        lambda acts: acts.dialogs.ask_prior(),
        unavailable=_no_result,
    ),
    Command(
        "open_second",
        "Second result of this study…",
        lambda acts: acts.dialogs.ask_second(),
        unavailable=_no_result,
    ),
    Command(
        "reopen_mask", "Reopen a segmentation (NIfTI, DICOM)…", lambda acts: acts.dialogs.ask_mask()
    ),
    Command("worklist", "Worklist…", lambda acts: acts.dialogs.ask_worklist()),
    Command("open_sample", "Try the sample", lambda acts: acts.open_sample()),
)
"""Entries of the menu that open a study."""
OF_AN_OPEN_STUDY = ("compare", "open_second")
"""Openers that need a result first."""

COMMANDS = (
    Command("analyse", "analyse the study", lambda acts: acts.analyse(), unavailable=no_study),
    Command("add_layers", "add the result as plain layers", lambda acts: acts.add_layers()),
    Command(
        "export",
        "export the result and your review",
        lambda acts: acts.dialogs.ask_export(),
        "Control-Shift-S",
        unavailable=_no_result,
    ),
    Command(
        "copy_sentence",
        "copy the candidate as a sentence to paste",
        lambda acts: acts.copy_sentence(),
        "Control-F9",
        unavailable=_no_result,
    ),
    Command(
        "copy_study_sentence",
        "copy the study as a sentence to paste",
        lambda acts: acts.copy_study_sentence(),
        unavailable=_no_result,
    ),
    Command(
        "assess_response",
        "assess the response (RANO 2.0) and sign it",
        lambda acts: acts.assess_response(),
        unavailable=_no_result,
    ),
    Command(
        "withdraw_response",
        "withdraw the signed response, with a reason",
        lambda acts: acts.withdraw_response(),
        unavailable=_no_result,
    ),
    Command(
        "close",
        "close the study",
        lambda acts: acts.close(),
        unavailable=lambda screen: "" if screen.activity else no_study(screen),
    ),
    Command(
        "show_keys", "show these keys", lambda acts: acts.dialogs.show_keys(), "K", "show the keys"
    ),
)
