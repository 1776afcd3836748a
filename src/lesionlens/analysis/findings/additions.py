"""Outlines of candidates that a reader adds, merges or splits, on the native grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.edit_tools import tissue_of
from lesionlens.analysis.findings.edits import Labels, outline_of
from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Box, clipped_box
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import Candidate, DoubtfulPart, Point
from lesionlens.base.records.review import Outline
from lesionlens.engines.grow import REACH_MM, Surroundings, grown
from lesionlens.imaging.preparation.resampling import cut_grid, resample


def grow_at(analysis: Analysis, point_mm: Point, shown: MrSequence | None = None) -> Labels:
    """Grow a region from a reader's point.

    Parameters
    ----------
    analysis : Analysis
        Current state; existing candidates are not changed.
    point_mm : (3,)
        RAS+ mm.

    Returns
    -------
    (I, J, K) uint8
        Labels on the working grid.

    Raises
    ------
    UnusableInputError
        See `grow.grown`.
    """
    working = analysis.prepared.working
    seed = working.nearest_voxel(point_mm)
    reach = np.ceil(REACH_MM / working.spacing_mm) + 1
    near = working.nearest_voxel(point_mm, clip=True)  # no box lies around a point outside
    box = clipped_box(near - reach, near + reach, working.shape)
    start = np.array([side.start for side in box])
    i, j, k = (seed - start).tolist()
    found = np.zeros(working.shape, np.uint8)
    found[box] = grown(surroundings_of(analysis, box, shown), (i, j, k))
    return found


def surroundings_of(analysis: Analysis, box: Box, shown: MrSequence | None = None) -> Surroundings:
    """Return images and predictions within a box of the working grid."""
    prepared, volumes = analysis.prepared, analysis.volumes
    grid = cut_grid(prepared.working, box)

    def here(volume: Volume) -> NDArray[np.float32]:
        return resample(np.asarray(volume.data, np.float32), volume.grid, grid)

    taken = (analysis.findings.components > 0).astype(np.float32)
    free = resample(taken, prepared.native, grid, nearest=True) == 0
    whole = volumes.attention.get(Region.WT)
    return Surroundings(
        images={sequence: image[box] for sequence, image in prepared.images.items()},
        allowed=free & tissue_of(prepared.channels, prepared.present, prepared.brain)[box],
        spacing_mm=grid.spacing_mm,
        probability={region: here(volume) for region, volume in volumes.probability.items()},
        attention=None if whole is None else here(whole),
        shown=shown,
    )


def merged(analysis: Analysis, into: Candidate, other: Candidate) -> tuple[Outline, Outline]:
    """Return the outlines of two merged candidates: the union, and an empty one.

    Parameters
    ----------
    analysis : Analysis
        As it is shown.
    into, other : Candidate
        The one that is kept, and the one merged into it.
    """
    components = analysis.findings.components
    both = (components == into.id) | (components == other.id)
    joined = _cropped(into.tracking_uid, both, analysis.volumes.labels.data)
    return joined, Outline.empty(other.tracking_uid)


def without_doubtful(analysis: Analysis, part: DoubtfulPart) -> Outline:
    """Return a candidate's outline without one of its doubtful parts.

    Parameters
    ----------
    analysis : Analysis
        As it is shown.
    part : DoubtfulPart
        A doubtful part; the candidate keeps the remainder, which may be empty.
    """
    candidate = next(c for c in analysis.findings.candidates if c.id == part.candidate)
    rest = analysis.findings.components == part.candidate
    if analysis.volumes.doubtful is not None:
        rest &= analysis.volumes.doubtful.data != part.number
    return _cropped(candidate.tracking_uid, rest, analysis.volumes.labels.data)


def with_part(
    analysis: Analysis, uid: str, part: NDArray[np.bool_], labels: NDArray[np.uint8]
) -> Outline:
    """Return a candidate's outline, existing or new, with voxels copied from another result.

    Parameters
    ----------
    analysis : Analysis
        Current state; other candidates keep their voxels.
    uid : str
        Tracking UID of the candidate.
    part : (I, J, K) bool
        Voxels to copy, on the native grid.
    labels : (I, J, K) uint8
        Labels to copy; 0 removes voxels.
    """
    known = {c.tracking_uid: c.id for c in analysis.findings.candidates}
    components = analysis.findings.components
    mine = (components > 0) & (components == known.get(uid, 0))
    drawn = np.where(mine, analysis.volumes.labels.data, np.uint8(0))
    free = part & (mine | (components == 0))
    drawn = np.where(free, labels, drawn)
    return _cropped(uid, drawn > 0, drawn)


def _cropped(uid: str, inside: NDArray[np.bool_], labels: NDArray[np.uint8]) -> Outline:
    """Return the labels within a mask as an outline; may be empty."""
    box = geometry.bounding_box(inside)
    if box is None:
        return Outline.empty(uid)
    i, j, k = (int(side.start) for side in box)
    return Outline(uid, (i, j, k), np.where(inside[box], labels[box], np.uint8(0)))


def halves(
    analysis: Analysis, candidate: Candidate, second_uid: str, sides: tuple[Labels, Labels, Labels]
) -> tuple[Outline, Outline]:
    """Return the outlines of the two halves of a split candidate, which lose none of its voxels.

    Parameters
    ----------
    analysis : Analysis
        As it is shown.
    candidate : Candidate
        Keeps the first half.
    second_uid : str
        Tracking UID of the second half, which is new.
    sides : three (I, J, K) uint8
        On the working grid: its current labels, and those of each half.

    Raises
    ------
    UnusableInputError
        A half is empty on the native grid.
    """
    shown, first, second = sides
    whole = outline_of(analysis, candidate, shown, np.maximum(first, second))
    kept = outline_of(analysis, candidate, shown, first)
    labels = np.zeros(analysis.findings.components.shape, np.uint8)
    labels[whole.box] = whole.labels
    labels[kept.box] = np.where(kept.labels > 0, np.uint8(0), labels[kept.box])
    rest = _cropped(second_uid, labels > 0, labels)
    if rest.is_empty:
        raise UnusableInputError(
            found="a half that has no voxel of the scan",
            expected="two halves with at least one voxel each",
            next_step="Split the outline elsewhere",
        )
    return kept, rest
