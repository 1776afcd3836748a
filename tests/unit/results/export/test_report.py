"""report.html: self-contained, escaped, complete, and it never says more than is known."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from tests.helpers.dicom_files import edited_dicom

from lesionlens.base.labels import (
    RESEARCH_USE_NOTICE,
    Identity,
    MrSequence,
    Region,
    ReviewState,
)
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.findings import Location, MapAgreement
from lesionlens.base.records.review import WHOLE_STUDY, Review, ReviewEvent
from lesionlens.base.records.study import QualityCheck
from lesionlens.results.export.page import Page
from lesionlens.results.export.report import report_html
from lesionlens.results.export.slices import SliceScene, ViewPlane
from lesionlens.testing import Lesion

ALL = tuple(MrSequence)
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class _Tags(HTMLParser):
    """Counts tags, texts and what would be loaded."""

    def __init__(self):
        super().__init__()
        self.tags, self.loaded, self.text, self.open = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.loaded += [v for k, v in attributes if k in {"src", "href", "xlink:href"}]
        self.open.append(tag)

    def handle_endtag(self, tag):
        self.open.append(f"/{tag}")

    def handle_data(self, data):
        self.text.append(data)


def _parsed(html):
    tags = _Tags()
    tags.feed(html)
    return tags


def _figures(html):
    return [t for t, a in _parsed(html).tags if t == "figure"]


def test_it_loads_nothing_and_runs_nothing(make):
    page = _parsed(report_html(make(sequences=ALL)))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "img", "object"}
    assert all(v.startswith(("data:image/webp;base64,", "#")) for v in page.loaded)
    assert not any(k.startswith("on") for _, attributes in page.tags for k in attributes)


def test_it_holds_what_a_colleague_needs(make):
    analysis = make(sequences=ALL)
    html = report_html(analysis)
    text = " ".join(_parsed(html).text)
    assert html.count(RESEARCH_USE_NOTICE) == 2
    assert "2 candidate regions" in text
    for sequence in ALL:
        assert f"{sequence.value}.nii.gz" in text
    for candidate in analysis.findings.candidates:
        assert f"{candidate.score:.2f}" in text
        assert f"{candidate.longest_axial_diameter_mm:.1f}" in text
    assert "The whole brain is in the field of view." in text
    assert all(digest in text for _, digest in analysis.run.inputs)
    assert len(_figures(html)) == 2 * (4 + 1 + 2)


@pytest.mark.parametrize("lesions", [(), (Lesion(),)])
def test_it_never_says_that_there_is_nothing(make, lesions):
    text = " ".join(_parsed(report_html(make(lesions=lesions))).text).lower()
    assert not re.search(r"\bnormal\b|\bno tumou?r\b|\bhealthy\b", text)
    assert "does not exclude disease" in text


def test_without_a_candidate_it_shows_an_overview(make):
    html = report_html(make(lesions=()))
    assert "No candidate region. Nothing is flagged" in html
    assert len(_figures(html)) == 8
    assert '<table class="list"' not in html


def test_one_sequence_alone_is_enough(make):
    html = report_html(make(sequences=(MrSequence.FLAIR,)))
    text = _parsed(html).text
    assert len(_figures(html)) == 2 * (1 + 1 + 2)
    assert text.count("missing") == 3
    assert any("absent" in one for one in text)


def test_without_attention_maps_no_heat_is_drawn(make):
    analysis = make()
    volumes = replace(analysis.volumes, attention={})
    candidates = tuple(
        replace(c, attention=MapAgreement(None, None)) for c in analysis.findings.candidates
    )
    bare = replace(
        analysis,
        maps=None,
        volumes=volumes,
        findings=replace(analysis.findings, candidates=candidates),
    )
    html = report_html(bare)
    assert len(_figures(html)) == 2 * (2 + 2)
    assert "no map" in html


def test_hostile_texts_stay_texts(make):
    analysis = make()
    study = replace(
        analysis.study,
        name=HOSTILE,
        notices=(HOSTILE,),
        series={
            k: replace(s, detected_by=HOSTILE, description=HOSTILE)
            for k, s in analysis.study.series.items()
        },
    )
    first = replace(analysis.findings.candidates[0], location=Location(HOSTILE, HOSTILE))
    event = ReviewEvent(first.tracking_uid, ReviewState.REJECTED, HOSTILE, HOSTILE, HOSTILE)
    findings = replace(
        analysis.findings,
        candidates=(first, *analysis.findings.candidates[1:]),
        quality=(QualityCheck(HOSTILE, passed=False, message=HOSTILE),),
    )
    run = replace(analysis.run, device=HOSTILE, inputs=((HOSTILE, "0" * 64),))
    hostile = replace(analysis, study=study, findings=findings, run=run, review=Review((event,)))
    html = report_html(hostile)
    page = _parsed(html)
    assert "<script" not in html
    assert not any(tag in {"script", "img"} for tag, _ in page.tags)
    plain = _parsed(report_html(analysis))
    assert len(page.tags) - len(plain.tags) < 40


def test_every_tag_is_closed(make):
    void = {"meta", "input", "br", "image", "path", "rect"}
    stack = []
    for tag in _parsed(report_html(make())).open:
        if tag.startswith("/"):
            if tag[1:] not in void:
                assert stack.pop() == tag[1:]
        elif tag not in void:
            stack.append(tag)
    assert stack == []


def test_a_map_that_points_elsewhere_is_labelled_and_folded_away(make):
    analysis = make()
    candidates = tuple(
        replace(c, attention=MapAgreement(False, 0.02)) for c in analysis.findings.candidates
    )
    html = report_html(
        replace(analysis, findings=replace(analysis.findings, candidates=candidates))
    )
    assert html.count("not reliable here") == 2
    assert html.count("failed its check here") == 2
    assert 'class="att"' not in html
    assert 'class="att"' in report_html(analysis)


def test_the_review_is_on_the_page(make):
    analysis = make()
    uid = analysis.findings.candidates[0].tracking_uid
    event = ReviewEvent(uid, ReviewState.REJECTED, "A. Reader", "2026-01-05T10:00:00Z", "a vessel")
    html = report_html(replace(analysis, review=Review((event,))))
    assert "a vessel" in html
    assert 'class="state rejected"' in html


def test_right_is_on_the_left_and_anterior_up(make):
    """The lesion on the patient's left is drawn in the right half of the axial picture."""
    analysis = make(orientation="PIR", spacing_mm=(4.0, 4.0, 5.0), tilt_deg=6)
    scene = SliceScene(analysis)
    for candidate in analysis.findings.candidates:
        cuts = scene.cuts(candidate.id)
        axial = scene.candidate(candidate.id, cuts[ViewPlane.AXIAL])
        rows, columns = np.nonzero(axial)
        on_left = candidate.centroid_mm[0] < 0
        assert (columns.mean() > axial.shape[1] / 2) == on_left
        behind = candidate.centroid_mm[1] < -16  # the brain's centre
        assert (rows.mean() > axial.shape[0] / 2) == behind
        sagittal = scene.candidate(candidate.id, cuts[ViewPlane.SAGITTAL])
        assert (np.nonzero(sagittal)[1].mean() > sagittal.shape[1] / 2) == behind
    assert ViewPlane.AXIAL.markers == ("R", "L")
    assert ViewPlane.SAGITTAL.markers == ("A", "P")


def test_the_best_slice_holds_most_of_the_candidate(make):
    analysis = make()
    scene = SliceScene(analysis)
    cut = scene.cuts(1)[ViewPlane.AXIAL]
    areas = [
        scene.candidate(1, type(cut)(ViewPlane.AXIAL, k)).sum()
        for k in range(analysis.prepared.working.shape[2])
    ]
    assert scene.candidate(1, cut).sum() == max(areas) > 0


def test_labels_and_greys_lie_on_each_other(make):
    """Enhancing voxels are bright on T1c whatever the native orientation."""
    analysis = make(orientation="LIP", spacing_mm=(4.0, 4.0, 4.0))
    scene = SliceScene(analysis)
    cut = scene.cuts(1)[ViewPlane.CORONAL]
    grey = scene.grey(MrSequence.T1C, cut)
    inside = scene.region(Region.ET, cut)
    assert inside.any()
    assert np.median(grey[inside]) > np.median(grey[~inside & (grey > 30)]) + 20


@pytest.mark.parametrize(
    ("relevance", "english"),
    [
        (
            {"t1": 0.21, "t1c": 0.22, "t2": 0.2, "flair": 0.2, "none": 0.1},
            "No sequence stands out",
        ),
        (
            {"t1": None, "t1c": None, "t2": None, "flair": 0.7, "none": 0.1},
            "Only one sequence was available",
        ),
    ],
)  # fmt: skip
def test_where_bars_would_say_nothing_words_stand_instead(make, relevance, english):
    analysis = make()
    candidates = tuple(
        replace(one, sequence_relevance=relevance) for one in analysis.findings.candidates
    )
    found = replace(analysis, findings=replace(analysis.findings, candidates=candidates))
    page = report_html(found)
    assert english in page
    assert 'class="bars"' not in page


def test_the_overlap_without_a_sequence_is_always_there(make):
    analysis = make()
    apart = {"t1": 0.1, "t1c": 0.4, "t2": None, "flair": 0.2, "none": 0.1}
    candidates = tuple(
        replace(one, sequence_relevance=apart) for one in analysis.findings.candidates
    )
    explained = replace(analysis, findings=replace(analysis.findings, candidates=candidates))
    assert "T1c decides most." in report_html(explained)
    for one in (analysis, explained):
        assert re.search("Overlap.*without</dt><dd>[^<]*FLAIR 0?[.]53", report_html(one))


@pytest.fixture
def named(make):
    """A DICOM analysis whose header names a patient."""
    analysis = make(dicom=True, sequences=ALL)
    for series in analysis.study.series.values():
        with edited_dicom(series.files[0].path) as dataset:
            dataset.PatientName, dataset.PatientID = "Doe^Jane", "P-17"
            dataset.PatientBirthDate, dataset.PatientSex = "19600203", "F"
            dataset.StudyDate, dataset.StudyDescription = "20260105", "Brain, question of glioma"
    return analysis


WHO = ("Doe, Jane", "P-17", "1960-02-03", "Brain, question of glioma", "1.2.826.0")
WHEN = ("2026-01-05",)
SERIES = ("IM0001", "files)", "SeriesDescription")


@pytest.mark.parametrize(
    ("hidden", "gone"),
    [
        ((), ()),
        ((Identity.PATIENT,), WHO),
        ((Identity.DATE,), WHEN),
        ((Identity.SERIES,), SERIES),
        (tuple(Identity), (*WHO, *WHEN, *SERIES)),
    ],
)
def test_patient_date_and_series_are_shown_or_hidden_by_choice(named, hidden, gone):
    html = report_html(replace(named, options=ExportOptions(hidden=frozenset(hidden))))
    for text in (*WHO, *WHEN, *SERIES):
        assert (text in html) is (text not in gone), text


def test_a_file_of_another_patient_by_now_names_nobody(named):
    for series in named.study.series.values():
        with edited_dicom(series.files[0].path) as dataset:
            dataset.SOPInstanceUID = "2.25.1"
    html = report_html(named)
    assert "Doe" not in html
    assert "P-17" not in html


def test_a_direction_override_in_a_notice_does_not_reverse_the_report(make):
    analysis = make(sequences=ALL)
    study = replace(analysis.study, notices=("'AX \u202eT1' is odd: 12 ml.",))
    html = report_html(replace(analysis, study=study))
    assert "AX T1&#39; is odd: 12 ml." in html
    assert "\u202e" not in html


def test_hidden_files_are_not_named_by_warnings_either(make):
    analysis = make(sequences=ALL)
    check = QualityCheck("spacing", passed=False, message="'Miller_t1c.nii.gz' has thick slices")
    series = dict(analysis.study.series)
    one = series[MrSequence.T1C]
    series[MrSequence.T1C] = replace(
        one, files=tuple(replace(f, name="Miller_t1c.nii.gz") for f in one.files)
    )
    study = replace(analysis.study, series=series, notices=("Miller_t1c.nii.gz is odd.",))
    findings = replace(analysis.findings, quality=(check,))
    named = replace(analysis, study=study, findings=findings)
    assert report_html(named).count("Miller") > 2
    options = ExportOptions(hidden=frozenset({Identity.SERIES}))
    assert "Miller" not in report_html(replace(named, options=options))


@pytest.mark.parametrize("name", ["e", "Li", "par"])
def test_a_hidden_name_of_few_letters_is_not_hidden_within_words(make, name):
    """Of a study in the folder "e" each warning was riddled with dots."""
    analysis = make()
    notice = f"{name}: the slices of t2_{name}.nii are Linked apart, check them"
    study = replace(analysis.study, name=name, notices=(notice,))
    options = ExportOptions(hidden=frozenset({Identity.PATIENT}))
    html = report_html(replace(analysis, study=study, options=options))
    assert "<li>…: the slices of t2_….nii are Linked apart, check them</li>" in html


@pytest.mark.parametrize(
    ("statement", "printed"),
    [
        ("nothing further seen", "Signed by A. Reader: nothing further seen."),
        (f"second opinion {HOSTILE}", f"Signed by A. Reader: second opinion {HOSTILE}."),
        (None, "Signed by A. Reader."),
    ],
)
def test_the_words_that_were_signed_are_printed(make, statement, printed):
    end = ReviewEvent(
        WHOLE_STUDY, ReviewState.ACCEPTED, "A. Reader", "2026-01-05T10:00:00Z", statement
    )
    html = report_html(replace(make(), review=Review((end,))))
    assert any(printed in text for text in _parsed(html).text)
    assert "<script>alert" not in html


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ((), "The image quality was not checked."),
        ((True, None), "1 of 2 quality checks passed; the rest are undecided."),
        ((None, False), "1 of 2 quality checks"),
    ],
)
def test_checks_without_an_outcome_are_not_called_passed(make, outcomes, said):
    analysis = make()
    first = analysis.findings.quality[0]
    checks = tuple(
        replace(first, passed=outcome is not False, undecided=outcome is None)
        for outcome in outcomes
    )
    quality_text = Page(
        replace(analysis, findings=replace(analysis.findings, quality=checks))
    ).quality
    assert quality_text.startswith(said)
