"""Turn components into candidates: measure, locate, score and sort them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings import anatomy, class_probabilities, measure, pointing_game
from lesionlens.analysis.findings.components import (
    Component,
    ComponentMask,
    components_of,
    renumbered,
)
from lesionlens.base.geometry import Floats, as_vec3
from lesionlens.base.labels import Region, RelevanceMeasure
from lesionlens.base.records.evidence import SequenceScores
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
from lesionlens.base.records.study import QualityCheck

_CELL_MM, _CELL_OFFSET_MM = 20.0, 3.7
"""Cell size for tracking UIDs, and an offset that keeps cell borders off whole and half
millimetres, where centroids of regular objects are."""
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
    "The brain is cut off in front, behind or above, so that its extent is unknown: no region and "
    "no appearance of a candidate is named"
)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Evidence of each component of a `ComponentMask`, in its order; None if unknown."""

    scores: Sequence[float | None]
    """0 to 1; None for a region added by a reader."""
    by_sequence: SequenceScores | None = None
    uncertainty: Floats | None = None
    """(I, J, K) float32 or None: on the native grid."""
    attention: Floats | None = None
    """(I, J, K) float32 or None: whole-tumour attention on the native grid."""
    enhancing_probability: Floats | None = None
    """(I, J, K) float32 or None: enhancing-tumour probability on the native grid; undecided
    enhancement is not measurable."""


@dataclass(frozen=True, slots=True, eq=False)
class StudyContext:
    """Study-level inputs for describing candidates."""

    whole_tumour_probability: Floats | None
    """(I, J, K) float32 or None: probability on the native grid; None for outlines without one."""
    head: anatomy.Head | None
    """Transform to MNI space."""
    has_t1c: bool
    """Whether enhancement can be assessed."""
    identity: str
    """Identifies study and engine; the same identity and position give the same tracking UID."""
    quality: tuple[QualityCheck, ...] = ()
    """Quality checks, for the findings."""
    class_probabilities: ClassProbabilities | None = None
    """Class probabilities, if the engine predicts them."""


def describe(
    component_mask: ComponentMask, evidence: Evidence, study_context: StudyContext
) -> Findings:
    """Measure each component and sort: those listed apart last, each group by descending score.

    Returns
    -------
    Findings
        `components` contains the candidates' ids, 1 for the first.
    """
    parts = list(components_of(component_mask))
    agreements = pointing_game.of_components(
        component_mask.components,
        component_mask.count,
        evidence.attention,
        component_mask.grid.nominal_spacing_mm,
    )
    measured = [
        measured_candidate(part, evidence, study_context, agreement)
        for part, agreement in zip(parts, agreements, strict=True)
    ]
    order = sorted(
        range(component_mask.count),
        key=lambda n: (
            measured[n].apart,
            -(measured[n].score or 0.0),
            -np.count_nonzero(parts[n].mask),
        ),
    )
    centroids_mm = [part.points_mm().mean(axis=0) for part in parts]
    uids = tracking_uids(study_context.identity, centroids_mm, [part.volume_ml for part in parts])
    candidates = tuple(
        replace(measured[n], id=rank, tracking_uid=uids[n]) for rank, n in enumerate(order, start=1)
    )
    ids = np.zeros(component_mask.count + 1, np.int32)
    ids[np.array(order, dtype=int) + 1] = np.arange(1, component_mask.count + 1)
    return Findings(
        candidates=candidates,
        components=renumbered(component_mask.components, ids),
        quality=study_context.quality,
        conclusion=conclusion_of(candidates),
        notices=limit_notices(study_context) if candidates else (),
    )


def limit_notices(study_context: StudyContext) -> tuple[str, ...]:
    """Return the notices on what is unknown of every candidate of a study."""
    unknown = {
        NO_T1C: not study_context.has_t1c,
        NO_PEAK: study_context.whole_tumour_probability is None,
        CUT_BRAIN: study_context.head is not None and not study_context.head.whole,
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
    study_context: StudyContext,
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
    for part in components_of(component_mask):
        points = part.points_mm()
        start = [side.start for side in part.box]
        regions.append(
            Considered(
                score=float(scores[part.index]),
                location=anatomy.locate(points, study_context.head),
                centroid_mm=as_vec3(points.mean(axis=0)),
                peak_mm=_peak(part, whole_tumour),
                volume_ml=part.volume_ml,
                voxels=(np.argwhere(part.mask) + start).astype(np.int32),
            )
        )
    return tuple(sorted(regions, key=lambda region: -region.score))


def measured_candidate(
    part: Component, evidence: Evidence, study_context: StudyContext, agreement: MapAgreement
) -> Candidate:
    """Measure a component; its number is the id, and the tracking UID is empty."""
    points = part.points_mm()
    low, high = measure.bounding_box_mm(part.mask, part.grid)
    volumes_ml, diameters, measurable = _sizes(
        part, evidence.enhancing_probability, has_t1c=study_context.has_t1c
    )
    uncertainty, score = evidence.uncertainty, evidence.scores[part.index]
    by_sequence, classes = evidence.by_sequence, study_context.class_probabilities
    resemblance = class_probabilities.of_component(part, classes)
    return Candidate(
        id=part.index + 1,
        tracking_uid="",
        score=None if score is None else float(score),
        centroid_mm=as_vec3(points.mean(axis=0)),
        bounding_box_mm=(as_vec3(low), as_vec3(high)),
        peak_mm=None
        if study_context.whole_tumour_probability is None
        else _peak(part, study_context.whole_tumour_probability),
        volume_ml=volumes_ml,
        longest_axial_diameter_mm=diameters.longest_mm if diameters else None,
        perpendicular_diameter_mm=diameters.perpendicular_mm if diameters else None,
        rano_measurable=measurable,
        location=anatomy.locate(points, study_context.head),
        uncertainty=None if uncertainty is None else float(uncertainty[part.box][part.mask].mean()),
        attention=agreement,
        sequence_relevance=None if by_sequence is None else by_sequence.relevance[part.index],
        relevance_of=None if by_sequence is None else RelevanceMeasure.OVERLAP,
        score_alone=None if by_sequence is None else by_sequence.alone[part.index],
        score_left_out=None if by_sequence is None else by_sequence.left_out[part.index],
        resemblance=resemblance,
        apart=class_probabilities.is_apart(resemblance, classes),
    )


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
        sequence_relevance=candidate.sequence_relevance,
        relevance_of=candidate.relevance_of,
        score_alone=candidate.score_alone,
        score_left_out=candidate.score_left_out,
        resemblance=candidate.resemblance,
        source=candidate.source,
        drawn=candidate.drawn,
        apart=candidate.apart,
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


def tracking_uids(
    identity: str, centroids_mm: Sequence[NDArray[np.float64]], volumes_ml: Sequence[float]
) -> list[str]:
    """Derive each candidate's UID from its study and its coarse position.

    A rerun on the same study gives the same UID, even if the outline moved by a voxel. Of several
    candidates in one cell of `_CELL_MM` the largest comes first.

    Parameters
    ----------
    centroids_mm : sequence of (3,) float64
        RAS mm.

    Returns
    -------
    list of str
        "2.25." and a 128-bit number each (PS3.5 B.2), a valid DICOM UID.
    """
    cells = [
        tuple(np.rint((np.asarray(c) + _CELL_OFFSET_MM) / _CELL_MM).astype(int).tolist())
        for c in centroids_mm
    ]
    uids = [""] * len(cells)
    used: Counter[tuple[int, ...]] = Counter()
    for n in sorted(range(len(cells)), key=lambda n: -volumes_ml[n]):
        key = f"{identity}|{cells[n]}|{used[cells[n]]}"
        used[cells[n]] += 1
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big")
        uids[n] = f"2.25.{number}"
    return uids
