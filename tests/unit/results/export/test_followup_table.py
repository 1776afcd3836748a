"""followup.csv and the curves: every lesion at every examination, safe for a spreadsheet."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lesionlens.base.labels import Region
from lesionlens.base.records.followup import Change
from lesionlens.cli.comparison import table_of
from lesionlens.napari.model.wording.followup import title_of
from lesionlens.results.export.followup import (
    HEIGHT,
    WIDTH,
    FollowupSection,
    followup_csv,
)


def test_every_lesion_of_every_examination_is_a_row(found):
    rows = list(csv.DictReader(io.StringIO(followup_csv(found))))
    assert [(r["date"], r["tracking_uid"], r["volume_ml_wt"]) for r in rows] == [
        ("2025-01-01", "a", "4.0"), ("2025-01-01", "b", "1.0"), ("2025-02-01", "a", "6.0"),
        ("2025-02-01", "b", "0.5"), ("2025-04-01", "a", "8.0"), ("2025-04-01", "c", "2.0"),
    ]  # fmt: skip
    assert {r["volume_ml_et"] for r in rows} == {""}  # unknown is no 0
    assert rows[0]["place"] == "'=left frontal lobe"
    assert rows[0]["state"] == "accepted"


def test_a_session_without_a_date_is_displayed_with_its_prefix(found):
    """The examination of "1" read as that of a day."""
    labels = ("1", "pre", "")
    points = tuple(replace(p, date=d) for p, d in zip(found.points, labels, strict=True))
    chain = replace(found, points=points)
    section = FollowupSection(chain)
    assert section.dates == ("ses-1", "ses-pre", "examination 3")
    assert section.aligned.startswith("The examination of ses-pre ")
    assert title_of(cast("Any", SimpleNamespace(followup=chain))).startswith("Since ses-pre; ")
    heading, *_ = table_of(cast("Any", SimpleNamespace(compared=chain)))
    assert "ses-pre" in str(heading)
    hidden = FollowupSection(chain, dates_hidden=True)
    assert hidden.dates == ("examination 1", "examination 2", "examination 3")
    assert hidden.aligned.startswith("Examination 2 ")


def test_every_lesion_has_a_curve_on_the_picture_in_time_and_volume(found):
    drawn = FollowupSection(found).curves
    by_name = {curve.name: curve for curve in drawn.lines}
    assert {name: curve.candidate for name, curve in by_name.items()} == {
        "1": 1, "2": 2, "no longer flagged": None,
    }  # fmt: skip
    first = by_name["1"].points
    assert len(first) == 3
    assert [y for _, y in first] == sorted((y for _, y in first), reverse=True)  # it grows
    days = [x for x, _ in first]
    assert (days[2] - days[1]) / (days[1] - days[0]) == pytest.approx(59 / 31, abs=0.01)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for c in drawn.lines for x, y in c.points)
    assert [words for _, words in drawn.ticks] == ["2025-01-01", "2025-02-01", "2025-04-01"]


def _one_target(found, *, before_ml, now_ml):
    """Return a comparison of one target whose product of diameters grew by 24.6%."""
    before = replace(found.points[0].lesions[0], longest_mm=100.0, perpendicular_mm=100.0)
    before = replace(before, volume_ml=dict.fromkeys(Region, before_ml), measurable=True)
    now = replace(before, perpendicular_mm=124.6, volume_ml=dict.fromkeys(Region, now_ml))
    points = (replace(found.points[0], lesions=(before,)), replace(found.points[2], lesions=(now,)))
    return replace(found, points=points, changes=(Change(before, now),))


def test_sums_are_shown_on_their_side_of_the_limits(found):
    """24.6% stood as +25% above the limit of +25%."""
    pair = _one_target(found, before_ml=10.0, now_ml=13.998)
    (row,) = FollowupSection(pair).sums
    assert row.changes == ("+39.98%", "+24.6%")


@pytest.mark.parametrize(
    ("makers", "doubtful"),
    [("aab", True), ("abb", False), ("aaa", False)],
)
def test_a_change_since_the_prior_is_doubtful_by_their_own_networks(found, makers, doubtful):
    """An examination before the prior, of another network, made it doubtful."""
    points = tuple(replace(p, made_by=maker) for p, maker in zip(found.points, makers, strict=True))
    chain = replace(found, points=points)
    assert chain.is_doubtful is doubtful
    of_curves_and_sums = FollowupSection(chain).doubtful
    assert bool(of_curves_and_sums) is (makers != "aaa")


def test_a_curve_omits_an_examination_with_an_unknown_volume(found):
    first, last = found.points[0], found.points[-1]
    unknown = replace(first.lesions[0], volume_ml=dict.fromkeys(Region))
    points = (replace(first, lesions=(unknown,)), *found.points[1:-1], last)
    assert list(replace(found, points=points).curve("a")) == [(1, 6.0), (2, 8.0)]
