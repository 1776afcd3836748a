"""The printed comparison with an earlier examination."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console

from lesionlens.base.labels import Region
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.joint_change import JointChange, Unmeasurable
from lesionlens.cli.comparison import table_of

LEVEL = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))


def test_figures_are_not_cut_by_the_reason_why_one_is_missing():
    """In 80 columns 17.9 ml was printed as "17.", and the places not at all."""
    places = ("left frontal lobe", "right parietal lobe")
    volumes = ((107.43, 117.94), (0.03, 0.04))  # it is there: no "0.0"
    sides = [
        [
            LesionMeasurement(place, n, place, dict.fromkeys(Region, ml), 20.5, 10.5 * ml, True)
            for n, (place, ml) in enumerate(zip(places, of, strict=True), 1)
        ]
        for of in zip(*volumes, strict=True)
    ]
    unknown = JointChange.unknown(Unmeasurable.INTENSITIES)
    changes = tuple(Change(before, now, joint=unknown) for before, now in zip(*sides, strict=True))
    points = tuple(TimePoint(f"2025-0{n}-01", None, tuple(of)) for n, of in enumerate(sides, 1))
    found = Comparison(points, changes, Alignment(LEVEL, 0, 0, False, "T1c"))
    _, table = table_of(cast("Any", SimpleNamespace(compared=found)))
    console = Console(width=80)
    with console.capture() as shown:
        console.print(table)
    text = shown.get()
    figures = ("107.4", "117.9", "0.03", "0.04", "+9.8%", "+33.3%")
    assert all(figure in text for figure in figures), text
    words = " ".join(text.split())
    assert all(word in words for word in ("frontal", "parietal", "matched"))


def test_a_new_lesion_that_was_flagged_before_the_prior_is_said_to_return():
    lesion = LesionMeasurement(
        "uid", 1, "left frontal lobe", dict.fromkeys(Region, 1.0), 9.0, 80.0, False
    )
    points = tuple(
        TimePoint(f"2025-0{n}-01", None, lesions)
        for n, lesions in enumerate(((lesion,), (), (lesion,)), 1)
    )
    comparison = Comparison(points, (Change(None, lesion),), Alignment(LEVEL, 0, 0, False, "T1c"))
    *_, note = table_of(cast("Any", SimpleNamespace(compared=comparison)))
    assert note == "Candidate 1: flagged before (2025-01-01), not at the earlier examination"


def test_the_change_of_a_lesion_that_others_merged_into_is_given_with_them():
    """The table said +60% of a lesion that had grown by 7% with the one it absorbed."""
    first, second, merged = (
        LesionMeasurement(str(n), n, "left insula", dict.fromkeys(Region, ml), 9.0, 8.0, False)
        for n, ml in ((1, 10.0), (2, 5.0), (1, 16.0))
    )
    points = (
        TimePoint("2025-01-01", None, (first, second)),
        TimePoint("2025-02-01", None, (merged,)),
    )
    changes = (Change(first, merged, (2,)), Change(second, None, (1,)))
    comparison = Comparison(points, changes, Alignment(LEVEL, 0, 0, False, "T1c"))
    *_, note = table_of(cast("Any", SimpleNamespace(compared=comparison)))
    together = "including merged and split regions: 15.0 ml → 16.0 ml, +6.7%"
    assert note == f"Candidate 1: {together}"


def test_a_lesion_that_is_not_flagged_any_more_is_not_called_gone():
    """The window and the report say "no longer flagged"; the table said that it is gone."""
    lesion = LesionMeasurement("uid", 1, "left insula", dict.fromkeys(Region, 1.0), 9.0, 8.0, False)
    points = (TimePoint("2025-01-01", None, (lesion,)), TimePoint("2025-02-01", None, ()))
    comparison = Comparison(points, (Change(lesion, None),), Alignment(LEVEL, 0, 0, False, "T1c"))
    _, table = table_of(cast("Any", SimpleNamespace(compared=comparison)))
    console = Console(width=80)
    with console.capture() as shown:
        console.print(table)
    text = shown.get()
    assert "no longer flagged" in text
    assert "gone" not in text
