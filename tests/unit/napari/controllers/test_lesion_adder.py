"""Which candidate a merge keeps."""

from dataclasses import replace

from lesionlens.base.labels import Source
from lesionlens.napari.controllers.lesion_adder import _kept_first


def test_the_networks_candidate_is_kept_else_the_one_in_focus(analysis):
    first, second = analysis.findings.candidates[:2]
    assert _kept_first(second, first) == (second, first)
    by_reader = replace(second, source=Source.READER)
    assert _kept_first(by_reader, first) == (first, by_reader)
    assert _kept_first(by_reader, replace(by_reader, id=9))[0] is by_reader
