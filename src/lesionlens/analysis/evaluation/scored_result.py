"""Read the parts of a result that are scored; each function raises UnscorableError if it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.cases import read_volume
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import read_model, read_object
from lesionlens.base.files.journal import recover
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, ReviewState, Source
from lesionlens.base.records.files import FindingsFile, RunFile
from lesionlens.base.records.parts import MAPS, MEASURED, ORIGINAL, AlteredResultError, check_parts
from lesionlens.base.scan_limits import check_shear

SEGMENTATION = "segmentation.nii.gz"
_RESULT_FILES = ("findings.json", "run.json")
SAME_MM = 2e-3
"""Tolerance within which two grids are the same."""


class UnscorableError(Exception):
    """A result cannot be scored; the message states the reason."""


def is_result(folder: Path) -> bool:
    """Return whether a folder holds a result written by `analyze`, complete or not.

    An interrupted replacement of the folder is completed or reverted first.
    """
    recover(folder)
    return any((folder / name).is_file() for name in _RESULT_FILES)


def run_of(result: Path) -> RunFile | None:
    """Return the run.json of a result; None if it is missing or unreadable."""
    try:
        return read_model(result / "run.json", RunFile)
    except (OSError, ValueError, ReadError):
        return None


def checked_folder(result: Path, run: RunFile | None) -> Path:
    """Return the folder of the network's own outlines, after a check of the files' digests."""
    listed_files = {row.file for row in (run and run.files) or ()}
    edited = (result / ORIGINAL).is_dir() or any(name.startswith(ORIGINAL) for name in listed_files)
    folder = result / ORIGINAL if edited else result
    if run is None or run.files is None:
        return folder
    try:
        check_parts(result, run, (*MEASURED, *MAPS))
    except AlteredResultError as error:
        names = ", ".join(error.names)
        raise UnscorableError(f"changed since the result was written: {names}") from error
    except ReadError as error:
        raise UnscorableError(f"run.json cannot be read: {error.found}") from error
    return folder


def is_reviewed(result: Path, network_folder: Path, findings: FindingsFile) -> bool:
    """Return whether readers decided on candidates, edited outlines or signed."""
    if network_folder != result or findings.signed is not None:
        return True
    decided = any(row.review.state is not ReviewState.UNREVIEWED for row in findings.candidates)
    return decided or bool(read_object(result / "review.json").get("events"))


def _is_imported_edit(event: Any) -> bool:
    """Return whether an event of review.json is an edit of an outline before its import."""
    is_edit = isinstance(event, dict) and event.get("state") == ReviewState.EDITED
    return is_edit and event.get("outline") is None


def without_additions(
    score: CaseScore, result: Path, labels: NDArray[np.uint8], grid: Grid, findings: FindingsFile
) -> tuple[NDArray[np.uint8], FindingsFile]:
    """Omit readers' additions of a result without the outlines of the network.

    Such a result was converted from DICOM objects; readers' edits in it cannot be identified.
    """
    rows = findings.candidates
    edited = any(row.review.state is ReviewState.EDITED for row in rows)
    if edited or any(map(_is_imported_edit, read_object(result / "review.json").get("events", ()))):
        score.problems.append("readers edited outlines, and the network's own are not kept")
    added = [row.id for row in rows if row.source is Source.READER]
    if not added:
        return labels, findings
    by_readers = np.isin(volume_on(result / "candidates.nii.gz", grid), added)
    network_rows = tuple(row for row in rows if row.id not in added)
    return np.where(by_readers, 0, labels).astype(np.uint8), findings.model_copy(
        update={"candidates": network_rows}
    )


def labels_of(result: Path) -> tuple[NDArray[np.uint8], Grid]:
    """Return the labels of a result, (I, J, K), without the cavity, and their grid."""
    voxels, grid = volume_of(result / SEGMENTATION)
    if not set(np.unique(voxels).tolist()) <= set(Label):
        raise UnscorableError(f"{SEGMENTATION} has labels beyond 0 to {max(Label)}")
    return of_tumour(voxels), grid


def of_tumour(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return labels without the resection cavity, which is not scored."""
    return np.where(labels == Label.CAVITY, 0, labels).astype(np.uint8)


def volume_of(path: Path) -> tuple[NDArray[Any], Grid]:
    """Return the voxels of a result's NIfTI file, (I, J, K), and their grid."""
    if not path.is_file():
        raise UnscorableError(f"no result: {path.name} is missing")
    try:
        voxels, header = read_volume(path)
        check_shear(header.grid, path.name)
    except UnusableInputError as error:
        raise UnscorableError(f"{path.name} cannot be used: {error.found}") from error
    return voxels, header.grid


def volume_on(path: Path, grid: Grid) -> NDArray[Any]:
    """Return the voxels of a result's NIfTI file, which must lie on the grid of its labels."""
    voxels, volume_grid = volume_of(path)
    if not volume_grid.matches(grid, SAME_MM):
        raise UnscorableError(f"{path.name} is not on the grid of {SEGMENTATION}")
    return voxels


def findings_of(result: Path) -> FindingsFile:
    """Return the findings.json of a result."""
    try:
        return read_model(result / "findings.json", FindingsFile)
    except (OSError, ValueError, ReadError) as error:
        raise UnscorableError("findings.json cannot be read") from error
