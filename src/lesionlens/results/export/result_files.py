"""Names of the files of a result, and their list in run.json under `files`."""

from __future__ import annotations

import json
from pathlib import Path

from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.files import CONSIDERED, ORIGINAL
from lesionlens.base.storage import RUN, check_free, rows_of, write_atomically

REVIEW = "review.json"
MAPS = (
    *(f"{kind}_{r.value}.nii.gz" for kind in ("probability", "attention") for r in Region),
    *(f"evidence_{name}.nii.gz" for name in (*MrSequence, "none")),
    "uncertainty.nii.gz",
    "candidates.nii.gz",
    CONSIDERED,
    "followup.json",
)
NAMES = (
    "segmentation.nii.gz",
    "findings.json",
    "findings.csv",
    "report.html",
    RUN,
    REVIEW,
    *MAPS,
    *(f"{ORIGINAL}/{n}" for n in ("findings.json", "segmentation.nii.gz", "candidates.nii.gz")),
    f"{ORIGINAL}/followup.json",
)
"""Every file that is read when a result is opened: no file of others may have such a name."""
KEPT = "earlier_reviews"
"""Folder of earlier reviews that were kept; never replaced."""


def write_list(folder: Path) -> None:
    """Add the folder's files with SHA-256 to run.json; the last step of writing a result."""
    rows = [
        row
        for row in rows_of(folder)
        if row["file"] != RUN and not row["file"].startswith(f"{KEPT}/")
    ]
    content = json.loads((folder / RUN).read_text(encoding="utf-8"))
    write_atomically(folder / RUN, json.dumps({**content, "files": rows}, indent=1) + "\n")


def check_folder(folder: Path) -> None:
    """Refuse a folder in which files of others have a name of a result, or ours were edited.

    Raises
    ------
    UnusableInputError
        There are such files.
    """
    check_free(folder, NAMES)
