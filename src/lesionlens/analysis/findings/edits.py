"""Apply readers' edits: measure edited outlines again, and keep the network's own.

The network's findings are never changed. `applied` returns the edited analysis, which keeps the
network's as `original`; `unedited` returns that one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings import anatomy, pointing_game
from lesionlens.analysis.findings.candidates import (
    NO_PEAK,
    Context,
    Evidence,
    added_candidate,
    remeasured,
)
from lesionlens.analysis.findings.components import ComponentMask, components_of
from lesionlens.analysis.findings.doubtful import remaining_parts
from lesionlens.analysis.findings.kinds import with_kinds
from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import TOUCHING, Affine, Box, Shape3
from lesionlens.base.labels import Label, Region, ReviewState, Source
from lesionlens.base.records.analysis import Analysis, Original
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import rounded, rounded_parts
from lesionlens.base.records.findings import Candidate, Findings, conclusion_of
from lesionlens.base.records.review import CAVITY, Outline, Review
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.text import millilitres

Labels = NDArray[np.uint8]
_TIE = 1e-6
"""Voxels by which a position midway between two is moved: numerical noise would choose."""
_ADDED = (
    "What a reader added has no score, and no sequence's share in it: the network did not flag it"
)
_NO_PLACE = (
    "Where a redrawn or added outline lies is not named: the brain of the reopened study was not "
    "outlined"
)


_REDRAWN = re.compile(r"Candidate \d+ was redrawn by a reader: ")


def is_of_edits(notice: str) -> bool:
    """Return whether a notice is of outlines by readers, which `applied` adds as they are now."""
    return notice in (_ADDED, _NO_PLACE) or _REDRAWN.match(notice) is not None


def unedited(analysis: Analysis) -> Analysis:
    """Return the analysis with the network's outlines, and the same review."""
    original = analysis.original
    if original is None:
        return analysis
    volumes = replace(
        analysis.volumes,
        labels=original.labels,
        cavity=original.cavity,
        doubtful=original.doubtful,
    )
    return replace(analysis, volumes=volumes, findings=original.findings, original=None)


def applied(analysis: Analysis) -> Analysis:
    """Return the analysis with the review's edited and added outlines, measured again.

    Scores and sequence contributions remain those of the network's outline, with a notice; added
    candidates have none. A candidate with an empty outline was merged into another one.
    """
    own = unedited(analysis)
    return _with_diameters(_redrawn(own), own)


def _with_diameters(shown: Analysis, own: Analysis) -> Analysis:
    """Return a copy with the diameters that readers placed."""
    review, findings = shown.review, shown.findings
    lengths = {
        c.id: [float(np.linalg.norm(np.subtract(*line))) for line in ends]
        for c in findings.candidates
        if (ends := review.diameters_of(c.tracking_uid))
    }
    if not lengths:
        return shown
    candidates = tuple(
        rounded(c.with_diameters(*lengths[c.id])) if c.id in lengths else c
        for c in findings.candidates
    )
    original = shown.original or _original(own)
    return replace(shown, findings=replace(findings, candidates=candidates), original=original)


def _redrawn(own: Analysis) -> Analysis:
    numbers, outlined = _numbers(own), own.review.outlined
    drawn, covered = _uncovered(own, {numbers[u]: o for u, o in outlined.items() if u in numbers})
    if CAVITY in outlined:
        grid = own.volumes.labels.grid
        cavity = Volume(outlined[CAVITY].mask(grid.shape), grid)
        volumes = replace(own.volumes, cavity=cavity)
        own = replace(own, volumes=volumes, original=_original(own))
    if not drawn:
        return replace(own, findings=_noticed(own.findings, covered)) if covered else own
    labels = own.volumes.labels.data.copy()
    components = own.findings.components.copy()
    mine = np.isin(components, list(drawn))
    labels[mine] = components[mine] = 0
    for number, outline in drawn.items():
        mine = (outline.labels > 0) & (components[outline.box] == 0)
        labels[outline.box][mine] = outline.labels[mine]
        components[outline.box][mine] = number
    volumes = replace(own.volumes, labels=Volume(labels, own.volumes.labels.grid))
    shown = replace(own, volumes=volumes, original=own.original or _original(own))
    found = _noticed(_findings(shown, own.findings, components, drawn), covered)
    return _with_doubts(replace(shown, findings=found))


def _noticed(found: Findings, notices: tuple[str, ...]) -> Findings:
    return replace(found, notices=tuple(dict.fromkeys((*found.notices, *notices))))


def _uncovered(
    own: Analysis, drawn: Mapping[int, Outline]
) -> tuple[dict[int, Outline], tuple[str, ...]]:
    """Return the outlines without those that lie wholly in others, and notices of what does.

    No edit takes voxels of other candidates; but a later analysis may find what a reader had drawn.
    """
    found = own.findings
    kept, notices, known = dict(drawn), list[str](), {c.id for c in found.candidates}
    while True:
        lost = {n: _covered(outline, found.components, kept) for n, outline in kept.items()}
        wholly = [n for n in lost if lost[n] and lost[n] == np.count_nonzero(kept[n].labels)]
        if not wholly:
            break
        for number in wholly:
            del kept[number]
            notices.append(
                f"Candidate {number} keeps the outline of this analysis: the one that a reader "
                "drew lies wholly in other candidates"
                if number in known
                else "A lesion that a reader added lies wholly in other candidates of this "
                "analysis: it is not listed by itself"
            )
    notices += [
        f"{millilitres(count * own.volumes.labels.grid.voxel_ml)} ml of the outline that a reader "
        f"drew of candidate {number} lie in other candidates of this analysis, and count there"
        for number, count in lost.items()
        if count
    ]
    return kept, tuple(notices)


def _covered(outline: Outline, components: NDArray[np.int32], drawn: Mapping[int, Outline]) -> int:
    """Count the voxels of an outline that lie in candidates that nobody redrew."""
    there = components[outline.box]
    others = (there > 0) & ~np.isin(there, list(drawn))
    return int(np.count_nonzero(others & (outline.labels > 0)))


def _with_doubts(shown: Analysis) -> Analysis:
    """Return a copy with the doubtful parts of the edited outlines."""
    volumes, findings = shown.volumes, shown.findings
    if volumes.doubtful is None or not findings.doubtful:
        return shown
    grid, unsure = volumes.doubtful.grid, volumes.uncertainty
    parts, numbers = remaining_parts(
        findings.doubtful,
        volumes.doubtful.data,
        findings.components,
        None if unsure is None else unsure.data,
        grid,
    )
    return replace(
        shown,
        volumes=replace(volumes, doubtful=Volume(numbers, grid) if parts else None),
        findings=replace(findings, doubtful=rounded_parts(parts)),
    )


def _original(own: Analysis) -> Original:
    volumes = own.volumes
    return Original(volumes.labels, own.findings, volumes.cavity, volumes.doubtful)


def _numbers(own: Analysis) -> dict[str, int]:
    """Return the id of each candidate by its UID: the network's own, then the added ones."""
    numbers = {c.tracking_uid: c.id for c in own.findings.candidates}
    highest = max(numbers.values(), default=0)
    added = [u for u in own.review.added if u not in numbers and u in own.review.outlined]
    return numbers | {uid: highest + place for place, uid in enumerate(added, 1)}


def _findings(
    shown: Analysis, own: Findings, components: NDArray[np.int32], drawn: Mapping[int, Outline]
) -> Findings:
    """Measure edited outlines; other candidates are unchanged."""
    grid, volumes = shown.volumes.labels.grid, shown.volumes
    before = {c.id: c for c in own.candidates}
    count = max((*before, *drawn))
    marked = ComponentMask(volumes.labels.data, components, count, grid)
    evidence, context = _evidence(shown, before, count), _context(shown)
    fits = pointing_game.of_components(components, count, evidence.attention, grid.spacing_mm)
    gone = {number for number, outline in drawn.items() if outline.is_empty}
    found = {number: c for number, c in before.items() if number not in gone}
    for part in components_of(marked):
        number, fit = part.index + 1, fits[part.index]
        if number in drawn and number in before:
            found[number] = remeasured(before[number], part, evidence, context, fit)
        elif number in drawn:
            uid = drawn[number].tracking_uid
            how = shown.review.added[uid]
            found[number] = added_candidate(uid, how, part, evidence, context, fit)
    notices = tuple(
        _notice(before[n], shown.review) for n in sorted(set(drawn) & set(before) - gone)
    )
    only = set(drawn) - gone
    named = with_kinds(
        tuple(found[number] for number in sorted(found)),
        components,
        shown.prepared,
        context.head,
        only,
    )
    candidates = tuple(rounded(c) if c.id in only else c for c in named)
    readers = sum(c.source is Source.READER for c in candidates)
    if readers > sum(c.source is Source.READER for c in before.values()):
        notices = (*notices, _ADDED)
    if context.head is None and drawn:
        notices = (*notices, _NO_PLACE)
    if context.whole_tumour is None and drawn and NO_PEAK not in own.notices:
        notices = (*notices, NO_PEAK)
    return replace(
        own,
        candidates=candidates,
        components=components,
        conclusion=conclusion_of(candidates),
        notices=(*own.notices, *notices),
    )


def _evidence(shown: Analysis, before: Mapping[int, Candidate], count: int) -> Evidence:
    volumes = shown.volumes
    attention = volumes.attention.get(Region.WT)
    return Evidence(
        scores=[before[n].score if n in before else None for n in range(1, count + 1)],
        uncertainty=None if volumes.uncertainty is None else volumes.uncertainty.data,
        attention=None if attention is None else attention.data,
    )


def _context(shown: Analysis) -> Context:
    whole = shown.volumes.probability.get(Region.WT)
    return Context(
        whole_tumour=None if whole is None else whole.data,
        head=anatomy.head_of(shown.prepared),
        has_t1c=shown.prepared.has_t1c,
        identity="",
    )


def _notice(own: Candidate, review: Review) -> str:
    volume = own.volume_ml.get(Region.WT)
    drew = "" if volume is None else f", {millilitres(volume)} ml"
    if own.source is not Source.NETWORK:
        return (
            f"Candidate {own.id} was redrawn by a reader: size, place and volumes are of the "
            f"redrawn outline, not of the one that was opened{drew}"
        )
    mine = (e for e in review.events if e.tracking_uid == own.tracking_uid)
    if any(e.state is ReviewState.EDITED and e.outline is None for e in mine):
        drew = ""  # a reader had edited what came from an archive
    return (
        f"Candidate {own.id} was redrawn by a reader: size, place and volumes are of the redrawn "
        f"outline; score and sequences are of what the network drew{drew}"
    )


def outline_of(
    analysis: Analysis, candidate: Candidate | str, shown: Labels, drawn: Labels
) -> Outline:
    """Transfer a reader's edit on the working grid to the native grid.

    Only voxels that the reader changed are changed, so that displaying another grid has no effect.
    A native voxel takes the change of the working voxel at its centre. Where a change reaches the
    centre of no slice, it takes that of any working voxel within it: a stroke on one plane of a
    thick slice changes the slice, and an outline through several slices keeps its volume. Native
    voxels without a working voxel (if the native grid is finer) are removed if no neighbour is
    left.

    Parameters
    ----------
    analysis : Analysis
        As it is shown.
    candidate : Candidate or str
        The edited candidate, the tracking UID of a new one, or `CAVITY`; voxels of other candidates
        are not changed.
    shown, drawn : (I, J, K) uint8
        Labels of the candidate on the working grid, before and after.

    Raises
    ------
    UnusableInputError
        The outline of a candidate is empty.
    """
    uid = candidate if isinstance(candidate, str) else candidate.tracking_uid
    every, components = analysis.volumes.all_labels.data, analysis.findings.components
    if isinstance(candidate, Candidate):
        mine = components == candidate.id
    else:
        mine = (every == Label.CAVITY) & (uid == CAVITY)
    box = _reach(analysis, mine, (shown > 0) | (drawn > 0))
    mine, others = mine[box], (components[box] > 0) & ~mine[box]
    labels = np.where(mine, every[box], np.uint8(0))
    first = np.array([side.start for side in box])
    painted = _strokes(labels, first, shown, drawn, analysis.prepared)
    before, after = (
        _at_centres(grid, first, labels.shape, analysis.prepared.to_native)
        for grid in (shown, drawn)
    )
    labels = np.where(before == after, labels, after)
    unseen = (labels > 0) & (after == 0) & ~painted
    near = ndimage.binary_dilation((labels > 0) & ~unseen, TOUCHING)
    labels[unseen & ~near] = 0
    labels[others] = 0
    return _cut(uid, labels, first)


def _reach(analysis: Analysis, mine: NDArray[np.bool_], drawn: NDArray[np.bool_]) -> Box:
    """Return the native box around an outline and all edits, with a margin of one voxel."""
    ends = []
    known = geometry.bounding_box(mine)
    if known is not None:
        ends.append(np.array([(side.start, side.stop - 1) for side in known], dtype=np.float64).T)
    places = np.argwhere(drawn)
    if places.size:
        corners = geometry.corners(places.min(axis=0), places.max(axis=0))
        ends.append(geometry.apply(analysis.prepared.to_native, corners))
    if not ends:
        raise _nothing_left()
    reached = np.concatenate(ends)
    low, high = np.floor(reached.min(axis=0)) - 1, np.ceil(reached.max(axis=0)) + 1
    return geometry.clipped_box(low, high, analysis.findings.components.shape)


def _strokes(
    labels: Labels, first: NDArray[np.intp], shown: Labels, drawn: Labels, prepared: PreparedStudy
) -> NDArray[np.bool_]:
    """Return the native voxels of changed working voxels that no centre represents, (I, J, K).

    Midway between two native voxels it is the same one however the scan is stored.
    """
    to_own = prepared.native.ras_order()
    to_ras = np.asarray(np.linalg.inv(to_own)) @ prepared.to_native
    across = _through_slices(prepared)
    painted = np.zeros(labels.shape, dtype=bool)
    for erased in (True, False):
        changed = (shown != drawn) & ((drawn == 0) == erased)
        places = np.argwhere(changed)
        at = geometry.nearest(to_own, geometry.nearest(to_ras, places)) - first
        there = ((at >= 0) & (at < np.array(labels.shape))).all(axis=1)
        places, at = places[there], at[there]
        painted[tuple(at.T)] = not erased
        centred = _at_centres(changed.astype(np.uint8), first, labels.shape, prepared.to_native) > 0
        runs = _runs(changed, across)[tuple(places.T)]
        alone = ~np.isin(runs, runs[centred[tuple(at.T)]])
        labels[tuple(at[alone].T)] = drawn[tuple(places[alone].T)]
    return painted


def _through_slices(prepared: PreparedStudy) -> int:
    """Return the working axis nearest to the longest native voxel edge; of equal ones the first."""
    nearest = np.abs(np.linalg.inv(prepared.to_native)[:3, :3]).argmax(axis=0)
    edges_mm = np.zeros(3)
    np.maximum.at(edges_mm, nearest, np.round(prepared.native.spacing_mm, 3))
    return int(edges_mm.argmax())


def _runs(mask: NDArray[np.bool_], axis: int) -> NDArray[np.int32]:
    """Return the number of the run along an axis that each voxel of a mask is in, from 1."""
    along = np.zeros((3, 3, 3), bool)
    along[tuple(slice(None) if one == axis else 1 for one in range(3))] = True
    numbers: NDArray[np.int32] = ndimage.label(mask, along)[0]
    return numbers


def _at_centres(
    working: Labels, first: NDArray[np.intp], shape: Shape3, to_native: Affine
) -> Labels:
    """Sample working-grid labels at the centre of each native voxel of a box."""
    back = np.asarray(np.linalg.inv(to_native), dtype=np.float64)
    back[:3, 3] += back[:3, :3] @ first + _TIE
    found: Labels = ndimage.affine_transform(
        working, back[:3, :3], back[:3, 3], output_shape=shape, order=0, mode="constant"
    )
    return found


def _cut(tracking_uid: str, labels: Labels, first: NDArray[np.intp]) -> Outline:
    box = geometry.bounding_box(labels > 0)
    if box is None and tracking_uid == CAVITY:
        return Outline.empty(CAVITY)
    if box is None:
        raise _nothing_left()
    i, j, k = (int(side.start + start) for side, start in zip(box, first, strict=True))
    return Outline(tracking_uid, (i, j, k), labels[box].copy())


def _nothing_left() -> UnusableInputError:
    return UnusableInputError(
        found="an outline from which everything was erased, or that lies in others alone",
        expected="at least one voxel of the candidate",
        next_step="Discard the edit, and reject the candidate if there is nothing",
    )
