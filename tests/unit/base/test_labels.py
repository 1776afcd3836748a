"""Closed sets: nested regions, words for every member."""

from __future__ import annotations

from lesionlens.base.labels import REFERENCE_ORDER, Label, MrSequence, Region, ReviewState


def test_regions_are_nested():
    whole, core, enhancing = (set(region.labels) for region in Region)
    assert enhancing < core < whole == set(Label) - {Label.BACKGROUND, Label.CAVITY}


def test_every_member_has_words():
    words = [member.display_name for kind in (MrSequence, Region, Label) for member in kind]
    assert all(words)
    assert len(set(words)) == len(words)
    assert sorted(REFERENCE_ORDER) == sorted(MrSequence)
    assert MrSequence.T1C.display_name == "T1c"
    assert ReviewState("accepted") is ReviewState.ACCEPTED
