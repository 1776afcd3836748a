"""Read the parts of a result that are scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.evaluation.cases import read_volume
from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files import read_model, read_object
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Label, MrSequence, ReviewState, Source
from lesionlens.base.records.arrays import enhancing_as_core
from lesionlens.base.records.files import ORIGINAL, FindingsFile, RunFile
from lesionlens.base.scan_limits import check_shear
from lesionlens.base.storage import edited_since, finish

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
    finish(folder)
    return any((folder / name).is_file() for name in _RESULT_FILES)


def run_of(result: Path) -> RunFile | None:
    """Return the run.json of a result; None if it is missing or unreadable."""
    try:
        return read_model(result / "run.json", RunFile)
    except (OSError, ValueError, ReadError):
        return None


@dataclass(frozen=True, slots=True, eq=False)
class ScoredResult:
    """A result folder as the network made it: without edits and additions of readers, if known."""

    folder: Path
    run: RunFile | None
    """None if run.json is missing or unreadable."""
    findings: FindingsFile
    labels: NDArray[np.uint8]
    """(I, J, K): without the resection cavity; without T1c nothing is enhancing."""
    ids: NDArray[Any]
    """(I, J, K): id of the candidate at each voxel, 0 elsewhere."""
    grid: Grid
    is_reviewed: bool
    """Whether readers decided on candidates, edited outlines or signed."""
    has_edits: bool
    """Whether readers edited outlines, and the network's own are not kept."""
    changed: tuple[str, ...]
    """Files that were edited since the result was written."""

    @property
    def has_t1c(self) -> bool:
        """Whether T1c was analysed."""
        return MrSequence.T1C in self.findings.sequences

    def volume(self, name: str) -> NDArray[Any]:
        """Return the voxels of one of its NIfTI files, which must lie on the grid of its labels."""
        return _volume_on(self.folder / name, self.grid)


def read_result(folder: Path) -> ScoredResult:
    """Read the parts of a result folder.

    Raises
    ------
    UnscorableError
        A part is missing.
    """
    if folder.is_dir() and not is_result(folder):
        raise UnscorableError("no result: its folder holds none, nor a single segmentation")
    run = run_of(folder)
    network_folder = _network_folder(folder, run)
    voxels, grid = volume_of(network_folder / SEGMENTATION)
    if not set(np.unique(voxels).tolist()) <= set(Label):
        raise UnscorableError(f"{SEGMENTATION} has labels beyond 0 to {max(Label)}")
    try:
        findings = read_model(network_folder / "findings.json", FindingsFile)
    except (OSError, ValueError, ReadError) as error:
        raise UnscorableError("findings.json cannot be read") from error
    keeps_own, events = network_folder != folder, read_object(folder / "review.json").get("events")
    rows, labels = findings.candidates, of_tumour(voxels)
    states = {row.review.state for row in rows}
    added = [] if keeps_own else [row.id for row in rows if row.source is Source.READER]
    if added:
        by_readers = np.isin(_volume_on(folder / "candidates.nii.gz", grid), added)
        labels = np.where(by_readers, 0, labels).astype(np.uint8)
        network_rows = tuple(row for row in rows if row.id not in added)
        findings = findings.model_copy(update={"candidates": network_rows})
    if MrSequence.T1C not in findings.sequences:
        labels = enhancing_as_core(labels)
    return ScoredResult(
        folder,
        run,
        findings,
        labels,
        _volume_on(network_folder / "candidates.nii.gz", grid),
        grid,
        is_reviewed=keeps_own
        or findings.signed is not None
        or bool(states - {ReviewState.UNREVIEWED} or events),
        has_edits=not keeps_own
        and (ReviewState.EDITED in states or any(map(_is_imported_edit, events or ()))),
        changed=tuple(edited_since(folder)),
    )


def _network_folder(result: Path, run: RunFile | None) -> Path:
    """Return the folder of the network's own outlines."""
    listed_files = {row.file for row in (run.files if run else ())}
    edited = (result / ORIGINAL).is_dir() or any(name.startswith(ORIGINAL) for name in listed_files)
    return result / ORIGINAL if edited else result


def _is_imported_edit(event: Any) -> bool:
    """Return whether an event of review.json is an edit of an outline before its import."""
    is_edit = isinstance(event, dict) and event.get("state") == ReviewState.EDITED
    return is_edit and event.get("outline") is None


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


def _volume_on(path: Path, grid: Grid) -> NDArray[Any]:
    """Return the voxels of a result's NIfTI file, which must lie on the grid of its labels."""
    voxels, volume_grid = volume_of(path)
    if not volume_grid.matches(grid, SAME_MM):
        raise UnscorableError(f"{path.name} is not on the grid of {SEGMENTATION}")
    return voxels
