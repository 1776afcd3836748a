"""Files that belong to a result: those listed in its run.json under `files`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lesionlens.base.files import manifest
from lesionlens.base.files.atomic_file import write_atomically
from lesionlens.base.files.bounded_read import read_object
from lesionlens.base.records.parts import MAPS, MEASURED

RUN, REVIEW = "run.json", "review.json"
ALWAYS = ("segmentation.nii.gz", "findings.json", "findings.csv", "report.html", RUN, REVIEW)
"""Files of every result."""
KEPT = "earlier_reviews"
"""Folder of earlier reviews that were kept; never replaced."""
_EDITED_OUTLINE = re.compile(r"review_edits/[0-9a-f]{64}\.nii\.gz")


def write_list(folder: Path) -> None:
    """Add the folder's files with SHA-256 to run.json; the last step on a staged result."""
    rows = [
        row
        for row in manifest.rows_of(folder)
        if row["file"] != RUN and not row["file"].startswith(f"{KEPT}/")
    ]
    content = json.loads((folder / RUN).read_text(encoding="utf-8"))
    write_atomically(folder / RUN, json.dumps({**content, "files": rows}, indent=1) + "\n")


def owned(folder: Path) -> dict[str, str | None]:
    """Return the files of a result, and the SHA-256 of those that never change."""
    run = read_object(folder / RUN)
    if not str(run.get("schema", "")).startswith("lesionlens/run/") or "files" not in run:
        return {}
    files = {**manifest.rows_in(run), RUN: None}
    if REVIEW not in files:
        return files
    edits = (path.relative_to(folder).as_posix() for path in folder.glob("review_edits/*.nii.gz"))
    return {
        **files,
        REVIEW: None,
        **{name: None for name in edits if _EDITED_OUTLINE.fullmatch(name)},
    }


def check_folder(folder: Path) -> None:
    """Refuse a folder with foreign files that a result would overwrite, or read when it is opened.

    Raises
    ------
    UnusableInputError
        There are such files.
    """
    if folder.is_dir():
        replaceable_files(folder)


def replaceable_files(folder: Path) -> dict[str, str | None]:
    """Return the files of a result (`owned`); refuse foreign files under names that a result uses.

    Raises
    ------
    UnusableInputError
        There are such files.
    """
    files = owned(folder)
    manifest.check_free(folder, dict.fromkeys((*ALWAYS, *MEASURED, *MAPS)), files)
    return files
