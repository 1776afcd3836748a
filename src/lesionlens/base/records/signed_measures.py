"""The measurements behind a response to treatment, as they are when a reader signs it."""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.base.records.followup import TimePoint, enhancing_ml
from lesionlens.base.records.response import SignedMeasure, SignedResponse, in_order
from lesionlens.base.records.review import CAVITY


def measures_of(points: Sequence[TimePoint]) -> tuple[SignedMeasure, ...]:
    """Return the measurements behind a response: lesions that count, and resection cavities."""
    measures: list[SignedMeasure] = []
    for ago, point in enumerate(reversed(points)):
        measures += (
            SignedMeasure(
                ago,
                lesion.tracking_uid,
                lesion.whole_ml,
                enhancing_ml(lesion),
                lesion.longest_mm,
                lesion.perpendicular_mm,
                lesion.state.decided,
            )
            for lesion in point.lesions
            if lesion.counts
        )
        if point.cavity_ml:
            measures.append(SignedMeasure(ago, CAVITY, point.cavity_ml, None, None, None))
    return in_order(measures)


def is_outdated(signed: SignedResponse, points: Sequence[TimePoint]) -> bool:
    """Return whether the measurements have changed since the response was signed."""
    return not are_same(measures_of(points), signed.measures)


def are_same(current: Sequence[SignedMeasure], signed: Sequence[SignedMeasure]) -> bool:
    """Return whether two sequences are of the same lesions with the same figures, in this order."""
    return len(current) == len(signed) and all(map(SignedMeasure.same, current, signed))
