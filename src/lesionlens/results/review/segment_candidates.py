"""Candidates made of the segments of a DICOM Segmentation, or of a mask, measured here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.analysis.findings import pointing_game
from lesionlens.analysis.findings.candidates import Evidence, describe, without_parts
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.base.geometry import TOUCHING
from lesionlens.base.grid import MIN_FRACTION_BEYOND, Grid
from lesionlens.base.labels import Region, Source
from lesionlens.base.records.files import as_stored
from lesionlens.base.records.findings import Findings, conclusion_of
from lesionlens.base.records.study import PreparedStudy
from lesionlens.results.review.segments import Part, ReadSegment, SegmentKind, joint_mask
from lesionlens.results.review.stated_lesions import StatedLesion, StatedLesions


def select_lesions(segments: list[ReadSegment]) -> tuple[list[ReadSegment], list[str]]:
    """Select segments that are labelled as lesions, or else all that are not anatomy."""
    notices = []
    lesions = [s for s in segments if s.kind is SegmentKind.LESION]
    if segments and not lesions:
        lesions = [s for s in segments if s.kind is not SegmentKind.ANATOMY] or segments
        notices.append(f"No segment is labelled as a lesion: {len(lesions)} used as candidates")
    skipped = [s.label for s in segments if s not in lesions]
    if skipped:
        notices.append(f"Segments not used as candidates: {', '.join(skipped)[:200]}")
    if any(s.resampled for s in lesions):
        notices.append("The Segmentation is on another grid than the reference: it was resampled")
    lost_labels = [s.label for s in lesions if not s.mask.any()]
    if lost_labels:
        notices.append(
            "Segments that are too small for the voxels of the reference, or lie between or beyond "
            f"them, were left out: {', '.join(lost_labels)[:200]}"
        )
    max_beyond = max((s.fraction_outside for s in lesions), default=0.0)
    if max_beyond > MIN_FRACTION_BEYOND:
        notices.append(
            f"Up to {max_beyond:.1%} of a segment lies outside the reference and is left out. "
            "Does it belong to this study?"
        )
    return lesions, notices


def core_notices(segments: list[ReadSegment]) -> list[str]:
    """Return a notice if another program's segments show the tumour core and no more."""
    if not segments or min(s.part for s in segments) < Part.CORE:
        return []
    return [
        "No segment shows oedema or the whole tumour: the volume of the whole tumour is that of "
        "the core"
    ]


def overlap_notices(segments: list[ReadSegment]) -> list[str]:
    """Return notices about overlapping lesions; a shared voxel belongs to the first."""
    covered_labels, overlapping, occupied = [], False, None
    for uid, group in _groups(segments):
        mask = np.logical_or.reduce([s.mask for s in group])
        if occupied is not None and (mask & occupied).any():
            overlapping = True
            if mask.any() and not (mask & ~occupied).any():
                covered_labels.append(group[0].label or str(uid))
        occupied = mask if occupied is None else occupied | mask
    notices = []
    if overlapping:
        notices.append(
            "Segments of several lesions overlap: each voxel belongs to the first of them"
        )
    if covered_labels:
        labels = ", ".join(covered_labels)[:200]
        notices.append(f"Segments within other segments are not separate candidates: {labels}")
    return notices


class IdentifiedComponents(NamedTuple):
    """The components of read segments."""

    mask: ComponentMask
    """On the grid of the segments."""
    uids: list[str | None]
    """Tracking UID of each component, the first one's first; None if it has none."""


def identified_components(segments: list[ReadSegment], grid: Grid) -> IdentifiedComponents:
    """Group segments into candidates: by tracking UID, else by connectivity."""
    labels = np.zeros(grid.shape, np.uint8)
    components = np.zeros(grid.shape, np.int32)
    uids: list[str | None] = []
    for uid, group in _groups(segments):
        parts = sorted({segment.part for segment in group})
        nested = [joint_mask([s for s in group if s.part >= part], grid) for part in parts]
        mask = nested[0] & (components == 0)
        for part, inside in zip(parts, nested, strict=True):
            labels[inside & mask] = part.label
        if uid is not None:
            numbered, count = mask.astype(np.int32), int(mask.any())
        else:
            numbered, count = ndimage.label(mask, structure=TOUCHING)
        components = np.where(numbered > 0, numbered + len(uids), components).astype(np.int32)
        uids += [uid] * count
    return IdentifiedComponents(ComponentMask(labels, components, len(uids), grid), uids)


def _groups(segments: list[ReadSegment]) -> Iterator[tuple[str | None, list[ReadSegment]]]:
    """Yield groups of segments: by tracking UID, or None for parts of unidentified lesions."""
    by_uid: dict[str | None, list[ReadSegment]] = {}
    for segment in segments:
        by_uid.setdefault(segment.tracking_uid, []).append(segment)
    has_shared_uids = any(uid is not None and len(group) > 1 for uid, group in by_uid.items())
    all_whole = all(s.part is Part.WHOLE for s in segments)
    if has_shared_uids or (all_whole and None not in by_uid):
        yield from by_uid.items()
    elif all_whole and len(segments) > 1:
        yield from ((None, [segment]) for segment in segments)
    elif segments:
        yield None, segments  # parts of lesions with their own identifiers


def measure_components(
    components: IdentifiedComponents,
    stated: StatedLesions,
    attention: Mapping[Region, NDArray[np.float32]] | None,
    prepared: PreparedStudy,
    identity: str,
) -> Findings:
    """Measure the components, and record the origin of each as stated.

    Tracking UIDs come from the objects if available, else from the `identity` of the study.

    Parameters
    ----------
    attention : mapping of Region to (I, J, K) float32, or None
        Maps, 0 to 1, on the grid of the components; those of WT are measured. None if the objects
        omit candidates, on which the attention in the others depends.
    """
    reports = [stated[uid].reported for uid in components.uids]
    scores = [None if report is None else report.score for report in reports]
    evidence = Evidence(scores, attention=attention or {})
    findings = describe(components.mask, evidence, prepared, identity)
    candidates, unknown = [], {}
    for candidate in findings.candidates:
        first_voxel = np.unravel_index(
            int(np.argmax(findings.components == candidate.id)), findings.components.shape
        )
        uid = components.uids[int(components.mask.components[first_voxel]) - 1]
        lesion = stated[uid]
        identified = candidate if uid is None else replace(candidate, tracking_uid=uid)
        candidates.append(lesion.with_origin(identified))
        unknown[candidate.id] = lesion.unknown
    conclusion = conclusion_of(candidates)
    measured = replace(findings, candidates=tuple(candidates), conclusion=conclusion)
    return as_stored(without_parts(measured, unknown))


def measure_mask(
    mask: ComponentMask, prepared: PreparedStudy, identity: str, unknown: frozenset[Region]
) -> Findings:
    """Measure the lesions of a mask, which does not distinguish the parts in `unknown`."""
    components = IdentifiedComponents(mask, [None] * mask.count)
    stated = StatedLesions({None: StatedLesion(unknown=unknown)})
    return measure_components(components, stated, None, prepared, identity)


def with_surroundings(
    findings: Findings,
    stated: StatedLesions,
    attention: NDArray[np.float32] | None,
    prepared: PreparedStudy,
) -> Findings:
    """Describe the attention in each candidate, among the others.

    The network's candidates that no reader redrew were measured before a reader added others.

    Parameters
    ----------
    attention : (I, J, K) float32 or None
        Map of WT, 0 to 1, on the grid of the components.
    """
    components, candidates = findings.components, findings.candidates
    count = len(candidates)
    added_ids = [c.id for c in candidates if c.source is Source.READER]
    flagged = np.where(np.isin(components, added_ids), 0, components) if added_ids else components
    redrawn_ids = {c.id for c in candidates if stated[c.tracking_uid].is_redrawn}
    unchanged_ids = {c.id for c in candidates} - {*added_ids, *redrawn_ids}
    if added_ids and unchanged_ids:
        agreements = pointing_game.of_components(
            flagged, count, attention, prepared.native.nominal_spacing_mm
        )
        candidates = tuple(
            replace(c, attention=agreements[c.id - 1]) if c.id in unchanged_ids else c
            for c in candidates
        )
    return as_stored(replace(findings, candidates=candidates))


def renumbered(findings: Findings, stated: StatedLesions) -> Findings:
    """Restore the candidates' numbers; others get the next ones."""
    numbers = {c.id: stated[c.tracking_uid].number for c in findings.candidates}
    known_ids = [number for number in numbers.values() if number is not None]
    if not known_ids or len(set(known_ids)) < len(known_ids):
        return findings
    next_number = itertools.count(max(known_ids) + 1)
    new_ids = np.zeros(len(findings.candidates) + 1, np.int32)
    for old_id, number in numbers.items():
        new_ids[old_id] = next(next_number) if number is None else number
    renumbered = (replace(c, id=int(new_ids[c.id])) for c in findings.candidates)
    candidates = tuple(sorted(renumbered, key=lambda c: c.id))
    return replace(findings, candidates=candidates, components=new_ids[findings.components])
