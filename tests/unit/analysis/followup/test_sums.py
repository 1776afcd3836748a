"""The sums of target lesions at baseline, nadir and now."""

import pytest

from lesionlens.analysis.followup.sums import sign, sum_lines
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import Region
from lesionlens.base.records.followup import Alignment, Comparison, LesionMeasurement, TimePoint
from lesionlens.base.records.response import Response

LEVEL = Alignment(((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0)), 0, 0, False, "T1c")


def over_time(*sizes):
    """One lesion of so many mm and ml at the start of each month; None without T1c."""
    points = []
    for month, size in enumerate(sizes, 1):
        mm, ml = size or (20.0, None)
        volume = {Region.WT: 9.0, Region.TC: ml, Region.ET: ml}
        one = LesionMeasurement("1", 1, "here", volume, mm, 10.0, True)
        points.append(TimePoint(f"2025-0{month}-01", None, (one,), contrast=size is not None))
    return Comparison(tuple(points), (), LEVEL)


@pytest.mark.parametrize(
    ("sizes", "baseline", "expected"),
    [
        (
            [(40, 10), (20, 4), (25, 6)],
            0,
            [
                "baseline 2025-01-01: 400 → 250 mm², -37.5% (limit -50%)",
                "nadir 2025-02-01: 200 → 250 mm², +25.0% (limit +25%)",
                "baseline 2025-01-01: 10.00 → 6.00 ml, -40.0% (limit -65%)",
                "nadir 2025-02-01: 4.00 → 6.00 ml, +50.0% (limit +40%)",
            ],
        ),
        (
            [(10, 1), (40, 10), (20, 4)],  # what lies before the baseline is no nadir
            1,
            [
                "baseline 2025-02-01: 400 → 200 mm², -50.0% (limit -50%)",
                "nadir 2025-02-01: 400 → 200 mm², -50.0% (limit +25%)",
                "baseline 2025-02-01: 10.00 → 4.00 ml, -60.0% (limit -65%)",
                "nadir 2025-02-01: 10.00 → 4.00 ml, -60.0% (limit +40%)",
            ],
        ),
        (
            [(40, 10), None, (20, 4)],
            0,
            [
                "baseline 2025-01-01: 400 → 200 mm², -50.0% (limit -50%)",
                "nadir 2025-01-01: 400 → 200 mm², -50.0% (limit +25%)",
                "baseline 2025-01-01: 10.00 → 4.00 ml, -60.0% (limit -65%)",
                "nadir 2025-01-01: 10.00 → 4.00 ml, -60.0% (limit +40%)",
                "a sum is unknown on 2025-02-01: check it by eye",
            ],
        ),
    ],
)
def test_sums_are_compared_with_baseline_and_nadir(sizes, baseline, expected):
    head, *lines = sum_lines(over_time(*sizes), baseline)
    assert head.startswith("1 measurable target")
    assert lines == expected


def test_without_a_measurable_lesion_there_is_no_sum():
    nothing = Comparison((TimePoint("", None, ()),) * 2, (), LEVEL)
    assert len(sum_lines(nothing)) == 1


def test_a_category_is_signed_with_a_name_and_its_baseline():
    found = over_time((40, 10), (20, 4))
    signed = sign(found, 0, Response.PARTIAL, " A. Reader ", "2026-01-05T10:00:00Z")
    assert (signed.category, signed.reader, signed.baseline) == ("PR", "A. Reader", "2025-01-01")
    assert len(signed.measures) == 2
    with pytest.raises(UnusableInputError):
        sign(found, 0, Response.PARTIAL, " ", "")
