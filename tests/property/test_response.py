"""Laws of a proposed response, for any lesions at any examinations."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.analysis.followup.test_response import compared

from lesionlens.analysis.followup.response import propose
from lesionlens.base.labels import Region
from lesionlens.base.records.followup import LesionMeasurement
from lesionlens.base.records.response import (
    Clinical,
    Criterion,
    Disease,
    Response,
    ResponseChoices,
    Steroids,
)

WORSE_LAST = (Response.COMPLETE, Response.PARTIAL, Response.STABLE, Response.PROGRESSION)
SIZES_MM = (6, 9, 10, 12, 15, 20, 25, 30, 40)


def ball(uid: str, size_mm: float, *, enhances: bool) -> LesionMeasurement:
    """A ball; one that enhances is within a larger one of oedema."""
    whole, inner = (math.pi / 6 * (mm / 10) ** 3 for mm in (size_mm + 12, size_mm))
    volumes = {Region.WT: inner, Region.TC: 0.0, Region.ET: 0.0}
    if enhances:
        volumes = {Region.WT: whole, Region.TC: inner, Region.ET: inner}
    measurable = enhances and size_mm >= 10
    return LesionMeasurement(uid, ord(uid), f"place {uid}", volumes, size_mm, size_mm, measurable)


@st.composite
def examinations(draw: st.DrawFn) -> list[tuple[LesionMeasurement, ...]]:
    """Two to four examinations of up to four lesions, each there or not, of any size."""
    kinds = draw(st.lists(st.booleans(), min_size=1, max_size=4))
    size = st.none() | st.sampled_from(SIZES_MM)
    count = draw(st.integers(2, 4))
    sizes = [[draw(size) for _ in kinds] for _ in range(count)]
    return [
        tuple(ball("abcd"[n], mm, enhances=kinds[n]) for n, mm in enumerate(row) if mm is not None)
        for row in sizes
    ]


choices = st.builds(
    ResponseChoices,
    criterion=st.sampled_from(Criterion),
    disease=st.sampled_from(Disease),
    steroids=st.sampled_from([Steroids.SAME, Steroids.NONE]),
    clinical=st.just(Clinical.SAME),
)


@given(examinations(), choices, st.data())
def test_growth_never_improves_a_response(
    points: list[tuple[LesionMeasurement, ...]], chosen: ResponseChoices, data: st.DataObject
) -> None:
    *earlier, last = points
    before = propose(compared(*points), chosen).category
    if not last or before not in WORSE_LAST:
        return
    number = data.draw(st.integers(0, len(last) - 1))
    one, more = last[number], data.draw(st.sampled_from([1, 3, 6, 12]))
    enhances = one.measured_part is Region.ET
    grown = ball(one.tracking_uid, (one.longest_mm or 0) + more, enhances=enhances)
    after = propose(compared(*earlier, (*last[:number], grown, *last[number + 1 :])), chosen)
    if after.category in WORSE_LAST:
        assert WORSE_LAST.index(after.category) >= WORSE_LAST.index(before), after.steps


@given(examinations(), choices)
def test_new_measurable_enhancement_is_progression_of_any_disease(
    points: list[tuple[LesionMeasurement, ...]], chosen: ResponseChoices
) -> None:
    new = (*points[-1], ball("z", 20, enhances=True))
    draft = propose(compared(*points[:-1], new), chosen)
    assert draft.category is Response.PROGRESSION, draft.steps


@given(examinations(), choices)
def test_an_examination_like_the_baseline_changes_nothing(
    points: list[tuple[LesionMeasurement, ...]], chosen: ResponseChoices
) -> None:
    once, twice = (propose(compared(*of), chosen) for of in (points, [points[0], *points]))
    assert replace(once, steps=(), nadir=None) == replace(twice, steps=(), nadir=None)
