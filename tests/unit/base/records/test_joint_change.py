"""The sentence of a joint change: a figure with its margin, or why there is none."""

import pytest

from lesionlens.base.records.joint_change import JointChange, Unmeasurable


@pytest.mark.parametrize(
    ("percent", "margin", "text"),
    [
        (30.0, 5.0, "+30 ± 5%"),
        (-30.0, 5.0, "-30 ± 5%"),
        (5.0, 5.0, "+5%, within ± 5%"),
        (-4.0, 5.0, "-4%, within ± 5%"),
        (-0.3, 5.0, "+0%, within ± 5%"),
    ],
)
def test_a_decrease_is_a_change_as_an_increase_is(percent, margin, text):
    """The margin is compared with the size of the change, whatever its sign."""
    assert JointChange(percent, margin).text == text


@pytest.mark.parametrize("reason", Unmeasurable)
def test_a_change_that_cannot_be_measured_has_a_reason_and_no_figure(reason):
    change = JointChange.unknown(reason)
    assert (change.percent, change.plus_minus) == (None, None)
    assert change.text.startswith("not measurable (")
    assert "unknown" not in change.text


@pytest.mark.parametrize(("percent", "margin"), [(None, None), (30.0, None), (None, 5.0)])
def test_half_a_figure_is_not_shown(percent, margin):
    assert JointChange(percent, margin).text == "not measurable (unknown)"
