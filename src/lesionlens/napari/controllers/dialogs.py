"""The dialogs of a window, as its acts open them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lesionlens.base.errors import PatientConflictError
from lesionlens.base.records.followup import Comparison
from lesionlens.base.records.response import Response
from lesionlens.napari.model.state.identity import StudyIdentity

AskPatient = Callable[[PatientConflictError, Callable[[], object]], object]
"""Takes the conflict, and a callback for the confirmation that it is one patient."""

SignResponse = Callable[[int, Response, str], object]
"""Takes the number of the baseline examination, the category and the reader's name."""
"""Takes the draft, the reader's category and name."""


class AskPath(Protocol):
    """A dialog that asks for a path."""

    def __call__(self, then: Callable[[Path], object], title: str, file_filter: str = "") -> object:
        """Ask for a file of these kinds, or for a folder if none are named; `then` takes it."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Content of the dialog for signing or withdrawing."""

    identity: StudyIdentity
    statement: str
    """What is signed or withdrawn."""
    reader: str = ""
    """Reader's name; empty if unnamed."""
    withdrawn: bool = False
    """Whether a signature is withdrawn, which needs a reason."""


@dataclass(slots=True)
class Dialogs:
    """What a panel asks or shows the reader; answers are passed to callbacks."""

    ask_path: AskPath
    confirm: Callable[[str, str, Callable[[], object]], object]
    """Takes a text and the name of an act, and calls back if that is chosen."""
    ask_patient: AskPatient
    ask_signature: Callable[[Signature, Callable[[str], object]], object]
    """Calls back with the reader's name, or with the reason of a withdrawal."""
    ask_name: Callable[[Callable[[str], object]], object]
    """Asks for the reader's name; calls back with it, empty if the reader gives none."""
    ask_response: Callable[[Comparison, StudyIdentity, str, SignResponse], object]
    """Shows the sums of a comparison, for a reader who may sign a category."""
    copy_text: Callable[[str], object]
    """Puts a text on the clipboard."""
    type_reason: Callable[[], object]
    """Moves the focus to the field of the reason."""
    show_archive: Callable[[], object]
    show_worklist: Callable[[], object]
    show_keys: Callable[[], object]
