"""What a draft of a response says of the examinations that it rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.analysis.followup.test_response import (
    ENTERED,
    MIXED,
    A,
    R,
    compared,
    lesion,
    plain,
    sized,
    split_off,
)

from lesionlens.analysis.followup.compare import ORDER_UNKNOWN
from lesionlens.analysis.followup.response import propose
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.records.followup import Comparison, LesionMeasurement, percent
from lesionlens.base.records.response import Criterion, Disease, ResponseChoices

FIRST, SECOND = (
    "lens 2, weights 0123abcd, LesionLens 0.5",
    "lens 2, weights 89ab4567, LesionLens 0.5",
)


def made_by(*makers: str | None) -> Comparison:
    found = compared(*((A,) for _ in makers))
    points = tuple(
        replace(point, made_by=maker) for point, maker in zip(found.points, makers, strict=True)
    )
    return replace(found, points=points)


@pytest.mark.parametrize("choices", [ENTERED, MIXED, replace(ENTERED, nadir=1)])
def test_the_arithmetic_names_the_networks_where_they_differ(choices: ResponseChoices) -> None:
    draft = propose(made_by(FIRST, SECOND, SECOND), choices)
    said = f"2025-01-01: {FIRST}; 2025-02-01: {SECOND}; 2025-03-01: {SECOND}"
    assert said in draft.steps[0]
    assert draft.category is R.STABLE


@pytest.mark.parametrize(
    ("makers", "baseline", "named"),
    [
        ((FIRST, FIRST, FIRST), 0, False),
        ((FIRST, SECOND, SECOND), 1, False),  # not used
        ((FIRST, SECOND, FIRST), 0, True),  # the nadir was looked for there
        ((None, SECOND, SECOND), 0, False),  # of an earlier release: unknown
        ((None, FIRST, SECOND), 0, True),
    ],
)
def test_networks_of_examinations_from_the_baseline_on_count(
    makers: tuple[str | None, ...], baseline: int, named: bool
) -> None:
    draft = propose(made_by(*makers), replace(ENTERED, baseline=baseline))
    assert any("different networks" in step for step in draft.steps) is named


@pytest.mark.parametrize(("baseline", "doubtful"), [(0, True), (1, True), (0, False)])
@pytest.mark.parametrize("mirrored", [True, False])
def test_a_doubt_of_an_earlier_registration_is_not_forgotten(
    baseline: int, doubtful: bool, mirrored: bool
) -> None:
    """Lesions of the baseline are followed through all examinations since."""
    found = compared((A,), (A,), (A,))
    second = replace(found.points[1], doubtful=doubtful, mirrored=doubtful and mirrored)
    found = replace(found, points=(found.points[0], second, found.points[2]))
    draft = propose(found, replace(ENTERED, baseline=baseline))
    said = "seems mirrored" if mirrored else "is doubtful"
    there = doubtful and baseline == 0
    assert (said in draft.steps[0] and "2025-02-01" in draft.steps[0]) is there
    unknown = there and mirrored
    assert draft.category is (R.NOT_ASSESSABLE if unknown else R.STABLE)


@pytest.mark.parametrize("criterion", list(Criterion))
@pytest.mark.parametrize("percents", [24.96, 25, 25.04, -49.96, -50, -50.04, 39.96, -64.96, -65.04])
def test_the_shown_change_is_on_the_side_of_the_limit_that_was_decided(
    criterion: Criterion, percents: float
) -> None:
    """24.96% stood as +25.0% beside the limit of +25%, and was stable disease."""
    ratio = 1 + percents / 100
    big, small = lesion("a", 100, 100, 10.0), lesion("a", 100, 100 * ratio, 10 * ratio)
    draft = propose(compared((big,), (small,)), replace(ENTERED, criterion=criterion))
    for step in draft.steps[1:3]:
        shown = float(step.split("%")[0].split(", ")[-1])
        limit = float(step.split("limit ")[1].split("%")[0])
        beyond = shown >= limit if limit > 0 else shown <= limit
        wanted = R.PROGRESSION if limit > 0 else R.PARTIAL
        assert beyond is (draft.category is wanted), draft.steps


def test_an_unknown_order_of_the_examinations_is_stated_first() -> None:
    """Of two examinations of one day, shrinkage may be growth."""
    found = compared((lesion("a", 20, 20),), (lesion("a", 10, 10),))
    draft = propose(found, ENTERED, (ORDER_UNKNOWN,))
    assert draft.steps[0] == ORDER_UNKNOWN[0].lower() + ORDER_UNKNOWN[1:]
    assert draft.steps[1:] == propose(found, ENTERED).steps


def test_a_change_can_be_computed_from_the_sums_that_are_shown() -> None:
    """0.955 → 1.444 ml stood as 1.0 → 1.4 ml, +51.2%."""
    found = compared((lesion("a", 20, 20, 0.9552),), (lesion("a", 20, 20, 1.4441),))
    draft = propose(found, replace(ENTERED, criterion=Criterion.VOLUMETRIC))
    row = draft.steps[1]
    assert "0.96 → 1.44 ml, +51.2%" in row
    tiny = compared((lesion("a", 20, 20, 4.0),), (lesion("a", 5, 5, 0.03),))
    row = propose(tiny, replace(ENTERED, criterion=Criterion.VOLUMETRIC)).steps[1]
    assert "4.00 → 0.03 ml, -99.2%" in row
    assert percent(4.0, 0.03) == pytest.approx(-99.25)


def test_a_lesion_too_small_to_be_measured_is_not_shown_as_large_enough() -> None:
    """One of 9.7 mm stood as '12 × 10 mm; too small to be measured'."""
    found = compared((lesion("a", 20, 20),), (lesion("a", 20, 20), lesion("x", 12.3, 9.7)))
    assert "new: place x, 12.3 × 9.7 mm; too small to measure: follow up" in (
        propose(found, ENTERED).steps
    )


PLAIN = replace(ENTERED, disease=Disease.NON_ENHANCING)
B = plain("b", 30, 30)


@pytest.mark.parametrize(
    ("before", "now", "category", "words"),
    [
        ((B,), (B, lesion("x", 30, 30)), "PD", "new: place x, 30.0 × 30.0 mm; progression"),
        ((B,), (B, lesion("x", 8, 8, 0.3)), "SD", "diameters are of its enhancing part"),
        ((B, lesion("x", 12, 12)), (B, lesion("x", 30, 30)), "PD", "enhances more than on"),
        ((B, lesion("x", 8, 8, 0.3)), (B, lesion("x", 14, 14)), "PD", "enhances more than on"),
        ((B, lesion("x", 12, 12)), (B, lesion("x", 16, 30)), "SD", ""),
        ((B, lesion("x", 30, 30)), (B, lesion("x", 12, 12)), "SD", ""),
    ],
)
def test_enhancement_beside_non_enhancing_disease_is_no_matter_of_size_alone(
    before: tuple[LesionMeasurement, ...],
    now: tuple[LesionMeasurement, ...],
    category: str,
    words: str,
) -> None:
    """A new enhancing lesion of 30 mm was too small to be measured, one that grew was not named."""
    draft = propose(compared(before, now), PLAIN)
    assert draft.category == category, draft.steps
    assert any(words in step for step in draft.steps)
    assert any("enhances more" in s for s in draft.steps) is ("more" in words)
    assert not any("too small" in step for step in draft.steps)


@pytest.mark.parametrize(("enhancing", "category"), [(20.0, "PD"), (0.3, "SD")])
def test_a_target_that_enhances_more_progresses(enhancing: float, category: str) -> None:
    """Its whole volume was the same."""
    long = 30 if category == "PD" else 9
    before, now = sized("a", 8, 8, 60, 0.2), sized("a", long, long, 60, enhancing)
    chosen = replace(PLAIN, criterion=Criterion.VOLUMETRIC)
    assert propose(compared((before,), (now,)), chosen).category == category


def test_diameters_of_the_enhancing_part_are_not_called_too_small_in_mixed_disease() -> None:
    found = compared((lesion("a", 20, 20), B), (lesion("a", 20, 20), B, lesion("x", 13, 12)))
    draft = propose(found, MIXED)
    assert draft.category is R.PROGRESSION
    assert "new: place x, 13.0 × 12.0 mm; progression" in draft.steps
    assert not any("too small" in step for step in draft.steps)


@pytest.mark.parametrize(
    ("choices", "now", "named"),
    [
        (PLAIN, (30, 22), True),  # -26.7%
        (PLAIN, (30, 23), False),
        (PLAIN, (30, 14), False),  # partial
        (replace(ENTERED, disease=Disease.MIXED), (30, 22), True),
        (ENTERED, (30, 22), False),
    ],
)
def test_a_decrease_that_may_be_a_minor_response_says_that_none_is_proposed(
    choices: ResponseChoices, now: tuple[float, float], named: bool
) -> None:
    shrunk = lesion("b", *now) if choices is ENTERED else plain("b", *now)
    before = lesion("b", 30, 30) if choices is ENTERED else B
    draft = propose(compared((before, A), (shrunk, A)), choices)
    assert any("minor response" in step for step in draft.steps) is named


def test_a_decrease_of_exactly_25_percent_may_be_a_minor_response() -> None:
    """In floating point its change is -24.999999999999993%."""
    before, now = plain("b", 20.4, 20.2), plain("b", 20.2, 15.3)
    draft = propose(compared((before, A), (now, A)), PLAIN)
    assert any("minor response" in step for step in draft.steps)


def test_a_lesion_that_is_no_target_has_grown_by_exactly_5_mm() -> None:
    """In floating point, 17.4 - 12.4 is less than 5."""
    target, before, now = lesion("b", 30, 30), lesion("x", 12.4, 9), lesion("x", 17.4, 14)
    draft = propose(compared((target, before), (target, now)), ENTERED)
    assert draft.category is R.PROGRESSION


def test_an_enhancing_region_that_was_rejected_before_is_not_new_until_somebody_decides() -> None:
    then = replace(lesion("x", 30, 30), state=ReviewState.REJECTED)
    draft = propose(compared((B, then), (B, lesion("x", 30, 30))), PLAIN)
    assert draft.category is R.NOT_ASSESSABLE
    accepted = replace(lesion("x", 30, 30), state=ReviewState.ACCEPTED)
    assert propose(compared((B, then), (B, accepted)), PLAIN).category is R.PROGRESSION


@pytest.mark.parametrize(
    ("part", "choices", "category"),
    [
        (plain("p", 3, 2, 0.1), ENTERED, "PR"),
        (plain("p", 3, 2, 0.1), replace(PLAIN, criterion=Criterion.VOLUMETRIC), "NE"),
        (lesion("p", 8, 8, 0.3), ENTERED, "NE"),
        (lesion("p", 8, 8, None), ENTERED, "NE"),
    ],
)
@pytest.mark.parametrize("earlier", [True, False])
def test_a_part_without_the_disease_leaves_the_sum_known(
    part: LesionMeasurement, choices: ResponseChoices, category: str, *, earlier: bool
) -> None:
    """A few voxels of oedema that came apart from a target made its enhancing sum unknown."""
    target, smaller = lesion("a", 40, 40), lesion("a", 20, 20)
    piece = replace(part, id=2)
    if earlier:
        found = compared((target,), (target, piece), (smaller,))
        second = replace(found.points[1], tangled=("a", "p"))
        found = replace(found, points=(found.points[0], second, found.points[2]))
    else:
        found = split_off(compared((target,), (smaller, piece)), "p", 1)
    assert propose(found, choices).category == category
    if choices is ENTERED:
        assert (found.sums()[0] == (None, None)) is (category == "NE")


def test_both_kinds_of_mixed_disease_show_their_arithmetic_where_the_figures_are_alike() -> None:
    """The second one's was left out, as if nothing of it had been measured."""
    before = (lesion("a", 30, 30), plain("b", 30, 30))
    after = (lesion("a", 30, 14), plain("b", 30, 14))
    steps = propose(compared(before, after), MIXED).steps
    assert sum("900 → 420 mm², -53.3% (limit -50%)" in step for step in steps) == 2
    assert steps.count("to be confirmed after four weeks or more") == 1


def test_an_unknown_sum_that_may_be_the_nadir_is_named() -> None:
    """The smallest of the known ones was the nadir without a word, and growth since stable."""
    rejected = replace(lesion("a", 20, 10), state=ReviewState.REJECTED)
    found = compared((A,), (rejected,), (lesion("a", 20, 20),))
    draft = propose(found, ENTERED)
    assert (draft.category, draft.nadir) == (R.PARTIAL, 0)
    assert draft.steps[0].startswith("the sum is unknown on 2025-02-01, which may be the nadir")
    assert "nadir" not in propose(found, replace(ENTERED, nadir=0)).steps[0]
    known = compared((A,), (lesion("a", 20, 10),), (lesion("a", 20, 20),))
    assert "unknown" not in " ".join(propose(known, ENTERED).steps)


T = tuple(lesion(f"t{n}", 40, 40) for n in range(3))


def merged(*examinations: tuple[LesionMeasurement, ...], kept: str, gone: str) -> Comparison:
    """Compare examinations of which the last one shows two lesions as one."""
    found = compared(*examinations)
    now = next(one for one in examinations[-1] if one.tracking_uid == kept)
    changes = tuple(
        replace(c, beside=(now.id,)) if c.before and c.before.tracking_uid == gone else c
        for c in found.changes
    )
    return replace(found, changes=changes)


@pytest.mark.parametrize(
    ("x", "y", "now", "choices"),
    [
        (lesion("x", 15, 15), lesion("y", 15, 15), lesion("x", 32, 21), ENTERED),
        (lesion("x", 9, 9, 0.4), lesion("y", 9, 9, 0.4), lesion("x", 20, 15), ENTERED),
        (lesion("x", 12, 12), lesion("y", 12, 12), lesion("x", 26, 18), PLAIN),
        (plain("x", 12, 12), lesion("y", 12, 12), lesion("x", 12, 12), PLAIN),
    ],
)
def test_lesions_that_merged_have_not_grown_for_that(
    x: LesionMeasurement, y: LesionMeasurement, now: LesionMeasurement, choices: ResponseChoices
) -> None:
    """Two that are no targets came to touch: progression."""
    others = T if choices is ENTERED else (B,)
    x, y, now = replace(x, id=21), replace(y, id=22), replace(now, id=21)
    draft = propose(merged((*others, x, y), (*others, now), kept="x", gone="y"), choices)
    target = x.volume_ml[Region.ET] == 0  # of non-enhancing disease: its sum is unknown
    assert draft.category is (R.NOT_ASSESSABLE if target else R.STABLE), draft.steps
    assert any("place x" in s and "its growth is unknown" in s for s in draft.steps)


def test_a_merged_lesion_that_enhances_where_none_of_them_did_progresses() -> None:
    x, y, now = replace(plain("x", 12, 12), id=21), plain("y", 12, 12), lesion("x", 14, 14)
    found = merged((B, x, y), (B, replace(now, id=21)), kept="x", gone="y")
    draft = propose(found, PLAIN)
    assert draft.category is R.PROGRESSION
    assert any(step.startswith("enhances now") for step in draft.steps)


@pytest.mark.parametrize(
    ("size", "category", "words"),
    [((20, 20), R.PROGRESSION, "progression"), ((8, 8), R.STABLE, "too small to measure")],
)
@pytest.mark.parametrize("choices", [ENTERED, MIXED])
def test_what_began_to_enhance_is_not_said_to_be_new(
    choices: ResponseChoices, size: tuple[float, float], category: R, words: str
) -> None:
    """It was flagged, and is drawn in the curves, at the baseline: "not flagged as tumour"."""
    before, now = (A, plain("x", 30, 30)), (A, lesion("x", *size))
    for examinations in ((before, now), (before, before, now), (before, now, now)):
        draft = propose(compared(*examinations), choices)
        line = next(step for step in draft.steps if "place x" in step)
        assert line.startswith("enhances now but not on 2025-01-01: place x")
        assert words in line
        if choices is ENTERED:
            assert draft.category is category
