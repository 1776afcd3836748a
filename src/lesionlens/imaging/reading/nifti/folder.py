"""Group the NIfTI files of a folder into studies; several studies are listed, never mixed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from lesionlens.base.files import is_nifti_name
from lesionlens.base.records.study import StudyKind
from lesionlens.base.text import encodable
from lesionlens.imaging.reading import bids
from lesionlens.imaging.reading.series_selection import ListedStudy, several_studies


def is_nifti(path: Path) -> bool:
    """Return whether a path is a regular file with a NIfTI extension."""
    return is_nifti_name(path.name) and path.is_file()


def walk(folder: Path) -> Iterator[Path]:
    """Yield NIfTI files below a folder in a stable order; links to folders are not followed."""
    for base, names in bids.walk_folders(folder):
        for name in names:
            path = base / name
            if not name.startswith(".") and is_nifti(path):
                yield path


def _study_of(path: Path, root: Path) -> str:
    """Return the name of a file's study: its BIDS session, else its folder."""
    subject, session = bids.entities(path.name)
    if subject:
        return f"sub-{subject}" + (f"/ses-{session}" if session else "")
    return encodable(path.parent.relative_to(root).as_posix())


def select_study(files: list[Path], root: Path, requested: str | None) -> list[Path]:
    """Return the files of the only study, or of the one that the user selected.

    Files directly in the folder are the study; deeper ones count only if there are none, and each
    of their folders, or BIDS session, is a study.

    Raises
    ------
    SeveralStudiesError
        Several studies and none selected, or none with that name; the error lists them.
    """
    direct = [path for path in files if path.parent == root]
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in direct or files:
        groups[_study_of(path, root)].append(path)
    if requested is not None and requested in groups:
        return groups[requested]
    if len(groups) == 1 and requested in (None, "."):
        return next(iter(groups.values()))
    raise several_studies(
        [
            ListedStudy(
                name,
                kind=StudyKind.NIFTI,
                date="",
                description="",
                series=len(paths),
                images=len(paths),
            )
            for name, paths in groups.items()
        ],
        requested,
    )
