"""followup.csv and the curves: every lesion at every examination, safe for a spreadsheet."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lesionlens.base.labels import Region
from lesionlens.base.records.followup import PRODUCT_LIMITS, Change
from lesionlens.cli.comparison import _percent, table_of
from lesionlens.napari.model.wording.followup import lines_of, title_of
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


def test_an_examination_without_a_lesion_is_a_row(found):
    """A curve of volumes ended before it, as if it had not been made."""
    gone = replace(found, points=(*found.points, replace(found.points[-1], lesions=(), date="x")))
    rows = list(csv.DictReader(io.StringIO(followup_csv(gone))))
    assert rows[-1] == dict.fromkeys(rows[0], "") | {"examination": "4", "date": "x"}
    assert len(rows) == 7


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


def test_labels_of_days_and_lines_do_not_lie_on_each_other(found):
    """Before and after surgery are days apart, in a series of years; two lesions are as large."""
    first, second, third = found.points
    after = replace(second, date="2025-01-03")
    twin = replace(third.lesions[1], volume_ml=third.lesions[0].volume_ml)
    third = replace(third, date="2026-06-01", lesions=(third.lesions[0], twin))
    drawn = FollowupSection(replace(found, points=(first, after, third))).curves
    (x, _), (close, _), _ = drawn.ticks
    assert close - x < 10
    assert drawn.rows == (0, 1, 0)
    ends = [curve for curve in drawn.lines if curve.candidate is not None]
    assert len({curve.points[-1] for curve in ends}) == 1
    heights = sorted(curve.name_y for curve in ends)
    assert heights[1] - heights[0] >= 10
    assert all(0 <= curve.name_y <= HEIGHT for curve in drawn.lines)


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


def test_changes_of_lesions_are_shown_on_their_side_of_the_limits(found):
    """In the row of the only target 24.6% stood as +25%, and in that of its sum as +24.6%."""
    pair = _one_target(found, before_ml=100.0, now_ml=35.4)
    assert FollowupSection(pair).row(pair.changes[0]).changes == (
        "-64.6%", "+24.6%",
    )  # fmt: skip
    ((_, panel),) = lines_of(SimpleNamespace(compared=pair))
    assert panel.endswith(" · -64.6% · mm² +24.6%")
    assert _percent(24.96, PRODUCT_LIMITS) == "+24.96%"  # in the terminal


def test_the_panel_shows_the_figures_of_the_report(found):
    """It rounded 0.032 ml to '<0.1 ml', and +3.2% to '+3%'."""
    pair = _one_target(found, before_ml=0.031, now_ml=0.032)
    row = FollowupSection(pair).row(pair.changes[0])
    ((_, panel),) = lines_of(SimpleNamespace(compared=pair))
    figures = f"{' → '.join(row.volumes)} · {row.changes[0]} · mm² {row.changes[1]}"
    assert panel.endswith(figures)
    assert figures.startswith("0.03 ml → 0.03 ml · +3.2% · ")


def test_the_panel_states_of_which_examination_the_overlapping_lesions_are(found):
    """'Overlaps 2 too' stood beside candidates of this examination, and meant one of the prior."""
    pair = _one_target(found, before_ml=4.0, now_ml=6.0)
    before, now = pair.changes[0].before, pair.changes[0].now
    half = replace(now, id=2, tracking_uid="half")
    absorbed = replace(before, id=2, tracking_uid="absorbed")
    changes = (
        Change(before, now, beside=(2,)),
        Change(None, half, beside=(1,)),
        Change(absorbed, None, beside=(1,)),
    )
    tangled = replace(
        pair,
        points=(
            replace(pair.points[0], lesions=(before, absorbed)),
            replace(pair.points[1], lesions=(now, half)),
        ),
        changes=changes,
    )
    shown = [text.split(": ", 1)[1] for _, text in lines_of(SimpleNamespace(compared=tangled))]
    assert shown == [
        "4.0 ml → 6.0 ml · +50% · mm² +24.6%; including merged and split regions +50%; also "
        "overlaps 2 of the earlier examination",
        "split off, 6.0 ml; overlaps 1 of the earlier examination",
        "merged, was 4.0 ml; overlaps 1 of this one",
    ]


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
