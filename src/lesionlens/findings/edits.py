"""What readers redrew: outlines in the place of the network's, measured anew; the original is kept.

The network's findings are never changed. `applied` returns an analysis as the readers left it,
which keeps the network's own beside it; `unedited` returns that one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Affine, Box, Shape3
from lesionlens.base.labels import MrSequence, Region
from lesionlens.findings import anatomy, pointing_game
from lesionlens.findings.candidates import Context, Evidence, measured_again
from lesionlens.findings.components import ComponentMask, components_of
from lesionlens.records.analysis import Analysis, Original
from lesionlens.records.arrays import Volume
from lesionlens.records.findings import Candidate, Findings
from lesionlens.records.review import Outline

Labels = NDArray[np.uint8]


def unedited(analysis: Analysis) -> Analysis:
    """Return the analysis with what the network drew, and the same review."""
    original = analysis.original
    if original is None:
        return analysis
    volumes = replace(analysis.volumes, labels=original.labels)
    return replace(analysis, volumes=volumes, findings=original.findings, original=None)


def applied(analysis: Analysis) -> Analysis:
    """Return the analysis as the review has it: edited outlines, measured anew.

    Scores and what the sequences contributed stay those of what the network drew, and a notice
    says so. Without an edited outline it is what the network drew.
    """
    own = unedited(analysis)
    drawn = {
        c.id: outline
        for c in own.findings.candidates
        if (outline := own.review.outline_of(c.tracking_uid)) is not None
    }
    if not drawn:
        return own
    labels = own.volumes.labels.data.copy()
    components = own.findings.components.copy()
    for number in drawn:
        labels[components == number] = 0
        components[components == number] = 0
    for number, outline in drawn.items():
        mine = (outline.labels > 0) & (components[outline.box] == 0)
        labels[outline.box][mine] = outline.labels[mine]
        components[outline.box][mine] = number
    volumes = replace(own.volumes, labels=Volume(labels, own.volumes.labels.grid))
    shown = replace(own, volumes=volumes, original=Original(own.volumes.labels, own.findings))
    return replace(shown, findings=_findings(shown, own.findings, components, set(drawn)))


def _findings(
    shown: Analysis, own: Findings, components: NDArray[np.int32], edited: set[int]
) -> Findings:
    """Measure the edited candidates; the others stay as they were found."""
    grid, volumes = shown.volumes.labels.grid, shown.volumes
    marked = ComponentMask(volumes.labels.data, components, len(own.candidates), grid)
    whole = volumes.probability.get(Region.WT)
    attention = volumes.attention.get(Region.WT)
    evidence = Evidence(
        scores=[c.score for c in own.candidates],
        uncertainty=None if volumes.uncertainty is None else volumes.uncertainty.data,
        attention=None if attention is None else attention.data,
    )
    fits = pointing_game.of_components(
        components, marked.count, evidence.attention, marked.grid.spacing_mm
    )
    context = Context(
        whole_tumour=(components > 0).astype(np.float32) if whole is None else whole.data,
        head=anatomy.find_head(shown.prepared.brain, shown.prepared.working),
        has_t1c=bool(shown.prepared.present[list(MrSequence).index(MrSequence.T1C)]),
        identity="",
    )
    found = list(own.candidates)
    for part in components_of(marked):
        if part.index + 1 in edited:
            before = found[part.index]
            found[part.index] = measured_again(before, part, evidence, context, fits[part.index])
    notices = tuple(_notice(own.candidates[number - 1]) for number in sorted(edited))
    return replace(
        own, candidates=tuple(found), components=components, notices=(*own.notices, *notices)
    )


def _notice(own: Candidate) -> str:
    volume = own.volume_ml.get(Region.WT)
    drew = "" if volume is None else f", {volume:.1f} ml"
    return (
        f"Candidate {own.id} was redrawn by a reader: size, place and volumes are of the redrawn "
        f"outline; score and sequences are of what the network drew{drew}"
    )


def outline_of(analysis: Analysis, candidate: Candidate, shown: Labels, drawn: Labels) -> Outline:
    """Bring what a reader drew on the working grid onto the native grid.

    Only voxels that the reader changed are changed, so that showing another grid costs nothing. A
    native voxel takes the change of the working voxel at its centre, else that of any working voxel
    within it: a stroke on one plane of a thick slice changes the slice. What no working voxel shows
    (of a native grid finer than the screen's) goes where nothing is left beside it.

    Parameters
    ----------
    analysis : Analysis
        As it is shown.
    candidate : Candidate
        Whose outline it is; voxels of others are left alone.
    shown, drawn : (I, J, K) uint8
        Labels of the candidate on the working grid, before and after.

    Returns
    -------
    Outline

    Raises
    ------
    UnusableInputError
        Nothing of the candidate is left.
    """
    box = _reach(analysis, candidate.id, (shown > 0) | (drawn > 0))
    components = analysis.findings.components[box]
    labels = np.where(components == candidate.id, analysis.volumes.labels.data[box], np.uint8(0))
    first = np.array([side.start for side in box])
    painted = _strokes(labels, first, shown, drawn, analysis.prepared.to_native)
    before, after = (
        _at_centres(grid, first, labels.shape, analysis.prepared.to_native)
        for grid in (shown, drawn)
    )
    labels = np.where(before == after, labels, after)
    unseen = (labels > 0) & (after == 0) & ~painted
    near = ndimage.binary_dilation((labels > 0) & ~unseen, np.ones((3, 3, 3)))
    labels[unseen & ~near] = 0
    labels[(components > 0) & (components != candidate.id)] = 0
    return _cut(candidate.tracking_uid, labels, first)


def _reach(analysis: Analysis, number: int, drawn: NDArray[np.bool_]) -> Box:
    """Return the native box that holds a candidate and all that was drawn, and a voxel more."""
    own = ndimage.find_objects(analysis.findings.components, number)[number - 1]
    ends = [np.array([(side.start, side.stop - 1) for side in own], dtype=np.float64).T]
    places = np.argwhere(drawn)
    if places.size:
        span = np.stack([places.min(axis=0), places.max(axis=0)])
        corners = [[span[a, 0], span[b, 1], span[c, 2]] for a, b, c in np.ndindex(2, 2, 2)]
        ends.append(geometry.apply(analysis.prepared.to_native, corners))
    reached = np.concatenate(ends)
    low = np.maximum(np.floor(reached.min(axis=0)) - 1, 0).astype(int)
    high = np.minimum(np.ceil(reached.max(axis=0)) + 2, analysis.findings.components.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _strokes(
    labels: Labels, first: NDArray[np.intp], shown: Labels, drawn: Labels, to_native: Affine
) -> NDArray[np.bool_]:
    """Give the native voxel of each changed working voxel its label; return which were painted."""
    places = np.argwhere(shown != drawn)
    wanted = drawn[tuple(places.T)]
    at = np.rint(geometry.apply(to_native, places)).astype(np.intp) - first
    there = ((at >= 0) & (at < np.array(labels.shape))).all(axis=1)
    painted = np.zeros(labels.shape, dtype=bool)
    for erased in (True, False):
        chosen = tuple(at[there & ((wanted == 0) == erased)].T)
        labels[chosen] = wanted[there & ((wanted == 0) == erased)]
        painted[chosen] = not erased
    return painted


def _at_centres(
    working: Labels, first: NDArray[np.intp], shape: Shape3, to_native: Affine
) -> Labels:
    """Look labels on the working grid up at the centre of each native voxel of a box."""
    back = np.asarray(np.linalg.inv(to_native), dtype=np.float64)
    back[:3, 3] += back[:3, :3] @ first
    found: Labels = ndimage.affine_transform(
        working, back[:3, :3], back[:3, 3], output_shape=shape, order=0, mode="constant"
    )
    return found


def _cut(tracking_uid: str, labels: Labels, first: NDArray[np.intp]) -> Outline:
    boxes = ndimage.find_objects((labels > 0).astype(np.uint8))
    if not boxes:
        raise UnusableInputError(
            found="an outline from which everything was erased",
            expected="at least one voxel of the candidate",
            next_step="Discard the edit, and reject the candidate if there is nothing",
        )
    i, j, k = (int(side.start + start) for side, start in zip(boxes[0], first, strict=True))
    return Outline(tracking_uid, (i, j, k), labels[boxes[0]].copy())
