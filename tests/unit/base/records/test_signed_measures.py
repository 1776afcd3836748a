"""Whether a response was signed on the figures that the examinations have now."""

from dataclasses import replace

import pytest

from lesionlens.base.records.followup import are_same
from lesionlens.base.records.response import SignedMeasure

LESION = SignedMeasure(
    ago=1,
    tracking_uid="2.25.1",
    whole_ml=12.0,
    enhancing_ml=4.0,
    longest_mm=21.0,
    perpendicular_mm=14.0,
    decided=True,
)
UNMEASURED = replace(LESION, enhancing_ml=None, longest_mm=None, perpendicular_mm=None)


def both_ways(first, second):
    """Return the answer, which no exchange changes."""
    answers = {first.same(second), second.same(first), are_same([first], [second])}
    assert len(answers) == 1
    return answers.pop()


@pytest.mark.parametrize("measure", [LESION, UNMEASURED])
def test_a_measure_is_the_same_as_itself_and_as_one_stored_without_decisions(measure):
    assert both_ways(measure, replace(measure))
    for decided in (True, False, None):
        assert both_ways(replace(measure, decided=decided), replace(measure, decided=None))


@pytest.mark.parametrize(
    "changed",
    [
        {"ago": 0},
        {"tracking_uid": "2.25.2"},
        {"decided": False},
        *(
            {name: figure}
            for name in ("whole_ml", "enhancing_ml", "longest_mm", "perpendicular_mm")
            for figure in (None, 0.0, 13.0, 30.0)
        ),
    ],
)
def test_any_other_lesion_figure_or_decision_is_not_the_same(changed):
    """A figure that is unknown now, or was unknown then, is another one, too."""
    assert not both_ways(LESION, replace(LESION, **changed))


def test_more_or_fewer_lesions_are_not_the_same():
    other = replace(LESION, tracking_uid="2.25.2")
    assert not are_same([LESION, other], [LESION])
    assert not are_same([LESION], [LESION, other])
    assert not are_same([], [LESION])
