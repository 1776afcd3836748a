"""Other series and the subtraction beside the picture, in a real window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.choices.views import ComparedPictures, Layout


@pytest.fixture
def shown(reviewed):
    """The analysed study, with an ADC map that was set aside."""
    session = reviewed.session
    series = session.state.study.series[MrSequence.FLAIR]
    other = replace(series, sequence=None, description="ep2d_ADC")
    object.__setattr__(session.state.study, "set_aside", (other,))
    yield reviewed
    object.__setattr__(session.state.study, "set_aside", ())


def compared(panel):
    return panel.session.state.choices.views.compared


def test_other_series_come_one_after_the_other_and_the_prior_comes_back(shown, qtbot):
    before = ComparedPictures("prior", {})
    shown.actions_.compare_with(before)
    shown.commands.run("next_other")
    qtbot.waitUntil(lambda: compared(shown) is not before, timeout=20_000)
    now = compared(shown)
    assert (now.description, now.how) == ("ADC (ep2d_ADC)", "placed by its header")
    assert shown.session.state.choices.views.layout is Layout.PRIOR
    assert np.ptp(now.volumes[MrSequence.T1C].data) > 0
    shown.commands.run("next_other")
    assert compared(shown) is before


def test_the_subtraction_comes_and_goes_and_the_views_are_as_before(shown, qtbot):
    shown.actions_.show_layout(Layout.PLANES)
    shown.commands.run("show_subtraction")
    qtbot.waitUntil(lambda: compared(shown) is not None, timeout=20_000)
    assert compared(shown).description == "T1c - T1"
    button = shown.views.toolbar.layouts[Layout.PRIOR]
    assert button.text() == "beside", "nothing of an earlier examination is shown"
    shown.commands.run("show_subtraction")
    assert compared(shown) is None
    assert shown.session.state.choices.views.layout is Layout.PLANES
