"""report.pdf: whole, the same twice, and unmoved by hostile names."""

import importlib.util
import re
from dataclasses import replace

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.findings import Location, MapAgreement
from lesionlens.results.export import pdf
from lesionlens.results.export.followup import FollowupSection
from lesionlens.results.export.page import page_of
from lesionlens.results.export.pdf import PdfExporter
from lesionlens.results.export.pdf_parts import displayable, ruled_table
from lesionlens.results.export.report_texts import load

Canvas = pytest.importorskip("reportlab.pdfgen.canvas", reason="the extra pdf is missing").Canvas
colors = pytest.importorskip("reportlab.lib.colors")

HOSTILE = "<script>alert('x')</script><font size=99>&nbsp;</para>"


def _pages(document):
    return len(re.findall(rb"/Type /Page\b", document))


@pytest.mark.parametrize("lesions", [None, ()])
def test_it_is_a_document_of_a_few_pages(make, tmp_path, lesions):
    (path,) = PdfExporter().write(make(lesions=lesions), tmp_path)
    document = path.read_bytes()
    assert document.startswith(b"%PDF-")
    assert document.rstrip().endswith(b"%%EOF")
    assert _pages(document) == (1 if lesions == () else 2)
    assert len(document) < 3_000_000


def test_a_number_of_several_digits_stands_on_one_line(make, tmp_path, monkeypatch):
    """Candidate 10 was listed as "1" above "0"."""
    tables = []

    def many(analysis):
        page = page_of(analysis)
        for n, block in enumerate(page.candidate_sections):
            vars(block)["pictures"] = block.pictures  # before the number changes
            vars(block)["row"] = replace(block.row, id=10 + 90 * n)
        return page

    def kept(rows, widths):
        tables.append(rows)
        return ruled_table(rows, widths)

    monkeypatch.setattr(pdf, "page_of", many)
    monkeypatch.setattr(pdf, "ruled_table", kept)
    PdfExporter().write(make(), tmp_path)
    (rows,) = tables
    assert [(row[0].getPlainText(), len(row[0].blPara.lines)) for row in rows[1:]] == [
        ("10", 1),
        ("100", 1),
    ]


def test_the_pictures_of_a_narrow_field_of_view_fit_on_a_page(make, tmp_path, monkeypatch):
    """A sagittal slab of 40 mm had no report.pdf."""

    def narrow(analysis):
        page = page_of(analysis)
        for block in page.candidate_sections:
            cut = tuple(replace(p, width=40, height=256) for p in block.pictures.sequences)
            vars(block)["pictures"] = replace(block.pictures, sequences=cut[:1], planes=cut[-2:])
        return page

    monkeypatch.setattr(pdf, "page_of", narrow)
    (path,) = PdfExporter().write(make(), tmp_path)
    assert path.read_bytes().rstrip().endswith(b"%%EOF")


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Doe &amp; <b>Müller</b>", "Doe &amp; <b>Müller</b>"),
        ("王^小东", '<font name="STSong-Light">王</font>^<font name="STSong-Light">小东</font>'),
        ("やまだ", '<font name="HeiseiKakuGo-W5">やまだ</font>'),
        ("김", '<font name="HYGothic-Medium">김</font>'),
        ("\u2068שרה, דוד\u2069 · 12-34", "שרה, דוד"[::-1] + " · 12-34"),
    ],
)
def test_letters_that_the_font_lacks_or_that_run_to_the_left_are_set(text, drawn):
    """They were boxes, or reversed."""
    assert displayable(text) == drawn


def test_east_asian_names_can_be_read_from_the_document(make, tmp_path):
    analysis = make()
    name = "王小东 <b>山田</b> やまだ 김"
    study = replace(analysis.study, name=name)
    (path,) = PdfExporter().write(replace(analysis, study=study), tmp_path)
    document = path.read_bytes()
    assert b"/HeiseiKakuGo-W5" in document or b"/HYGothic-Medium" in document


def test_the_same_analysis_gives_the_same_bytes_and_fonts_are_read_once(
    make, tmp_path, monkeypatch
):
    """What another document used of the fonts plays no part."""
    analysis, other = make(sequences=(MrSequence.FLAIR,)), make(lesions=())
    documents = []
    for name, shown in (("a", analysis), ("between", other), ("b", analysis)):
        (tmp_path / name).mkdir()
        documents.append(PdfExporter().write(shown, tmp_path / name)[0].read_bytes())
        monkeypatch.setattr("reportlab.pdfbase.ttfonts.TTFontFile.extractInfo", None)
    assert documents[0] == documents[2] != documents[1]


def test_sides_and_bar_have_a_dark_edge_and_pictures_are_jpeg(make, tmp_path, monkeypatch):
    """White letters alone cannot be seen over a bright scalp."""
    drawn, colour = [], [None]
    fill, write = Canvas.setFillColor, Canvas.drawString

    def filled(canvas, value, *more):
        colour[0] = value
        fill(canvas, value, *more)

    def written(canvas, x, y, text, *more, **how):
        drawn.append((text, colour[0]))
        write(canvas, x, y, text, *more, **how)

    monkeypatch.setattr(Canvas, "setFillColor", filled)
    monkeypatch.setattr(Canvas, "drawString", written)
    (path,) = PdfExporter().write(make(sequences=(MrSequence.FLAIR,)), tmp_path)
    sides = [colour for text, colour in drawn if text == "R"]
    assert sides.count(colors.black) == 4 * sides.count(colors.white) > 0
    assert path.read_bytes().count(b"/DCTDecode") >= sides.count(colors.white)


def test_the_curves_of_all_lesions_are_drawn_as_in_the_window(make, tmp_path, found, monkeypatch):
    lines, dots = [], []
    monkeypatch.setattr(Canvas, "line", lambda _, *ends: lines.append(ends))
    monkeypatch.setattr(Canvas, "circle", lambda _, x, y, r, **how: dots.append((x, y)))
    analysis = replace(make(lesions=()), followup=found)
    PdfExporter().write(analysis, tmp_path)
    drawn = FollowupSection(analysis.compared, load()).curves
    assert sorted(dots) == sorted(point for curve in drawn.lines for point in curve.points)
    first, second = drawn.lines[0].points[:2]
    assert (*first, *second) in lines


def test_hostile_texts_stay_texts(make, tmp_path):
    analysis = make(sequences=(MrSequence.FLAIR,))
    candidates = tuple(
        replace(c, location=Location(HOSTILE, HOSTILE), attention=MapAgreement(False, None))
        for c in analysis.findings.candidates
    )
    hostile = replace(
        analysis,
        study=replace(analysis.study, name=HOSTILE, notices=(HOSTILE,)),
        findings=replace(analysis.findings, candidates=candidates),
        run=replace(analysis.run, device=HOSTILE, inputs=((HOSTILE, "0" * 64),)),
    )
    assert PdfExporter().write(hostile, tmp_path)[0].stat().st_size > 10_000


def test_without_the_extra_it_says_how_to_get_it(make, monkeypatch):
    analysis = make(sequences=(MrSequence.FLAIR,))
    assert PdfExporter().missing(analysis) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "lesionlens[pdf]" in PdfExporter().missing(analysis)
