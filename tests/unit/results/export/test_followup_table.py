"""followup.csv and the curves: every lesion at every examination, safe for a spreadsheet."""

from __future__ import annotations

import csv
import io

import pytest

from lesionlens.analysis.findings.anatomy import REGIONS
from lesionlens.base.records.findings import Location
from lesionlens.results.export.followup import HEIGHT, WIDTH, curves_of, followup_csv
from lesionlens.results.export.words import load


def test_every_lesion_of_every_examination_is_a_row(found):
    rows = list(csv.DictReader(io.StringIO(followup_csv(found))))
    assert [(r["date"], r["tracking_uid"], r["volume_ml_wt"]) for r in rows] == [
        ("2025-01-01", "a", "4.0"), ("2025-01-01", "b", "1.0"), ("2025-02-01", "a", "6.0"),
        ("2025-02-01", "b", "0.5"), ("2025-04-01", "a", "8.0"), ("2025-04-01", "c", "2.0"),
    ]  # fmt: skip
    assert {r["volume_ml_et"] for r in rows} == {""}  # unknown is no 0
    assert rows[0]["place"] == "'=left frontal lobe"
    assert rows[0]["state"] == "accepted"


def test_every_lesion_has_a_curve_on_the_picture_in_time_and_volume(found):
    drawn = curves_of(found, load("en"))
    by_name = {curve.name: curve for curve in drawn.lines}
    assert {name: curve.candidate for name, curve in by_name.items()} == {
        "1": 1, "2": 2, load("en")("fu_gone"): None,
    }  # fmt: skip
    first = by_name["1"].points
    assert len(first) == 3
    assert [y for _, y in first] == sorted((y for _, y in first), reverse=True)  # it grows
    days = [x for x, _ in first]
    assert (days[2] - days[1]) / (days[1] - days[0]) == pytest.approx(59 / 31, abs=0.01)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for c in drawn.lines for x, y in c.points)
    assert [words for _, words in drawn.ticks] == ["2025-01-01", "2025-02-01", "2025-04-01"]


@pytest.mark.parametrize("region", REGIONS)
def test_german_names_every_place(region):
    """Also where it is stored as text; the ventricle stayed English."""
    place, german = Location("left", region), load("de")
    named = german.place(place)
    assert region not in named
    assert german.place_named(place.text) == named
