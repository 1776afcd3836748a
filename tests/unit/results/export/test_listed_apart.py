"""What an engine's classes say is surely no tumour is listed under a heading of its own."""

from dataclasses import replace

import pytest

from lesionlens.base.labels import LesionClass, ReviewState
from lesionlens.base.records.findings import OTHER_FINDINGS, conclusion_of
from lesionlens.base.records.followup import Measured
from lesionlens.results.export.page import page_of
from lesionlens.results.export.report import report_html
from lesionlens.results.export.tables import findings_file

SHARES = {
    LesionClass.TUMOUR: 0.01,
    LesionClass.WHITE_MATTER: 0.97,
    LesionClass.ENHANCEMENT: 0.02,
}


@pytest.fixture
def mixed(make):
    """Two candidates, of which the engine's classes set the second apart."""
    analysis = make()
    first, second = analysis.findings.candidates
    candidates = (first, replace(second, resemblance=SHARES, apart=True))
    findings = replace(
        analysis.findings, candidates=candidates, conclusion=conclusion_of(candidates)
    )
    return replace(analysis, findings=findings)


def test_it_is_in_the_files_and_not_counted_among_the_candidates(mixed):
    content = findings_file(mixed)
    assert [row.apart for row in content.candidates] == [False, True]
    assert content.conclusion == "1 candidate region; other findings, probably not tumour: 1"
    assert (
        page_of(mixed).conclusion == "1 candidate region. Other findings, probably not tumour: 1."
    )


def test_the_report_lists_it_below_its_heading(mixed, make):
    table = report_html(mixed).partition('<table class="list">')[2].partition("</table>")[0]
    heading = table.index(OTHER_FINDINGS)
    assert table.index('href="#c1"') < heading < table.index('href="#c2"')
    assert OTHER_FINDINGS not in report_html(make())


def test_it_is_no_target_unless_a_reader_accepts_it(mixed):
    apart = replace(mixed.findings.candidates[1], rano_measurable=True)
    assert not Measured.of(apart).measurable
    assert Measured.of(apart, ReviewState.ACCEPTED).measurable
    assert Measured.of(replace(apart, apart=False)).measurable
