"""Apply readers' edits: measure edited outlines again, and keep the network's own.

The network's findings are never changed: `applied` returns an edited copy of the analysis, which
keeps them as `Analysis.original`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings import anatomy
from lesionlens.analysis.findings.candidates import (
    NO_PEAK,
    Evidence,
    limit_notices,
    measured_components,
    remeasured,
    without_unknown_parts,
)
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.analysis.findings.placed_outlines import place_outlines
from lesionlens.analysis.findings.thin_parts import (
    TIE_BREAK_VOX,
    paint_thin_parts,
    thin_parts,
    through_slices,
)
from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import TOUCHING, Affine, Box, Floats, Labels, Mask, Shape3
from lesionlens.base.labels import Label, Region, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import rounded
from lesionlens.base.records.findings import Candidate, Findings, conclusion_of
from lesionlens.base.records.review import CAVITY, Outline, Review
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.text import millilitres

_ADDED_NOTICE = (
    "A region that a reader added has no score and no contributions of the sequences: the "
    "network did not flag it"
)
_NO_LOCATION_NOTICE = (
    "The location of a redrawn or added outline is not named: the brain of the reopened study "
    "was not segmented"
)


_REDRAWN_NOTICE = re.compile(
    r"Candidate \d+ was redrawn by a reader: "
    r"|Candidate \d+ keeps the outline of this analysis: "
    r"|A lesion that a reader added lies entirely within other candidates "
    r"|<?[\d.]+ ml of the outline that a reader drew of candidate \d+ lie in other candidates "
    r"|What a reader added has no score, |Where a redrawn or added outline lies "
)
"""Notices about readers' outlines; the last two are those of earlier versions."""


def is_of_edits(notice: str) -> bool:
    """Return whether a notice is about readers' outlines; `applied` adds the current ones."""
    if notice in (_ADDED_NOTICE, _NO_LOCATION_NOTICE):
        return True
    return _REDRAWN_NOTICE.match(notice) is not None


def without_edits(analysis: Analysis) -> Analysis:
    """Return the analysis with the network's outlines, and the same review."""
    original = analysis.original
    if original is None:
        return analysis
    volumes = replace(analysis.volumes, labels=original.labels, cavity=original.cavity)
    return replace(analysis, volumes=volumes, findings=original.findings, original=None)


def applied(analysis: Analysis) -> Analysis:
    """Return the analysis with the review's edited and added outlines, measured again.

    Scores and sequence contributions remain those of the network's outline, with a notice; added
    candidates have none. A candidate with an empty outline was merged into another one.
    """
    network_analysis = without_edits(analysis)
    return _with_diameters(_with_outlines(network_analysis), network_analysis)


def _with_diameters(edited: Analysis, network_analysis: Analysis) -> Analysis:
    """Return a copy with the diameters that readers placed."""
    review, findings = edited.review, edited.findings
    lengths_mm = {
        c.id: [float(np.linalg.norm(np.subtract(*line))) for line in lines]
        for c in findings.candidates
        if (lines := review.diameters_of(c.tracking_uid))
    }
    if not lengths_mm:
        return edited
    candidates = tuple(
        rounded(c.with_diameters(*lengths_mm[c.id])) if c.id in lengths_mm else c
        for c in findings.candidates
    )
    original = edited.original or network_analysis.network
    return replace(edited, findings=replace(findings, candidates=candidates), original=original)


def _with_outlines(analysis: Analysis) -> Analysis:
    outlines, grid = analysis.review.outlined, analysis.volumes.labels.grid
    placed = place_outlines(
        analysis.findings, analysis.volumes.labels, analysis.review, analysis.run.omitted
    )
    if CAVITY in outlines:
        cavity = Volume(outlines[CAVITY].mask(grid.shape), grid)
        volumes = replace(analysis.volumes, cavity=cavity)
        analysis = replace(analysis, volumes=volumes, original=analysis.network)
    notices = (*_imported_notices(analysis), *placed.notices)
    if not placed.outline_by_id:
        if not notices:
            return analysis
        return replace(analysis, findings=_with_notices(analysis.findings, notices))
    volumes = replace(analysis.volumes, labels=Volume(placed.labels, grid))
    edited = replace(analysis, volumes=volumes, original=analysis.network)
    findings = _findings(edited, analysis.findings, placed.components, placed.outline_by_id)
    return replace(edited, findings=_with_notices(findings, notices))


def _imported_notices(analysis: Analysis) -> list[str]:
    """Return notices about outlines that readers redrew before they were imported."""
    review = analysis.review
    return [
        _redrawn_notice(candidate, review)
        for candidate in analysis.findings.candidates
        if review.is_redrawn(candidate.tracking_uid)
        and review.outline_of(candidate.tracking_uid) is None
    ]


def _with_notices(findings: Findings, notices: tuple[str, ...]) -> Findings:
    return replace(findings, notices=tuple(dict.fromkeys((*findings.notices, *notices))))


def _findings(
    analysis: Analysis,
    network_findings: Findings,
    components: NDArray[np.int32],
    outline_by_id: Mapping[int, Outline],
) -> Findings:
    """Measure edited outlines; other candidates are unchanged."""
    network_candidates = {c.id: c for c in network_findings.candidates}
    count = max((*network_candidates, *outline_by_id))
    evidence = _evidence(analysis, network_candidates, count)
    labels, prepared = analysis.volumes.labels, analysis.prepared
    component_mask = ComponentMask(labels.data, components, count, labels.grid)
    emptied = {number for number, outline in outline_by_id.items() if outline.is_empty}
    measured = {number: c for number, c in network_candidates.items() if number not in emptied}
    for part, candidate in measured_components(component_mask, evidence, prepared, outline_by_id):
        number = candidate.id
        if number in network_candidates:
            measured[number] = remeasured(network_candidates[number], candidate, part)
            continue
        uid = outline_by_id[number].tracking_uid
        method = analysis.review.added[uid]
        added = replace(candidate, tracking_uid=uid, source=Source.READER, drawn=method)
        origin = network_findings.candidate_of(analysis.review.split_from(uid))
        measured[number] = added if origin is None else without_unknown_parts(added, part, origin)
    edited_ids = set(outline_by_id) - emptied
    described = (measured[number] for number in sorted(measured))
    candidates = tuple(rounded(c) if c.id in edited_ids else c for c in described)
    redrawn = [network_candidates[n] for n in sorted(edited_ids & set(network_candidates))]
    notices = (
        *(_redrawn_notice(candidate, analysis.review) for candidate in redrawn),
        *_limit_notices(network_findings, candidates, evidence, prepared),
    )
    return replace(
        network_findings,
        candidates=candidates,
        components=components,
        conclusion=conclusion_of(candidates),
        notices=(*network_findings.notices, *notices),
    )


def _limit_notices(
    network_findings: Findings,
    candidates: tuple[Candidate, ...],
    evidence: Evidence,
    prepared: PreparedStudy,
) -> list[str]:
    """Return notices on unknown properties of added and edited outlines."""
    notices = []
    if _added_count(candidates) > _added_count(network_findings.candidates):
        notices.append(_ADDED_NOTICE)
    if anatomy.head_of(prepared) is None:
        notices.append(_NO_LOCATION_NOTICE)
    limits = limit_notices(evidence, prepared)  # the network's candidates, if any, have the others
    notices += [n for n in limits if n == NO_PEAK or not network_findings.candidates]
    return notices


def _added_count(candidates: Iterable[Candidate]) -> int:
    """Count the candidates that readers added."""
    return sum(candidate.source is Source.READER for candidate in candidates)


def _evidence(
    analysis: Analysis, network_candidates: Mapping[int, Candidate], count: int
) -> Evidence:
    candidates = map(network_candidates.get, range(1, count + 1))
    scores = [None if candidate is None else candidate.score for candidate in candidates]
    volumes = analysis.volumes
    attention = {} if analysis.run.omitted else volumes.attention  # it is of the omitted ones too
    return Evidence(
        scores=scores,
        uncertainty=None if volumes.uncertainty is None else volumes.uncertainty.data,
        attention={region: volume.data for region, volume in attention.items()},
        probability=_probability(analysis),
    )


def _probability(analysis: Analysis) -> dict[Region, Floats]:
    """Return the network's probability; of enhancement 1 where a reader outlined it."""
    volumes, original = analysis.volumes, analysis.original
    probability = {region: volume.data for region, volume in volumes.probability.items()}
    if Region.ET in probability and original is not None:
        by_network = original.labels.data == Label.ENHANCING
        probability[Region.ET] = np.where(by_network, probability[Region.ET], np.float32(1.0))
    return probability


def _redrawn_notice(candidate: Candidate, review: Review) -> str:
    volume = candidate.volume_ml.get(Region.WT)
    volume_text = "" if volume is None else f", {millilitres(volume)} ml"
    if candidate.source is not Source.NETWORK:
        return (
            f"Candidate {candidate.id} was redrawn by a reader: size, location and volumes are "
            f"of the redrawn outline, not of the one that was opened{volume_text}"
        )
    events = (e for e in review.events if e.tracking_uid == candidate.tracking_uid)
    if any(e.state is ReviewState.EDITED and e.outline is None for e in events):
        volume_text = (
            ""  # the volume before the edit is unknown: it was made before import from an archive
        )
    return (
        f"Candidate {candidate.id} was redrawn by a reader: size, location and volumes are of "
        f"the redrawn outline; score and sequences are of the network's outline{volume_text}"
    )


def outline_of(
    analysis: Analysis,
    candidate: Candidate | str,
    before: Labels,
    after: Labels,
    by_hand: Mask | None = None,
) -> Outline:
    """Transfer a reader's edit on the working grid to the native grid.

    Only voxels that the reader changed are changed, so that display on another grid has no effect.
    A native voxel takes the change of the working voxel at its centre. If a change reaches the
    centre of no slice, the slice takes the change of any working voxel within it: a stroke on one
    plane of a thick slice changes the slice, and an outline through several slices keeps its
    volume. A change is a column through the slices where the reader drew, else a connected region.
    A new region that is thinner than two slices takes the voxels that it covers most, as many as
    keep its volume.
    Native voxels without a working voxel (if the native grid is finer) are removed if no neighbour
    remains.

    Parameters
    ----------
    analysis : Analysis
        As it is shown.
    candidate : Candidate or str
        The edited candidate, the tracking UID of a new one, or `CAVITY`; voxels of other candidates
        are not changed.
    before, after : (I, J, K) uint8
        Labels of the candidate on the working grid, before and after.
    by_hand : (I, J, K) bool or None
        Voxels that a stroke painted or erased; None for all.

    Raises
    ------
    UnusableInputError
        The outline of a candidate is empty.
    """
    uid = candidate if isinstance(candidate, str) else candidate.tracking_uid
    all_labels, components = analysis.volumes.all_labels.data, analysis.findings.components
    if isinstance(candidate, Candidate):
        own_voxels = components == candidate.id
    else:
        own_voxels = (all_labels == Label.CAVITY) & (uid == CAVITY)
    box = _native_box(analysis, own_voxels, (before > 0) | (after > 0))
    own_voxels, other_voxels = own_voxels[box], (components[box] > 0) & ~own_voxels[box]
    labels = np.where(own_voxels, all_labels[box], np.uint8(0))
    origin, prepared = np.array([side.start for side in box]), analysis.prepared
    thin = thin_parts(before, after, by_hand, prepared)
    sampled = np.where(thin > 0, np.uint8(0), after)
    painted = _paint_unsampled(labels, origin, before, sampled, by_hand, prepared)
    native_before, native_after = (
        _sampled_at_centres(working_labels, origin, labels.shape, prepared.to_native)
        for working_labels in (before, sampled)
    )
    labels = np.where(native_before == native_after, labels, native_after)
    unsampled = (labels > 0) & (native_after == 0) & ~painted
    supported = ndimage.binary_dilation((labels > 0) & ~unsampled, TOUCHING)
    labels[unsampled & ~supported] = 0
    labels[other_voxels] = 0
    to_box = prepared.to_native.copy()
    to_box[:3, 3] -= origin
    paint_thin_parts(labels, ~other_voxels, after, thin, to_box)
    outline = Outline.of(uid, labels, origin.tolist())
    if outline.is_empty and uid != CAVITY:
        raise _empty_outline_error()
    return outline


def _native_box(
    analysis: Analysis, native_mask: NDArray[np.bool_], working_mask: NDArray[np.bool_]
) -> Box:
    """Return the native box around an outline and all edits, with a margin of one voxel."""
    bounds = []
    box = geometry.bounding_box(native_mask)
    if box is not None:
        bounds.append(np.array([(side.start, side.stop - 1) for side in box], dtype=np.float64).T)
    voxels = np.argwhere(working_mask)
    if voxels.size:
        corners = geometry.corners(voxels.min(axis=0), voxels.max(axis=0))
        bounds.append(geometry.apply(analysis.prepared.to_native, corners))
    if not bounds:
        raise _empty_outline_error()
    points = np.concatenate(bounds)
    low, high = np.floor(points.min(axis=0)) - 1, np.ceil(points.max(axis=0)) + 1
    return geometry.clipped_box(low, high, analysis.findings.components.shape)


def _paint_unsampled(
    labels: Labels,
    origin: NDArray[np.intp],
    before: Labels,
    after: Labels,
    by_hand: Mask | None,
    prepared: PreparedStudy,
) -> NDArray[np.bool_]:
    """Return the native voxels of changed working voxels that no centre represents, (I, J, K).

    A position midway between two native voxels is assigned to the same one in any storage order.
    """
    to_own = prepared.native.ras_order()
    to_ras = np.asarray(np.linalg.inv(to_own)) @ prepared.to_native
    across = through_slices(prepared)
    painted = np.zeros(labels.shape, dtype=bool)
    for erased in (True, False):
        changed = (before != after) & ((after == 0) == erased)
        voxels = np.argwhere(changed)
        native_voxels = geometry.nearest(to_own, geometry.nearest(to_ras, voxels)) - origin
        inside = geometry.is_inside(native_voxels, labels.shape)
        voxels, native_voxels = voxels[inside], native_voxels[inside]
        painted[tuple(native_voxels.T)] = not erased
        sampled = _sampled_at_centres(
            changed.astype(np.uint8), origin, labels.shape, prepared.to_native
        )
        is_sampled = sampled[tuple(native_voxels.T)] > 0
        unsampled = _is_without(is_sampled, _runs(changed, across)[tuple(voxels.T)])
        if by_hand is not None:
            parts = ndimage.label(changed, TOUCHING)[0][tuple(voxels.T)]
            unsampled &= by_hand[tuple(voxels.T)] | _is_without(is_sampled, parts)
        labels[tuple(native_voxels[unsampled].T)] = after[tuple(voxels[unsampled].T)]
    return painted


def _is_without(marked: Mask, groups: NDArray[np.int32]) -> Mask:
    """Return which elements are of a group that has no marked one."""
    without: Mask = ~np.isin(groups, groups[marked])
    return without


def _runs(mask: NDArray[np.bool_], axis: int) -> NDArray[np.int32]:
    """Return the number of the run along an axis that each voxel of a mask is in, from 1."""
    structure = np.zeros((3, 3, 3), bool)
    structure[tuple(slice(None) if other_axis == axis else 1 for other_axis in range(3))] = True
    numbers: NDArray[np.int32] = ndimage.label(mask, structure)[0]
    return numbers


def _sampled_at_centres(
    working: Labels, origin: NDArray[np.intp], shape: Shape3, to_native: Affine
) -> Labels:
    """Sample working-grid labels at the centre of each native voxel of a box."""
    to_working = np.asarray(np.linalg.inv(to_native), dtype=np.float64)
    to_working[:3, 3] += to_working[:3, :3] @ origin + TIE_BREAK_VOX
    sampled: Labels = ndimage.affine_transform(
        working,
        to_working[:3, :3],
        to_working[:3, 3],
        output_shape=shape,
        order=0,
        mode="grid-constant",  # "constant" leaves out the outer half of the outermost voxels
    )
    return sampled


def _empty_outline_error() -> UnusableInputError:
    return UnusableInputError(
        "The outline is empty, or lies only within other candidates.",
        hint="Discard the edit, and reject the candidate if there is nothing.",
    )
