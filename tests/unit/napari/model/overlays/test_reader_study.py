"""What an arm of a reader study hides, and what it leaves possible."""

from types import SimpleNamespace

import pytest

from lesionlens.engines import plugin_engines
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.model.overlays.reader_study import shown_in
from lesionlens.results import result as results
from lesionlens.results.result import Result
from lesionlens.site.database.records import Arm


def test_an_arm_with_candidates_only_shows_no_maps_but_still_answers_prompts(analysis, monkeypatch):
    """Ctrl-click and F2 failed there as a defect: what was shown was no complete result."""
    whole = Result(analysis, engine=SimpleNamespace())
    shown, overlays = shown_in(Arm.CANDIDATES, whole, overlays_of(analysis))
    assert (shown.engine, shown.trace, overlays.attention) == (None, None, {})
    assert not shown.analysis.volumes.attention
    monkeypatch.setattr(results, "_local_prompts", lambda: "the shipped network")
    monkeypatch.setattr(plugin_engines, "answer_prompts", lambda *given, context: given)
    network, _, request, _ = shown.answer_prompts("a request")
    assert (network, request) == ("the shipped network", "a request")


@pytest.mark.parametrize("arm", [Arm.UNAIDED, Arm.MAPS])
def test_other_arms_show_the_whole_result(analysis, arm):
    whole, overlays = Result(analysis), overlays_of(analysis)
    assert shown_in(arm, whole, overlays) == (whole, overlays)
