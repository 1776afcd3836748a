"""The measurements behind a response to treatment, as they are when a reader signs it."""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.base.labels import Region
from lesionlens.base.records.followup import TimePoint
from lesionlens.base.records.response import SignedMeasure, SignedResponse, in_order
from lesionlens.base.records.review import CAVITY


def measures_of(points: Sequence[TimePoint]) -> tuple[SignedMeasure, ...]:
    """Return the measurements behind a response: lesions that count, and resection cavities."""
    lesions = (
        SignedMeasure(
            ago=len(points) - 1 - index,
            tracking_uid=lesion.tracking_uid,
            whole_ml=lesion.whole_ml,
            enhancing_ml=lesion.volume_ml.get(Region.ET),
            longest_mm=lesion.longest_mm,
            perpendicular_mm=lesion.perpendicular_mm,
            decided=lesion.state.decided,
        )
        for index, point in enumerate(points)
        for lesion in point.lesions
        if lesion.counts
    )
    cavities = (
        SignedMeasure(
            ago=len(points) - 1 - index,
            tracking_uid=CAVITY,
            whole_ml=point.cavity_ml,
            enhancing_ml=None,
            longest_mm=None,
            perpendicular_mm=None,
        )
        for index, point in enumerate(points)
        if point.cavity_ml
    )
    return in_order((*lesions, *cavities))


def is_outdated(signed: SignedResponse, points: Sequence[TimePoint]) -> bool:
    """Return whether the measurements have changed since the response was signed."""
    return not are_same(measures_of(points), signed.measures)


def are_same(current: Sequence[SignedMeasure], signed: Sequence[SignedMeasure]) -> bool:
    """Return whether two sequences are of the same lesions with the same figures, in this order."""
    return len(current) == len(signed) and all(map(SignedMeasure.same, current, signed))
