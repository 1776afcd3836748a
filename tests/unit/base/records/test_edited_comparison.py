"""What a reader merges or splits after a comparison, in the comparison."""

import numpy as np
import pytest

from lesionlens.base.labels import DrawingMethod, Region, ReviewState
from lesionlens.base.records.findings import Candidate, Location, MapAgreement
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
    with_edits,
)
from lesionlens.base.records.review import Outline, Review
from lesionlens.results.review.log import ReviewLog

SHARED = Alignment(
    ((1.0, 0.0, 0.0, 0.0),) * 3 + ((0.0, 0.0, 0.0, 1.0),), 0.0, 0.0, doubtful=False, sequence="T1c"
)


def candidate(number, ml, uid):
    return Candidate(
        id=number,
        tracking_uid=uid,
        score=0.9,
        centroid_mm=(0, 0, 0),
        bounding_box_mm=((0, 0, 0), (1, 1, 1)),
        peak_mm=None,
        volume_ml=dict.fromkeys(Region, ml),
        longest_axial_diameter_mm=20.0,
        perpendicular_diameter_mm=15.0,
        rano_measurable=True,
        location=Location("left", "frontal lobe"),
        uncertainty=None,
        attention=MapAgreement(None, None),
        sequence_relevance=None,
    )


def comparison_of(before, now, changes):
    """Build a comparison from candidates, and (prior id, id now, further prior or current ids)."""
    points = [TimePoint("", None, tuple(map(LesionMeasurement.of, side))) for side in (before, now)]
    known = [{lesion.id: lesion for lesion in point.lesions} for point in points]
    rows = (Change(known[0].get(a), known[1].get(b), beside) for a, b, beside in changes)
    return Comparison(tuple(points), tuple(rows), SHARED).with_tangled()


BEFORE = (candidate(1, 10.0, "9.1"), candidate(2, 5.0, "9.2"), candidate(3, 4.0, "9.3"))
NOW = (candidate(1, 16.0, "9.1"), candidate(2, 4.0, "9.3"))
BOTH = candidate(2, 20.0, "9.3")


@pytest.fixture
def compared():
    """Lesions 1 and 2 merged into 1; 3 is now 2."""
    return comparison_of(BEFORE, NOW, [(1, 1, (2,)), (3, 2, ()), (2, None, (1,))])


def rows_of(comparison):
    return [(c.kind, c.shown.tracking_uid, c.beside) for c in comparison.changes]


def merged(into, other):
    log = ReviewLog()
    with log.one_act():
        log.decide(into, ReviewState.EDITED)
        log.decide(other, ReviewState.EDITED, outline=Outline.empty(other))
    return log


def test_without_edits_nothing_changes(compared):
    assert with_edits(compared, NOW, Review(), None) == compared


def test_what_a_lesion_covered_goes_with_it_into_the_one_it_is_merged_into(compared):
    """The volume of the prior's second lesion was missing in the sum: 14 → 20 ml, not 19 → 20."""
    found = with_edits(compared, [BOTH], merged("9.3", "9.1").review, None)
    assert rows_of(found) == [
        ("matched", "9.3", (1, 2)),
        ("merged", "9.1", (2,)),
        ("merged", "9.2", (2,)),
    ]
    assert found.linked_total_ml(found.changes[0]) == (19.0, 20.0)
    assert found.points[-1].tangled == found.tangled_now == ("9.1", "9.2", "9.3")


def test_a_merge_into_what_no_earlier_lesion_overlapped_is_not_called_new():
    compared = comparison_of(BEFORE[:1], NOW, [(1, 1, ()), (None, 2, ())])
    found = with_edits(compared, [BOTH], merged("9.3", "9.1").review, None)
    assert rows_of(found) == [("split", "9.3", (1,)), ("merged", "9.1", (2,))]


def test_a_merge_that_was_undone_after_comparing_makes_no_lesion_new():
    log = merged("9.3", "9.1")
    compared = comparison_of(BEFORE, [BOTH], [(1, 2, (2, 3)), (2, None, (2,)), (3, None, (2,))])
    log.undo()
    found = with_edits(compared, NOW, log.review, None)
    assert {c.kind for c in found.changes} == {"matched", "split", "merged"}
    assert {"9.1", "9.3"} <= set(found.points[-1].tangled)


def test_a_lesion_that_a_reader_adds_is_new_and_undone_it_is_not_listed(compared):
    log = ReviewLog()
    log.add(Outline("8.1", (0, 0, 0), np.ones((2, 2, 2), np.uint8)), DrawingMethod.MANUAL)
    added = candidate(3, 2.0, "8.1")
    found = with_edits(compared, [*NOW, added], log.review, None)
    assert ("new", "8.1", ()) in rows_of(found)
    log.undo()
    assert rows_of(with_edits(found, NOW, log.review, None)) == rows_of(compared)
