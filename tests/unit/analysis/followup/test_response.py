"""RANO 2.0 by table: thresholds, and what keeps a category from being proposed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lesionlens.analysis.followup.response import propose, sign
from lesionlens.analysis.followup.response_case import STEPS
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region, ReviewState
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    ChangeKind,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.response import (
    Clinical,
    Criterion,
    Disease,
    Response,
    ResponseChoices,
    Steroids,
)

LEVEL = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))
ALIGNED = Alignment(LEVEL, 0, 0, False, "t1c")
ENTERED = ResponseChoices(steroids=Steroids.SAME, clinical=Clinical.SAME)
R = Response


def lesion(uid: str, long: float, short: float, ml: float | None = 4.0) -> LesionMeasurement:
    measurable = None if ml is None else ml > 0 and min(long, short) >= 10
    volumes = {Region.WT: 30.0, Region.TC: 10.0, Region.ET: ml}
    return LesionMeasurement(uid, 1, f"place {uid}", volumes, long, short, measurable)


def compared(
    *examinations: tuple[LesionMeasurement, ...], contrast: bool | None = True
) -> Comparison:
    points = tuple(
        TimePoint(f"2025-0{n}-01", None, lesions, contrast)
        for n, lesions in enumerate(examinations, 1)
    )
    before, now = ({m.tracking_uid: m for m in p.lesions} for p in points[-2:])
    uids = dict.fromkeys([*now, *before])
    changes = tuple(Change(before.get(u), now.get(u)) for u in uids)
    return Comparison(points, changes, ALIGNED)


@pytest.mark.parametrize(
    ("before", "now", "category"),
    [
        ((20, 20), (20, 10), R.PARTIAL),  # -50%
        ((20, 20), (20, 10.2), R.STABLE),  # -49%
        ((20, 20), (25, 20), R.PROGRESSION),  # +25%
        ((20, 20), (24.8, 20), R.STABLE),  # +24%
        ((20, 20), (20, 20), R.STABLE),
    ],
)
def test_products_by_the_published_limits(
    before: tuple[float, float], now: tuple[float, float], category: Response
) -> None:
    found = compared((lesion("a", *before),), (lesion("a", *now),))
    draft = propose(found, ENTERED)
    assert draft.category is category
    assert any("mm²" in step and "limit" in step for step in draft.steps)


@pytest.mark.parametrize("fewer", [Steroids.SAME, Steroids.LOWER])
def test_a_target_that_enhances_again_is_progression(fewer: Steroids) -> None:
    """Its oedema was still flagged, so only the sum counted, which had shrunk: stable."""
    large, small = lesion("a", 30, 30), lesion("b", 11, 11)
    found = compared((large, small), (large, lesion("b", 40, 30, 0.0)), (large, small))
    draft = propose(found, replace(ENTERED, steroids=fewer))
    assert draft.category is R.PROGRESSION
    assert any("enhances now but not on 2025-02-01: place b" in step for step in draft.steps)
    tiny = compared(found.points[0].lesions, found.points[1].lesions, (large, lesion("b", 9, 9)))
    assert propose(tiny, ENTERED).category is R.STABLE


@pytest.mark.parametrize("fewer", [Steroids.SAME, Steroids.LOWER])
def test_a_target_that_the_nadir_does_not_show_is_back_and_counted(fewer: Steroids) -> None:
    """As a lesion of another name it was missing in the sum: -12% of the baseline."""
    large, small = lesion("a", 30, 30), lesion("b", 11, 11)
    found = compared((large, small), (large,), (large, small))
    draft = propose(found, replace(ENTERED, steroids=fewer))
    assert draft.category is R.PROGRESSION
    assert any("baseline 2025-01-01: 1021 → 1021 mm²" in step for step in draft.steps)
    assert any("not flagged as tumour on 2025-02-01: place b" in step for step in draft.steps)


@pytest.mark.parametrize(
    ("ml", "category"),
    [(3.5, R.PARTIAL), (3.6, R.STABLE), (14.0, R.PROGRESSION), (13.9, R.STABLE)],
)
def test_volumes_by_the_published_limits(ml: float, category: Response) -> None:
    found = compared((lesion("a", 20, 20, 10.0),), (lesion("a", 20, 20, ml),))
    chosen = replace(ENTERED, criterion=Criterion.VOLUMETRIC)
    assert propose(found, chosen).category is category


def test_a_target_that_grows_clearly_counts_in_the_sum_alone() -> None:
    large, small = lesion("a", 60, 60), replace(lesion("b", 30, 30), id=2)
    draft = propose(compared((large, small), (large, lesion("b", 36, 36))), ENTERED)
    assert draft.category is R.STABLE  # 4500 → 4896 mm²
    assert not any("non-target" in step for step in draft.steps)


NON_ENHANCING = replace(ENTERED, disease=Disease.NON_ENHANCING)


@pytest.mark.parametrize(("short", "targets"), [(9.9, 0), (10.0, 1)])
def test_a_target_measures_10_mm_across_both_diameters(short: float, targets: int) -> None:
    found = compared((plain("a", 30, short),), (plain("a", 30, short),))
    step = propose(found, NON_ENHANCING).steps[0]
    assert step.startswith("1 measurable target" if targets else "no measurable non-enhancing")


@pytest.mark.parametrize(("ml", "targets"), [(0.5, 0), (0.53, 1)])
def test_a_volume_below_that_of_10_mm_is_no_target(ml: float, targets: int) -> None:
    """Where the diameters are of the enhancing part."""
    volumes = {Region.WT: ml, Region.TC: 0.3, Region.ET: 0.2}
    one = (replace(lesion("a", 20, 20), volume_ml=volumes),)
    volumetric = replace(NON_ENHANCING, criterion=Criterion.VOLUMETRIC)
    step = propose(compared(one, one), volumetric).steps[0]
    assert step.startswith("1 measurable target" if targets else "no measurable non-enhancing")


def test_non_enhancing_disease_is_judged_without_contrast_also_where_nothing_is_left() -> None:
    found = compared((plain("a", 30, 30),), (), contrast=False)
    draft = propose(found, replace(NON_ENHANCING, steroids=Steroids.NONE))
    assert draft.category is R.COMPLETE
    assert propose(found, ENTERED).category is R.NOT_ASSESSABLE


def test_mixed_disease_waits_for_the_steroids_that_either_kind_needs() -> None:
    found = compared((lesion("a", 20, 20), plain("b", 30, 30)), (plain("b", 30, 30),))
    draft = propose(found, replace(MIXED, steroids=Steroids.UNKNOWN))
    assert (draft.category, draft.missing) == (None, ("steroids",))
    grown = compared(found.points[0].lesions, (lesion("a", 20, 20), plain("c", 30, 30)))
    assert propose(grown, replace(MIXED, steroids=Steroids.UNKNOWN)).category is R.PROGRESSION


@pytest.mark.parametrize(
    ("ml", "category"),
    [(1.45, R.PROGRESSION), (1.35, R.STABLE)],  # a ball of 8.9 mm, then of 14.0 or 13.7 mm
)
def test_another_lesion_grows_by_volume_if_its_diameters_are_of_its_enhancing_part(
    ml: float, category: Response
) -> None:
    large = replace(plain("a", 60, 60), volume_ml={Region.WT: 60.0, Region.ET: 0.0})
    sizes = [{Region.WT: 3.0 + size, Region.ET: 3.0} for size in (0.37, ml)]
    before, now = (replace(lesion("b", 12, 12), id=2, volume_ml=size) for size in sizes)
    chosen = replace(MIXED, criterion=Criterion.VOLUMETRIC)
    others = tuple(replace(large, tracking_uid=uid) for uid in "cd")
    found = compared((large, *others, before), (large, *others, now))
    assert propose(found, chosen).category is category


def test_a_lesion_of_unknown_volume_leaves_mixed_disease_unjudged() -> None:
    one = replace(lesion("a", 20, 20), volume_ml={Region.WT: None, Region.ET: 4.0})
    assert propose(compared((one,), (one,)), MIXED).category is R.NOT_ASSESSABLE


def test_an_examination_without_a_date_is_named_by_its_order() -> None:
    one = (lesion("a", 20, 20),)
    found = compared(one, one)
    undated = (replace(found.points[0], date=""), found.points[1])
    draft = propose(replace(found, points=undated), ENTERED)
    assert draft.steps[1].startswith("baseline examination 1: 400 → 400 mm²")


def test_a_worse_patient_whose_sum_is_unknown_has_progressed_and_the_reason_is_named() -> None:
    found = compared((lesion("a", 20, 20),), (), contrast=False)
    draft = propose(found, replace(ENTERED, clinical=Clinical.WORSE))
    assert draft.category is R.PROGRESSION
    assert STEPS["worse"] in draft.steps
    assert STEPS["worse"] not in propose(found, ENTERED).steps


def test_a_target_measured_by_another_part_has_no_sum_and_is_not_gone() -> None:
    found = compared((lesion("a", 20, 20, 0.0),), (lesion("a", 8, 8, 1.0),))
    draft = propose(found, replace(ENTERED, disease=Disease.NON_ENHANCING))
    assert (draft.category, draft.steps) == (R.NOT_ASSESSABLE, (STEPS["parts"],))


def test_a_change_from_nothing_is_stated_without_percent() -> None:
    found = compared((lesion("a", 20, 20),), (), (lesion("a", 20, 20),))
    line = "nadir 2025-02-01: 0.00 → 400 mm², no change in percent from 0"
    assert line in propose(found, ENTERED).steps


@pytest.mark.parametrize(
    ("ml", "text"), [(9.994, "9.99"), (10.04, "10.0"), (99.94, "99.9"), (100.4, "100")]
)
def test_sums_have_three_figures(ml: float, text: str) -> None:
    found = compared((lesion("a", 20, 20, ml),), (lesion("a", 20, 20, ml),))
    draft = propose(found, replace(ENTERED, criterion=Criterion.VOLUMETRIC))
    assert any(f": {text} → {text} ml" in step for step in draft.steps)


def test_response_is_against_the_baseline_and_progression_against_the_nadir() -> None:
    found = compared(
        (lesion("a", 40, 40),), (lesion("a", 20, 10),), (lesion("a", 20, 14),)
    )  # 1600, 200, 280: -82% and +40%
    draft = propose(found, ENTERED)
    assert (draft.category, draft.nadir) == (R.PROGRESSION, 1)
    assert "1600 → 280" in draft.steps[1]
    assert "200 → 280" in draft.steps[2]
    assert propose(found, replace(ENTERED, nadir=0)).category is R.PARTIAL
    assert propose(found, replace(ENTERED, baseline=1)).category is R.PROGRESSION


@pytest.mark.parametrize(
    ("steroids", "clinical", "category"),
    [
        (Steroids.NONE, Clinical.SAME, R.COMPLETE),
        (Steroids.STOPPED, Clinical.BETTER, R.COMPLETE),
        (Steroids.LOWER, Clinical.SAME, R.PARTIAL),
        (Steroids.HIGHER, Clinical.SAME, R.NOT_ASSESSABLE),
        (Steroids.NONE, Clinical.WORSE, R.PROGRESSION),
        (Steroids.UNKNOWN, Clinical.SAME, None),
        (Steroids.NONE, Clinical.UNKNOWN, None),
    ],
)
def test_what_is_gone_needs_steroids_and_state(
    steroids: Steroids, clinical: Clinical, category: Response | None
) -> None:
    found = compared((lesion("a", 20, 20),), ())
    draft = propose(found, ResponseChoices(steroids=steroids, clinical=clinical))
    assert draft.category is category
    assert bool(draft.missing) is (category is None)


@pytest.mark.parametrize(
    ("steroids", "category"),
    [
        (Steroids.SAME, R.PROGRESSION),
        (Steroids.HIGHER, R.PROGRESSION),
        (Steroids.LOWER, R.NOT_ASSESSABLE),
        (Steroids.STOPPED, R.NOT_ASSESSABLE),
        (Steroids.UNKNOWN, None),
    ],
)
def test_growth_on_fewer_steroids_is_not_called(
    steroids: Steroids, category: Response | None
) -> None:
    found = compared((lesion("a", 20, 20),), (lesion("a", 30, 20),))
    assert propose(found, replace(ENTERED, steroids=steroids)).category is category


@pytest.mark.parametrize(("new", "category"), [((10, 10), R.PROGRESSION), ((12, 9), R.STABLE)])
def test_a_new_lesion_counts_where_it_can_be_measured(
    new: tuple[float, float], category: Response
) -> None:
    one = lesion("a", 20, 20)
    draft = propose(compared((one,), (one, lesion("b", *new))), ENTERED)
    assert draft.category is category
    assert any(step.startswith("new: place b") for step in draft.steps)


def test_a_new_lesion_that_a_reader_rejected_does_not_count() -> None:
    one, other = lesion("a", 20, 20), replace(lesion("b", 20, 20), state=ReviewState.REJECTED)
    assert propose(compared((one,), (one, other)), ENTERED).category is R.STABLE


@pytest.mark.parametrize(
    ("now", "category"), [((14, 14), R.PROGRESSION), ((12, 12), R.STABLE), ((7, 7), R.STABLE)]
)
def test_what_could_not_be_measured_progresses_by_clear_growth(
    now: tuple[float, float], category: Response
) -> None:
    draft = propose(compared((lesion("a", 8, 8),), (lesion("a", *now),)), ENTERED)
    assert draft.category is category


def test_disease_that_cannot_be_measured_never_responds() -> None:
    draft = propose(compared((lesion("a", 8, 8),), ()), replace(ENTERED, steroids=Steroids.NONE))
    assert draft.category is R.STABLE


def test_without_t1c_enhancing_disease_is_not_assessable() -> None:
    found = compared((lesion("a", 20, 20),), (lesion("a", 20, 10, None),), contrast=False)
    draft = propose(found, ENTERED)
    assert draft.category is R.NOT_ASSESSABLE
    assert "no T1c" in draft.steps[0]
    whole = replace(ENTERED, disease=Disease.NON_ENHANCING, criterion=Criterion.VOLUMETRIC)
    assert propose(found, whole).category is R.STABLE


@pytest.mark.parametrize("contrast", [False, None])
def test_nothing_flagged_without_t1c_is_no_response(contrast: bool | None) -> None:
    draft = propose(compared((lesion("a", 20, 20),), (), contrast=contrast), ENTERED)
    assert draft.category is R.NOT_ASSESSABLE


def test_no_more_than_three_targets_are_summed() -> None:
    many = tuple(lesion(str(n), 20 + n, 10) for n in range(5))
    assert "3 measurable targets" in propose(compared(many, many), ENTERED).steps[0]


def test_a_target_that_merged_has_no_sum() -> None:
    one, other = lesion("a", 20, 20), lesion("b", 30, 20)
    found = compared((one, replace(other, id=2)), (replace(other, id=2),))
    changes = tuple(replace(c, beside=(2,)) if c.now is None else c for c in found.changes)
    assert ChangeKind.MERGED in [c.kind for c in changes]
    merged = replace(found, changes=changes)
    assert propose(merged, ENTERED).category is R.NOT_ASSESSABLE
    assert found.sums()[0] == (1000, 8.0)
    assert merged.sums()[0] == (None, None)


def split_off(found: Comparison, uid: str, parent: int) -> Comparison:
    changes = (
        replace(c, beside=(parent,)) if c.now is not None and c.now.tracking_uid == uid else c
        for c in found.changes
    )
    return replace(found, changes=tuple(changes))


@pytest.mark.parametrize(
    ("parent", "part", "category", "words"),
    [
        (lesion("b", 12, 12), (12, 12), R.STABLE, "split off: place c"),
        (lesion("b", 9, 9), (12, 12), R.STABLE, "by less than 5 mm"),
        (lesion("b", 9, 9), (15, 15), R.PROGRESSION, "not measurable before: place c"),
        (lesion("b", 9, 9), (8, 8), R.STABLE, "split off: place c"),
        (lesion("b", 30, 30, 0.0), (12, 12), R.PROGRESSION, "new: place c"),
    ],
)
def test_a_part_of_an_earlier_lesion_is_no_new_one(
    parent: LesionMeasurement, part: tuple[float, float], category: Response, words: str
) -> None:
    """Unless that lesion had no such disease."""
    targets = tuple(replace(lesion(f"t{n}", 40, 40), id=n + 7) for n in range(3))
    parent, piece = replace(parent, id=2), replace(lesion("c", *part), id=3)
    found = split_off(compared((*targets, parent), (*targets, parent, piece)), "c", 2)
    draft = propose(found, ENTERED)
    assert draft.category is category
    assert any(words in step for step in draft.steps)


def test_a_target_that_split_before_the_prior_has_no_sum() -> None:
    """The part that kept its name shrank, the disease did not."""
    half, other = lesion("a", 20, 20), replace(lesion("b", 20, 20), id=2)
    found = compared((lesion("a", 30, 30),), (half, other), (half, other))
    points = list(found.points)
    points[1] = replace(points[1], tangled=("a", "b"))
    draft = propose(replace(found, points=tuple(points)), ENTERED)
    assert draft.category is R.NOT_ASSESSABLE
    assert "merged with another region or split" in draft.steps[0]
    since = replace(ENTERED, baseline=1)
    assert propose(replace(found, points=tuple(points)), since).category is R.STABLE


def test_a_target_that_a_reader_rejects_is_not_gone() -> None:
    """It is flagged still: whether it was a tumour at the baseline is for the reader to say."""
    one, other = lesion("a", 30, 30), replace(lesion("b", 20, 20), id=2)
    rejected = replace(one, state=ReviewState.REJECTED)
    for now in ((rejected,), (rejected, other)):
        found = compared((one, other), now)
        draft = propose(found, replace(ENTERED, steroids=Steroids.NONE))
        assert draft.category is R.NOT_ASSESSABLE
        assert "place a counts as tumour at the baseline, not on 2025-02-01" in draft.steps[0]
        assert found.targets() == ("b",)
    assert found.sums() == ((400, 4.0), (400, 4.0))
    then = compared((rejected, other), (one, other))  # no tumour then: its sum is unknown
    assert then.sums() == ((None, None), (1300, 8.0))
    between = compared((one, other), (rejected, other), (one, other))
    assert propose(between, ENTERED).category is R.STABLE  # and its sum is no nadir
    dark = replace(rejected, volume_ml={**one.volume_ml, Region.ET: 0.0})
    between = compared((one, other), (dark, other), (one, other))
    draft = propose(between, replace(ENTERED, nadir=1))
    assert draft.category is R.NOT_ASSESSABLE
    assert "place a counts as tumour at the baseline, not on 2025-02-01" in draft.steps[0]


def test_the_sum_of_enhancing_targets_is_unknown_where_there_is_no_t1c() -> None:
    """Nothing was flagged on a scan without the agent: -100%, and a smallest sum of 0."""
    one = lesion("a", 20, 20)
    points = list(compared((one,), (), (one,)).points)
    points[1] = replace(points[1], contrast=False)
    found = Comparison(tuple(points), (Change(None, one),), ALIGNED)
    assert found.sums() == ((400, 4.0), (None, None), (400, 4.0))


@pytest.mark.parametrize("wrong", [{"baseline": 1}, {"baseline": -1}, {"nadir": 1}])
def test_examinations_that_cannot_be_compared_with_are_refused(wrong: dict[str, int]) -> None:
    one = (lesion("a", 20, 20),)
    with pytest.raises(UnusableInputError, match="before the last"):
        propose(compared(one, one), replace(ENTERED, **wrong))


def test_the_readers_category_is_signed_by_name() -> None:
    one = (lesion("a", 20, 20),)
    found = compared(one, one)
    draft = propose(found, ENTERED)
    signed = sign(draft, found, R.PROGRESSION, "A. Reader", "2026-01-05T10:15:00Z")
    assert (signed.category, signed.proposed) == (R.PROGRESSION, R.STABLE)
    assert signed.baseline == signed.nadir == "2025-01-01"
    with pytest.raises(UnusableInputError, match="no reader"):
        sign(draft, found, R.STABLE, " ", "")


def plain(uid: str, long: float, short: float, ml: float = 30.0) -> LesionMeasurement:
    """A lesion that does not enhance."""
    volumes = {Region.WT: ml, Region.TC: 0.0, Region.ET: 0.0}
    return LesionMeasurement(uid, 1, f"place {uid}", volumes, long, short, min(long, short) >= 10)


MIXED = replace(ENTERED, disease=Disease.MIXED)


@pytest.mark.parametrize(
    ("enhancing", "other", "category"),
    [
        ((20, 20), (30, 30), R.STABLE),
        ((20, 10), (30, 30), R.PARTIAL),
        ((20, 20), (30, 15), R.PARTIAL),
        ((20, 10), (38, 30), R.PROGRESSION),
        ((25, 20), (30, 10), R.PROGRESSION),
        (None, (30, 30), R.STABLE),  # by RANO 2.0: complete and stable is stable
        (None, (30, 15), R.PARTIAL),
        ((20, 20), None, R.PARTIAL),  # around the enhancing part is some left
        (None, None, R.COMPLETE),
    ],
)
def test_mixed_disease_has_sums_of_each_kind(
    enhancing: tuple[float, float] | None, other: tuple[float, float] | None, category: Response
) -> None:
    now = (lesion("a", *enhancing),) if enhancing else ()
    now += (plain("b", *other),) if other else ()
    found = compared((lesion("a", 20, 20), plain("b", 30, 30)), now)
    draft = propose(found, replace(MIXED, steroids=Steroids.NONE))
    assert draft.category is category
    assert any(step.startswith("non-enhancing") for step in draft.steps)


def test_mixed_disease_has_two_targets_of_each_kind() -> None:
    before = tuple(lesion(uid, 20, 20) for uid in "abc") + tuple(plain(u, 30, 30) for u in "def")
    draft = propose(compared(before, before), MIXED)
    assert sum(step.startswith("2 measurable targets") for step in draft.steps) == 2
    assert "baseline 2025-01-01: 800 → 800 mm², +0.0% (limit -50%)" in draft.steps
    assert "baseline 2025-01-01: 1800 → 1800 mm², +0.0% (limit -50%)" in draft.steps
    alone = propose(compared(before, before), ENTERED)
    assert alone.steps[0] == "3 measurable targets, sum in mm²"
    one = propose(compared(before[:1], before[:1]), ENTERED)
    assert one.steps[0] == "1 measurable target, sum in mm²"


def test_beside_enhancing_disease_the_rest_of_the_region_is_measured_in_millilitres() -> None:
    chosen = replace(MIXED, criterion=Criterion.VOLUMETRIC)
    now = replace(lesion("a", 20, 20), volume_ml={Region.WT: 14.0, Region.TC: 6.0, Region.ET: 5.0})
    draft = propose(compared((lesion("a", 20, 20),), (now,)), chosen)
    assert any("4.00 → 5.00 ml, +25.0%" in step for step in draft.steps)
    assert any("26.0 → 9.00 ml, -65.4%" in step for step in draft.steps)
    assert draft.category is R.PARTIAL


def test_mixed_disease_without_contrast_is_not_assessable() -> None:
    one = lesion("a", 20, 20, None)
    assert propose(compared((one,), (one,)), MIXED).category is R.NOT_ASSESSABLE


def test_each_kind_has_its_own_nadir() -> None:
    found = compared(
        (lesion("a", 40, 40), plain("b", 20, 20)),
        (lesion("a", 20, 20), plain("b", 30, 30)),
        (lesion("a", 20, 21), plain("b", 30, 30)),
    )
    draft = propose(found, MIXED)
    assert draft.nadir is None
    assert "nadir 2025-02-01" in " ".join(draft.steps)
    assert "nadir 2025-01-01" in " ".join(draft.steps)
    signed = sign(draft, found, R.PROGRESSION, "A. Reader", "2026-01-01T00:00:00+00:00")
    assert signed.nadir == "the smallest sum of each kind"


def sized(uid: str, long: float, short: float, whole: float, enhancing: float) -> LesionMeasurement:
    """A lesion whose diameters are of the enhancing part, if there is one, else of the whole."""
    volumes = {Region.WT: whole, Region.TC: enhancing, Region.ET: enhancing}
    measurable = enhancing > 0 and min(long, short) >= 10
    return LesionMeasurement(uid, 1, f"place {uid}", volumes, long, short, measurable)


PLAIN = replace(ENTERED, disease=Disease.NON_ENHANCING)


@pytest.mark.parametrize(
    ("before", "choices", "category"),
    [
        (sized("a", 20, 20, 30, 4), replace(MIXED, steroids=Steroids.NONE), R.STABLE),
        (sized("a", 8, 8, 30, 0.2), replace(MIXED, steroids=Steroids.NONE), R.STABLE),
        (sized("a", 8, 8, 30, 0.2), PLAIN, R.NOT_ASSESSABLE),
    ],
)
def test_enhancement_that_vanished_is_no_growth_of_the_rest(
    before: LesionMeasurement, choices: ResponseChoices, category: Response
) -> None:
    """The diameters of the whole were compared with those of the enhancing part: progression."""
    draft = propose(compared((before,), (sized("a", 40, 40, 26, 0),)), choices)
    assert draft.category is category
    assert any("its growth is unknown" in s or "enhancing part on" in s for s in draft.steps)


@pytest.mark.parametrize(
    ("whole", "category"), [(120, R.PROGRESSION), (60, R.STABLE), (15, R.PARTIAL)]
)
def test_a_whole_region_is_measured_by_volume_whatever_enhances(
    whole: float, category: Response
) -> None:
    """Its diameters are of the enhancing part, of 8 mm."""
    found = compared((sized("a", 8, 8, 60, 0.2),), (sized("a", 8, 8, whole, 0.2),))
    draft = propose(found, replace(PLAIN, criterion=Criterion.VOLUMETRIC))
    assert draft.category is category
    assert draft.steps[0].startswith("1 measurable target")


@pytest.mark.parametrize(
    ("now", "category"), [((25, 25, 8), R.PROGRESSION), ((9, 9, 0.3), R.STABLE)]
)
def test_a_region_that_begins_to_enhance_measurably_progresses(
    now: tuple[float, float, float], category: Response
) -> None:
    long, short, enhancing = now
    found = compared((sized("a", 40, 40, 60, 0),), (sized("a", long, short, 60, enhancing),))
    draft = propose(found, replace(PLAIN, criterion=Criterion.VOLUMETRIC))
    assert draft.category is category


TARGETS_OF_THREE = tuple(lesion(f"t{n}", 40, 40) for n in range(3))


@pytest.mark.parametrize(
    ("now", "category"), [((40, 40), R.PROGRESSION), ((22, 19), R.STABLE), ((8, 8), R.STABLE)]
)
def test_a_measurable_lesion_that_is_no_target_progresses_by_clear_growth(
    now: tuple[float, float], category: Response
) -> None:
    before, after = lesion("x", 15, 15), lesion("x", *now)
    found = compared((*TARGETS_OF_THREE, before), (*TARGETS_OF_THREE, after))
    draft = propose(found, ENTERED)
    assert draft.category is category
    assert any("non-target: place x" in s for s in draft.steps) is (category is R.PROGRESSION)


A, SMALLER = lesion("a", 40, 40), lesion("a", 20, 20)


@pytest.mark.parametrize(
    ("examinations", "category"),
    [
        ([(A,), (SMALLER,), (SMALLER, lesion("b", 15, 15)), (SMALLER, lesion("b", 30, 30))], "PD"),
        ([(A,), (SMALLER, lesion("b", 15, 15)), (SMALLER, lesion("b", 15, 15))], "PD"),
        ([(A,), (A, lesion("b", 8, 8)), (A, lesion("b", 16, 16))], "PD"),
        ([(A,), (SMALLER, lesion("b", 8, 8)), (SMALLER, lesion("b", 8, 8))], "PR"),
        ([(A, lesion("b", 9, 9)), (SMALLER,), (SMALLER, lesion("b", 16, 16))], "PD"),
    ],
)
def test_a_lesion_that_came_between_baseline_and_now_counts_as_new(
    examinations: list[tuple[LesionMeasurement, ...]], category: str
) -> None:
    """It was no longer new at the next examination: a partial response was proposed."""
    draft = propose(compared(*examinations), ENTERED)
    assert draft.category == category
    assert any("not flagged as tumour on 2025-0" in step for step in draft.steps)


def test_a_part_that_split_off_earlier_is_not_new_later() -> None:
    part = lesion("b", 15, 15)
    found = compared((A,), (A, part), (A, part))
    points = list(found.points)
    points[1] = replace(points[1], tangled=("b",))
    draft = propose(replace(found, points=tuple(points)), ENTERED)
    assert draft.category is R.STABLE
    assert any(step.startswith("split off: place b") for step in draft.steps)


@pytest.mark.parametrize(
    ("state", "category"),
    [
        (ReviewState.UNREVIEWED, R.NOT_ASSESSABLE),
        (ReviewState.REJECTED, R.STABLE),
        (ReviewState.ACCEPTED, R.PROGRESSION),
    ],
)
def test_what_a_reader_rejected_before_is_not_new_until_somebody_decides(
    state: ReviewState, category: Response
) -> None:
    other = replace(lesion("b", 20, 20), id=2)
    rejected = replace(other, state=ReviewState.REJECTED)
    found = compared((A, rejected), (A, replace(other, state=state)))
    draft = propose(found, ENTERED)
    assert draft.category is category
    assert not any(step.startswith("new") for step in draft.steps)


def test_what_was_rejected_before_the_baseline_and_returns_is_not_new_until_somebody_decides() -> (
    None
):
    """It vanished at the baseline, and its return was proposed as progression."""
    rejected = replace(lesion("b", 20, 20), id=2, state=ReviewState.REJECTED)
    found = compared((A, rejected), (A,), (A, replace(rejected, state=ReviewState.UNREVIEWED)))
    draft = propose(found, replace(ENTERED, baseline=1))
    assert draft.category is R.NOT_ASSESSABLE
    assert "did not count as tumour" in draft.steps[-1]
    accepted = compared((A, rejected), (A,), (A, replace(rejected, state=ReviewState.ACCEPTED)))
    assert propose(accepted, replace(ENTERED, baseline=1)).category is R.PROGRESSION


def test_after_surgery_no_response_is_proposed_against_a_baseline_before_it() -> None:
    found = compared((A,), (SMALLER,), (lesion("a", 20, 9),))
    points = (found.points[0], *(replace(p, cavity_ml=25.0) for p in found.points[1:]))
    operated = replace(found, points=points)
    draft = propose(operated, ENTERED)
    assert draft.category is R.NOT_ASSESSABLE
    assert "resection cavity" in draft.steps[-1]
    assert propose(operated, replace(ENTERED, baseline=1)).category is R.PARTIAL


def test_stable_disease_needs_stable_or_fewer_steroids() -> None:
    found = compared((A,), (A,))
    for steroids, category in (
        (Steroids.HIGHER, R.NOT_ASSESSABLE),
        (Steroids.LOWER, R.STABLE),
        (Steroids.SAME, R.STABLE),
    ):
        assert propose(found, replace(ENTERED, steroids=steroids)).category is category


def test_an_outline_without_parts_is_not_said_to_lack_t1c() -> None:
    found = compared((lesion("a", 20, 20, None),), (lesion("a", 20, 20),))
    draft = propose(found, ENTERED)
    assert draft.category is R.NOT_ASSESSABLE
    assert "no T1c" not in draft.steps[0]
    assert "does not distinguish it" in draft.steps[0]


@pytest.mark.parametrize(("mirrored", "words"), [(True, "seems mirrored"), (False, "is doubtful")])
@pytest.mark.parametrize("choices", [ENTERED, MIXED])
def test_a_doubtful_or_mirrored_prior_is_named_first(
    choices: ResponseChoices, mirrored: bool, words: str
) -> None:
    """In the dialog, on the command line and in what is signed."""
    found = compared((A,), (A,))
    laid = replace(ALIGNED, doubtful=True, mirrored=mirrored)
    draft = propose(replace(found, alignment=laid), choices)
    assert words in draft.steps[0]
    assert words not in propose(found, choices).steps[0]
    assert draft.category is (R.NOT_ASSESSABLE if mirrored else R.STABLE)


def test_examinations_of_one_day_are_told_apart() -> None:
    found = compared((A,), (SMALLER,), (SMALLER,))
    points = (*(replace(p, date="2025-01-01") for p in found.points[:2]), found.points[2])
    draft = propose(replace(found, points=points), ENTERED)
    assert "baseline 2025-01-01 (examination 1): 1600 → 400" in draft.steps[1]
