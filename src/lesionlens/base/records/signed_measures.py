"""The measurements behind a response to treatment, as they are when a reader signs it."""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.base.labels import Region
from lesionlens.base.records.followup import TimePoint
from lesionlens.base.records.response import SignedMeasure, SignedResponse, in_order
from lesionlens.base.records.review import CAVITY


def measures_of(points: Sequence[TimePoint]) -> tuple[SignedMeasure, ...]:
    """Return the measurements behind a response: lesions that count, and resection cavities."""
    found = (
        SignedMeasure(
            len(points) - 1 - number,
            one.tracking_uid,
            one.whole_ml,
            one.volume_ml.get(Region.ET),
            one.longest_mm,
            one.perpendicular_mm,
        )
        for number, point in enumerate(points)
        for one in point.lesions
        if one.counts
    )
    cavities = (
        SignedMeasure(len(points) - 1 - number, CAVITY, point.cavity_ml, None, None, None)
        for number, point in enumerate(points)
        if point.cavity_ml
    )
    return in_order((*found, *cavities))


def is_outdated(signed: SignedResponse, points: Sequence[TimePoint]) -> bool:
    """Return whether a response was signed on other measurements than those of the examinations."""
    return not are_same(measures_of(points), signed.measures)


def are_same(now: Sequence[SignedMeasure], then: Sequence[SignedMeasure]) -> bool:
    """Return whether two sequences are of the same lesions with the same figures, in this order."""
    return len(now) == len(then) and all(map(SignedMeasure.same, now, then))
