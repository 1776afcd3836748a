"""What an engine's classes say is surely no tumour is listed under a heading of its own."""

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from lesionlens.analysis.followup.response_case import ResponseCase
from lesionlens.base.labels import LesionClass, Region, ReviewState
from lesionlens.base.records.findings import OTHER_FINDINGS, conclusion_of
from lesionlens.base.records.followup import LesionMeasurement, TimePoint
from lesionlens.base.records.response import Disease, ResponseChoices
from lesionlens.base.records.signed_measures import measures_of
from lesionlens.cli.analyze import summary
from lesionlens.napari.model.wording.candidates import details
from lesionlens.results.export.bids import save_bids
from lesionlens.results.export.dicom.framed import FramedResult
from lesionlens.results.export.dicom.groups import _remarks
from lesionlens.results.export.page import Page
from lesionlens.results.export.report import report_html
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.export.tables import findings_file
from lesionlens.results.review.log import ReviewLog

SHARES = {
    LesionClass.TUMOUR: 0.01,
    LesionClass.WHITE_MATTER: 0.97,
    LesionClass.VESSEL_OR_DURA: 0.02,
}


@pytest.fixture
def mixed(make):
    """Two candidates, of which the engine's classes set the second apart."""
    analysis = make()
    first, second = analysis.findings.candidates
    candidates = (first, replace(second, class_probabilities=SHARES, apart=True))
    findings = replace(
        analysis.findings, candidates=candidates, conclusion=conclusion_of(candidates)
    )
    return replace(analysis, findings=findings)


def test_it_is_in_the_files_and_not_counted_among_the_candidates(mixed):
    content = findings_file(mixed)
    assert [row.apart for row in content.candidates] == [False, True]
    assert content.conclusion == "1 candidate region; other findings, probably not tumour: 1"
    assert Page(mixed).conclusion == "1 candidate region. Other findings, probably not tumour: 1."


def test_the_report_lists_it_below_its_heading(mixed, make):
    table = report_html(mixed).partition('<table class="list">')[2].partition("</table>")[0]
    heading = table.index(OTHER_FINDINGS)
    assert table.index('href="#c1"') < heading < table.index('href="#c2"')
    assert OTHER_FINDINGS not in report_html(make())


@pytest.fixture
def bright(mixed):
    """The second is as large and as bright as a target has to be."""
    first, second = mixed.findings.candidates
    second = replace(second, rano_measurable=True)
    return replace(mixed, findings=replace(mixed.findings, candidates=(first, second)))


def test_it_is_not_measurable_by_rano_and_the_reason_is_named(bright, tmp_path):
    apart = bright.findings.candidates[1]
    table = report_html(bright).partition('<table class="list">')[2].partition("</table>")[0]
    assert "<td>no: probably not tumour</td>" in table.partition('href="#c2"')[2]
    section = Page(bright).candidate_sections[1]
    assert any("RANO measurable: no: probably not tumour" in value for _, value in section.facts)
    assert "not measurable (RANO): probably not tumour" in details(apart, has_t1c=True)
    assert "\nmeasurable (RANO)" in details(apart, ReviewState.ACCEPTED, has_t1c=True)
    assert "no: probably not tumour" in apart._repr_html_()


def test_one_that_a_reader_accepted_is_not_called_probably_no_tumour(bright):
    """The sentence to paste contradicted the decision, and the row said RANO measurable: yes."""
    apart, log = bright.findings.candidates[1], ReviewLog()
    log.decide(apart.tracking_uid, ReviewState.ACCEPTED)
    accepted = replace(bright, review=log.review)
    for analysis, is_called in ((bright, True), (accepted, False)):
        section = Page(analysis).candidate_sections[1]
        texts = (section.state, section.summary, Sentences(analysis).of(apart))
        assert ["probably not tumour" in text for text in texts] == [is_called] * 3, texts
        comment = _remarks(FramedResult(analysis, None), apart)[0].value  # shows no voxel
        assert ("probably not tumour" in comment) is is_called


def test_it_counts_in_no_volume_of_a_follow_up_unless_a_reader_accepts_it(mixed):
    first, apart = mixed.findings.candidates
    apart = replace(apart, volume_ml={Region.WT: 9.0, Region.TC: 5.0, Region.ET: 4.0})
    first = replace(first, volume_ml={Region.WT: 3.0, Region.TC: 2.0, Region.ET: 1.0})
    for state, ml in ((ReviewState.UNREVIEWED, 1.0), (ReviewState.ACCEPTED, 5.0)):
        lesions = (LesionMeasurement.of(first), LesionMeasurement.of(apart, state))
        point = TimePoint("2026-01-01", None, lesions, True)
        assert point.enhancing_ml == ml
        assert len(measures_of([point])) == (2 if ml > 1 else 1)
        for disease in (Disease.ENHANCING, Disease.NON_ENHANCING):
            choices = ResponseChoices(baseline=0, disease=disease)
            case = ResponseCase(SimpleNamespace(points=(point, point)), choices)
            assert len(case.lesions_at(0)) == (2 if ml > 1 else 1)


def test_the_lesion_mask_of_bids_leaves_it_out(mixed, tmp_path):
    out = tmp_path / "derivatives"
    save_bids(mixed, out)
    (mask,) = out.rglob("*label-L_mask.nii.gz")
    inside = nib.load(mask).get_fdata() > 0
    numbers = np.unique(mixed.findings.components[inside & (mixed.volumes.labels.data > 0)])
    assert numbers.tolist() == [1]


def test_it_is_no_target_unless_a_reader_accepts_it(mixed):
    apart = replace(mixed.findings.candidates[1], rano_measurable=True)
    assert not LesionMeasurement.of(apart).measurable
    assert LesionMeasurement.of(apart, ReviewState.ACCEPTED).measurable
    assert LesionMeasurement.of(replace(apart, apart=False)).measurable


def test_the_printed_table_says_which_are_listed_separately(mixed, tmp_path):
    table = next(part for part in summary(mixed.findings, tmp_path) if not isinstance(part, str))
    (_, where, *_) = table.columns
    marked = [cell.endswith(", probably not tumour") for cell in where.cells]
    assert marked == [False, True]


def test_a_size_shows_on_which_side_of_the_limit_it_lies(make):
    """9.7 mm stood as "10 × 10 mm", beside "RANO measurable: no"."""
    analysis = make()
    first, *others = analysis.findings.candidates
    small = replace(
        first,
        longest_axial_diameter_mm=9.7,
        perpendicular_diameter_mm=9.6,
        rano_measurable=False,
    )
    findings = replace(analysis.findings, candidates=(small, *others))
    section = Page(replace(analysis, findings=findings)).candidate_sections[0]
    assert section.size == "9.7 × 9.6 mm"
    assert "9.7 × 9.6 mm" in section.summary
