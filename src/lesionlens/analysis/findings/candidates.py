"""Turn components into candidates: measure, locate, score and sort them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lesionlens.analysis.findings import anatomy, measure, pointing_game
from lesionlens.analysis.findings.components import Component, ComponentMask, renumbered
from lesionlens.base.geometry import Floats, as_vec3
from lesionlens.base.labels import LesionClass, Region
from lesionlens.base.records.findings import (
    LESION_PARTS,
    Candidate,
    Considered,
    Findings,
    MapAgreement,
    Point,
    conclusion_of,
)
from lesionlens.base.records.prediction import ClassProbabilities
from lesionlens.base.records.study import PreparedStudy

_CELL_MM, _CELL_OFFSET_MM = 20.0, 3.7
"""Cell size for tracking UIDs, and an offset that keeps cell borders off whole and half
millimetres, where the centres of regular objects are."""
_MIN_CLASS_TOTAL = 1e-3  # mean share below which the engine does not classify a candidate
_PEAK_MARGIN = 0.01
"""Voxels this close to the highest probability belong to the peak that a tracking UID names."""
NO_T1C = (
    "Without T1c the core is uncertain, and the enhancing part is unknown: its volume and the "
    "RANO rule are left empty"
)
_NO_PARTS_NOTICE = (
    "The outlines do not distinguish core and enhancing part from the rest: their volumes and "
    "the RANO rule are left empty"
)
_NO_ENHANCING_NOTICE = (
    "The outlines do not distinguish the enhancing part: its volume and the RANO rule are left "
    "empty"
)
NO_PEAK = (
    "There is no probability with these outlines: the position of its peak (peak_mm) is left empty"
)
CUT_BRAIN = (
    "The brain is cut off at the front, back or top, so its extent is unknown: no region is "
    "named for any candidate"
)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of the components of a `ComponentMask` beside their outlines."""

    scores: Sequence[float | None]
    """0 to 1, in the order of the components; None for a region added by a reader."""
    dice_without: Sequence[Mapping[str, float | None] | None] = ()
    """Overlap of each component without each sequence; None where it is unknown; empty for all."""
    missed: frozenset[int] = frozenset()
    """Indices of components whose uncertainty is unknown."""
    uncertainty: Floats | None = None
    """(I, J, K) float32 or None: on the native grid."""
    attention: Mapping[Region, Floats] = field(default_factory=dict)
    probability: Mapping[Region, Floats] = field(default_factory=dict)
    """Mapping of Region to (I, J, K) float32: maps on the native grid, empty if there are none.
    Without the probability of enhancing tumour no enhancement is undecided."""
    class_probabilities: ClassProbabilities | None = None
    """Class probabilities, if the engine predicts them."""


def describe(
    component_mask: ComponentMask, evidence: Evidence, prepared: PreparedStudy, identity: str
) -> Findings:
    """Measure each component; sort by descending score.

    Parameters
    ----------
    identity : str
        Identifies study and engine; the same identity and place give the same tracking UID.

    Returns
    -------
    Findings
        `components` contains the candidates' ids, 1 for the first.
    """
    measured = list(measured_components(component_mask, evidence, prepared))
    whole_tumour = evidence.probability.get(Region.WT)
    uids = tracking_uids(identity, [_place(part, whole_tumour) for part, _ in measured])
    ranked = sorted(measured, key=_rank)
    candidates = tuple(
        replace(candidate, id=rank, tracking_uid=uids[part.index])
        for rank, (part, candidate) in enumerate(ranked, start=1)
    )
    ids = np.zeros(component_mask.count + 1, np.int32)
    ids[[part.index + 1 for part, _ in ranked]] = np.arange(1, component_mask.count + 1)
    return Findings(
        candidates=candidates,
        components=renumbered(component_mask.components, ids),
        quality=prepared.quality,
        conclusion=conclusion_of(candidates),
        notices=limit_notices(evidence, prepared) if candidates else (),
    )


def _rank(measured: tuple[Component, Candidate]) -> tuple[float, int]:
    part, candidate = measured
    return -(candidate.score or 0.0), -int(np.count_nonzero(part.mask))


def limit_notices(evidence: Evidence, prepared: PreparedStudy) -> tuple[str, ...]:
    """Return the notices on what is unknown of every candidate of a study."""
    head = anatomy.head_of(prepared)
    unknown = {
        NO_T1C: not prepared.has_t1c,
        NO_PEAK: Region.WT not in evidence.probability,
        CUT_BRAIN: head is not None and not head.whole,
    }
    return tuple(notice for notice, applies in unknown.items() if applies)


def without_parts(findings: Findings, unknown: Mapping[int, frozenset[Region]]) -> Findings:
    """Return findings without the values that need parts which the outlines do not distinguish.

    Parameters
    ----------
    unknown : mapping of int to frozenset of Region
        The parts that are not distinguished, by the candidate's id.
    """
    candidates = tuple(
        c.without_parts(unknown[c.id]) if unknown[c.id] else c for c in findings.candidates
    )
    notices = findings.notices
    if LESION_PARTS in unknown.values():
        notices = (_NO_PARTS_NOTICE, *notices)
    elif any(unknown.values()) and NO_T1C not in notices:
        notices = (_NO_ENHANCING_NOTICE, *notices)
    if unknown and all(parts == LESION_PARTS for parts in unknown.values()):
        notices = tuple(notice for notice in notices if notice != NO_T1C)
    return replace(findings, candidates=candidates, notices=notices)


def considered(
    component_mask: ComponentMask,
    scores: Sequence[float],
    prepared: PreparedStudy,
    whole_tumour: Floats,
) -> tuple[Considered, ...]:
    """Describe regions that scored below the threshold.

    Parameters
    ----------
    whole_tumour : (I, J, K) float32
        Probability on the native grid.

    Returns
    -------
    tuple of Considered
        By descending score; these are not candidates.
    """
    regions = []
    for part in component_mask.parts():
        points = part.points_mm()
        start = [side.start for side in part.box]
        regions.append(
            Considered(
                score=float(scores[part.index]),
                location=anatomy.locate(points, anatomy.head_of(prepared)),
                centroid_mm=as_vec3(points.mean(axis=0)),
                peak_mm=_peak(part, whole_tumour),
                volume_ml=part.volume_ml,
                voxels=(np.argwhere(part.mask) + start).astype(np.int32),
            )
        )
    return tuple(sorted(regions, key=lambda region: -region.score))


def measured_components(
    component_mask: ComponentMask,
    evidence: Evidence,
    prepared: PreparedStudy,
    only: Collection[int] | None = None,
) -> Iterator[tuple[Component, Candidate]]:
    """Yield components and their measurements; the number is the id, the tracking UID is empty.

    Parameters
    ----------
    only : collection of int or None
        Numbers of those to measure; None for all.
    """
    agreements = pointing_game.of_components(
        component_mask.components,
        component_mask.count,
        evidence.attention.get(Region.WT),
        component_mask.grid.nominal_spacing_mm,
    )
    for part in component_mask.parts():
        if only is None or part.index + 1 in only:
            yield part, _measured(part, evidence, prepared, agreements[part.index])


def _measured(
    part: Component, evidence: Evidence, prepared: PreparedStudy, agreement: MapAgreement
) -> Candidate:
    points, probability = part.points_mm(), evidence.probability
    low, high = measure.bounding_box_mm(part.mask, part.grid)
    volumes_ml, diameters, measurable = _sizes(
        part, probability.get(Region.ET), has_t1c=prepared.has_t1c
    )
    uncertainty, score = evidence.uncertainty, evidence.scores[part.index]
    if part.index in evidence.missed:
        uncertainty = None
    return Candidate(
        id=part.index + 1,
        tracking_uid="",
        score=None if score is None else float(score),
        centroid_mm=as_vec3(points.mean(axis=0)),
        bounding_box_mm=(as_vec3(low), as_vec3(high)),
        peak_mm=_peak(part, probability[Region.WT]) if Region.WT in probability else None,
        volume_ml=volumes_ml,
        longest_axial_diameter_mm=diameters.longest_mm if diameters else None,
        perpendicular_diameter_mm=diameters.perpendicular_mm if diameters else None,
        rano_measurable=measurable,
        location=anatomy.locate(points, anatomy.head_of(prepared)),
        uncertainty=None if uncertainty is None else float(uncertainty[part.box][part.mask].mean()),
        attention=agreement,
        class_probabilities=class_probabilities_of(part, evidence.class_probabilities),
        dice_without=evidence.dice_without[part.index] if evidence.dice_without else None,
    )


def class_probabilities_of(
    part: Component, probabilities: ClassProbabilities | None
) -> Mapping[LesionClass, float] | None:
    """Return mean class probabilities over a component, normalised to sum one.

    Parameters
    ----------
    part : Component
        On the native grid.
    probabilities : ClassProbabilities or None
        On their own grid, in the same patient space.

    Returns
    -------
    mapping or None
        None if the engine does not classify it.
    """
    if probabilities is None:
        return None
    i, j, k = probabilities.grid.nearest_voxel(part.points_mm(), clip=True).T
    mean = probabilities.share[:, i, j, k].mean(axis=1, dtype=np.float64)
    total = float(mean.sum())
    if total < _MIN_CLASS_TOTAL:
        return None
    return {kind: float(value) / total for kind, value in zip(LesionClass, mean, strict=True)}


def remeasured(candidate: Candidate, measured: Candidate, part: Component) -> Candidate:
    """Return a candidate as `measured` with another outline, `part`.

    Identity, source, score and relevance are kept. Parts that the earlier outline did not
    distinguish stay unknown until they are outlined, as does an unknown agreement with the map.
    """
    attention = (
        candidate.attention if candidate.attention.peak_inside is None else measured.attention
    )
    return replace(
        without_unknown_parts(measured, part, candidate),
        tracking_uid=candidate.tracking_uid,
        score=candidate.score,
        attention=attention,
        class_probabilities=candidate.class_probabilities,
        dice_without=candidate.dice_without,
        sequence_relevance=candidate.sequence_relevance,
        source=candidate.source,
        drawn=candidate.drawn,
    )


def without_unknown_parts(measured: Candidate, part: Component, earlier: Candidate) -> Candidate:
    """Return a copy in which parts that are unknown of `earlier` stay so until they are outlined.

    Parameters
    ----------
    part : Component
        The outline of `measured`.
    earlier : Candidate
        The same candidate with an earlier outline, or the one from which it was split.
    """
    unknown = [
        region
        for region in LESION_PARTS
        if earlier.volume_ml.get(region) is None and not part.region(region).any()
    ]
    return measured.without_parts(unknown) if unknown else measured


def _sizes(
    part: Component, enhancing_probability: Floats | None, *, has_t1c: bool
) -> tuple[dict[Region, float | None], measure.Diameters | None, bool | None]:
    """Return volumes in ml, diameters, and whether RANO can measure it; None if that is unknown.

    Diameters are of the enhancing part if there is one.
    """
    enhancing = part.region(Region.ET)
    has_enhancement = has_t1c and bool(enhancing.any())
    diameters = measure.diameters(
        enhancing if has_enhancement else part.region(Region.WT), part.grid
    )
    volumes_ml: dict[Region, float | None] = {
        region: part.grid.volume_ml(part.region(region)) for region in Region
    }
    if not has_t1c:
        volumes_ml[Region.ET] = None
    measurable = None
    if has_t1c:
        local = None if enhancing_probability is None else enhancing_probability[part.box]
        measurable = has_enhancement and measure.is_rano_measurable(
            enhancing, part.grid, diameters, local
        )
    return volumes_ml, diameters, measurable


def _peak(part: Component, whole_tumour: Floats) -> Point:
    """Return the RAS mm of the highest probability; of several, the one nearest to their centre."""
    candidate_probability = np.where(part.mask, whole_tumour[part.box], -1.0)
    peak_voxels = np.argwhere(candidate_probability >= candidate_probability.max())
    centre = peak_voxels.mean(axis=0)
    nearest = int(((peak_voxels - centre) ** 2).sum(axis=1).argmin())
    return as_vec3(part.grid.to_mm(peak_voxels[nearest]))


def _place(part: Component, whole_tumour: Floats | None) -> NDArray[np.float64]:
    """Return the RAS mm of a component's peak, or of its centroid where there is no probability.

    All voxels near the highest probability count: the highest one alone may jump on a plateau.
    """
    inside = part.mask
    if whole_tumour is not None:
        probability = np.where(part.mask, whole_tumour[part.box], -1.0)
        inside = probability >= probability.max() - _PEAK_MARGIN
    return part.grid.to_mm(np.argwhere(inside).mean(axis=0))


def tracking_uids(identity: str, places_mm: Sequence[ArrayLike]) -> list[str]:
    """Derive each candidate's UID from its study and its coarse position.

    Another analysis of the same study gives the same UIDs unless a place crosses the border of a
    cell of `_CELL_MM`. Candidates in one cell are numbered by their coordinates.

    Parameters
    ----------
    places_mm : sequence of (3,) float
        RAS mm.

    Returns
    -------
    list of str
        "2.25." and a 128-bit number each (PS3.5 B.2), a valid DICOM UID.
    """
    places = [tuple(np.asarray(place, float).tolist()) for place in places_mm]
    uids = [""] * len(places)
    used: Counter[tuple[int, ...]] = Counter()
    for n in sorted(range(len(places)), key=places.__getitem__):
        cell = tuple(round((side + _CELL_OFFSET_MM) / _CELL_MM) for side in places[n])
        uids[n] = uid_of(f"{identity}|{cell}|{used[cell]}")
        used[cell] += 1
    return uids


def uid_of(text: str) -> str:
    """Return the DICOM UID that is derived from a text."""
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"
