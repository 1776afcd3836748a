"""Which candidate a merge keeps."""

from dataclasses import replace

import pytest

from lesionlens.analysis.findings.additions import merged
from lesionlens.analysis.findings.edits import applied
from lesionlens.base.labels import ReviewState, Source
from lesionlens.base.records.findings import conclusion_of
from lesionlens.napari.controllers.lesion_adder import _kept_first
from lesionlens.results.review.log import ReviewLog


@pytest.mark.parametrize("focused_is_apart", [True, False])
def test_a_candidate_merged_with_one_listed_separately_stays_counted(analysis, focused_is_apart):
    """The conclusion read "no candidate region" after the merge of a flagged one."""
    flagged, other = analysis.findings.candidates[:2]
    apart = replace(other, apart=True)
    candidates = (flagged, apart)
    findings = replace(
        analysis.findings, candidates=candidates, conclusion=conclusion_of(candidates)
    )
    pair = (apart, flagged) if focused_is_apart else (flagged, apart)
    start, log = replace(analysis, findings=findings), ReviewLog()
    with log.one_act():
        for outline in merged(start, *_kept_first(*pair)):
            log.decide(outline.tracking_uid, ReviewState.EDITED, outline=outline)
    found = applied(replace(start, review=log.review)).findings
    assert found.conclusion == "1 candidate region"
    assert [c.tracking_uid for c in found.candidates] == [flagged.tracking_uid]


def test_the_networks_candidate_is_kept_else_the_one_in_focus(analysis):
    first, second = analysis.findings.candidates[:2]
    assert _kept_first(second, first) == (second, first)
    by_reader = replace(second, source=Source.READER)
    assert _kept_first(by_reader, first) == (first, by_reader)
    assert _kept_first(by_reader, replace(by_reader, id=9))[0] is by_reader
