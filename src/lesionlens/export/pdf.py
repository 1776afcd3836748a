"""report.pdf: the report on A4, for where a browser is not at hand (extra `pdf`).

It says what report.html says, two candidates a page; contours are vectors. Text is escaped before
it reaches reportlab's markup.
"""

from __future__ import annotations

import base64
import importlib.util
import io
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from lesionlens.base.labels import RESEARCH_USE_NOTICE, Region
from lesionlens.export.pictures import ATTENTION_COLOUR, REGION_COLOURS, Picture
from lesionlens.export.report import (
    CandidateSection,
    Page,
    looks_like,
    moment,
    number,
    page_of,
    score_words,
    trust_words,
    uncertainty_words,
    volume,
    yes_no,
)
from lesionlens.records.analysis import Analysis

INK, SOFT, AMBER = "#17232e", "#5a6b7a", "#E69F00"
POINTS_WIDE = 523.0
"""Width of the text on A4 with margins of 36 points."""


class PdfExporter:
    """Writes report.pdf where reportlab is installed."""

    name = "pdf"

    def missing(self, analysis: Analysis) -> str | None:
        """Only reportlab is needed."""
        del analysis
        if importlib.util.find_spec("reportlab") is None:
            return "the PDF report needs the extra pdf: pip install 'lesionlens[pdf]'"
        return None

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write the document."""
        path = staged / "report.pdf"
        path.write_bytes(report_pdf(analysis))
        return (path,)


def report_pdf(analysis: Analysis) -> bytes:
    """Return the report as a PDF document.

    Parameters
    ----------
    analysis : Analysis
        With or without candidates.
    """
    from reportlab.platypus import SimpleDocTemplate  # noqa: PLC0415  (an extra)

    page = page_of(analysis)
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        leftMargin=36,
        rightMargin=36,
        topMargin=36,
        bottomMargin=40,
        title=f"LesionLens: {page.content.conclusion}",
        author="LesionLens",
        subject=RESEARCH_USE_NOTICE,
        invariant=True,
    )
    styles = _styles()
    story = [*_opening(page, styles)]
    for block in page.blocks:
        story += _candidate(block, styles)
    if page.overview:
        story.append(_row(page.overview[:4], POINTS_WIDE))
        story.append(_row(page.overview[4:], POINTS_WIDE))
    story += _ending(page, styles)
    document.build(story, onFirstPage=_footer, onLaterPages=_footer)
    return buffer.getvalue()


def _styles() -> dict[str, Any]:
    from matplotlib import get_data_path  # noqa: PLC0415  (slow; brings DejaVu Sans)
    from reportlab.lib.styles import ParagraphStyle  # noqa: PLC0415
    from reportlab.pdfbase import pdfmetrics  # noqa: PLC0415
    from reportlab.pdfbase.ttfonts import TTFont  # noqa: PLC0415

    fonts = Path(get_data_path()) / "fonts" / "ttf"
    # each style needs a name of its own: reportlab looks bold up by the plain one's
    for name in ("", "-Bold", "-Oblique", "-BoldOblique"):
        pdfmetrics.registerFont(TTFont(f"Sans{name}", fonts / f"DejaVuSans{name}.ttf"))
    pdfmetrics.registerFontFamily("Sans", "Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique")
    plain = ParagraphStyle("plain", fontName="Sans", fontSize=7.5, leading=10, textColor=INK)
    return {
        "plain": plain,
        "soft": ParagraphStyle("soft", parent=plain, textColor=SOFT, fontSize=7, leading=9),
        "title": ParagraphStyle(
            "title", parent=plain, fontName="Sans-Bold", fontSize=18, leading=24, spaceBefore=6
        ),
        "head": ParagraphStyle(
            "head", parent=plain, fontName="Sans-Bold", fontSize=10, leading=14, spaceBefore=8
        ),
        "notice": ParagraphStyle(
            "notice",
            parent=plain,
            fontName="Sans-Bold",
            fontSize=9,
            leading=12,
            borderPadding=5,
            backColor="#fff6e5",
            spaceBefore=8,
            spaceAfter=8,
        ),
    }


def _text(words: str, style: Any) -> Any:
    from reportlab.platypus import Paragraph  # noqa: PLC0415

    return Paragraph(words, style)


def _opening(page: Page, styles: dict[str, Any]) -> list[Any]:
    said = page.content.conclusion
    run = page.run
    made = f"{run.engine} {run.engine_version} on {run.device}, {moment(run.started)}"
    parts = [
        _text("<b>LesionLens</b> MRI of the brain: candidate regions", styles["plain"]),
        _text(escape(made), styles["soft"]),
        _text(RESEARCH_USE_NOTICE, styles["notice"]),
        _text(escape(said[0].upper() + said[1:]), styles["title"]),
        _text(f"Study {escape(page.study.name)}", styles["plain"]),
        *([_text(f"Review: {page.reviewed}", styles["plain"])] if page.reviewed else []),
    ]
    if page.blocks:
        said = f"{_legend()} {score_words(run.calibrated)}"
        parts += [_list(page.blocks, styles), _text(said, styles["soft"])]
    return parts


def _legend() -> str:
    colours = {
        **{r.words: REGION_COLOURS[r] for r in Region},
        "attention from half": ATTENTION_COLOUR,
    }
    lines = (f'<font color="{colour}">▬</font> {words}' for words, colour in colours.items())
    return (
        "   ".join(lines) + "   Pictures: the patient's right is on the left; the bar is 50 mm. "
        "Places are approximate. A dash stands for what could not be computed."
    )


def _list(blocks: tuple[CandidateSection, ...], styles: dict[str, Any]) -> Any:
    heads = ["#", "place", "score", "whole", "core", "enhancing", "diameters", "RANO", "review"]
    rows = [[_text(head, styles["soft"]) for head in heads]]
    for block in blocks:
        row = block.row
        cells = (
            str(row.id),
            block.place,
            number(row.score, 2),
            *(volume(row.volume_ml[region]) for region in Region),
            _diameters(block),
            yes_no(row.rano_measurable),
            row.review.state.value,
        )
        rows.append([_text(escape(cell), styles["plain"]) for cell in cells])
    widths = (18, 120, 38, 55, 50, 55, 80, 40, 67)
    return _table(rows, widths)


def _table(rows: list[list[Any]], widths: tuple[float, ...]) -> Any:
    from reportlab.platypus import Table  # noqa: PLC0415

    rules = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, "#d9e0e6"),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ]
    return Table(rows, colWidths=widths, style=rules, hAlign="LEFT", repeatRows=1)


def _diameters(block: CandidateSection) -> str:
    row = block.row
    short = number(row.perpendicular_diameter_mm, 0, "mm")
    return f"{number(row.longest_axial_diameter_mm, 0)} × {short} ({block.measured})"


def _candidate(block: CandidateSection, styles: dict[str, Any]) -> list[Any]:
    from reportlab.platypus import CondPageBreak, Spacer  # noqa: PLC0415

    row, shown = block.row, block.pictures
    whole, core, enhancing = (volume(row.volume_ml[region]) for region in Region)
    second = (*((shown.heat,) if shown.heat and block.trusted else ()), *shown.planes)
    facts = [
        f"<b>Volume</b> {whole} whole, {core} core, {enhancing} enhancing",
        f"<b>Diameters</b> {_diameters(block)}; RANO measurable: {yes_no(row.rano_measurable)}",
        f"<b>Attention</b> {escape(block.attention)}",
    ]
    if row.resemblance is not None:
        facts.append(f"<b>Network's nearest kind</b> {looks_like(row.resemblance)}")
    if row.uncertainty is not None:
        facts.append(f"<b>Uncertainty</b> {uncertainty_words(row.uncertainty)}")
    if block.bars:
        added = ", ".join(
            f"{bar.name} {'absent' if bar.value is None else f'{bar.value:+.2f}'}"
            for bar in block.bars
        )
        facts.append(f"<b>Each sequence adds to the score</b> {added}. {block.deciding}")
    if row.review.reader or row.review.reason:
        said = f"{row.review.reader or 'not named'}: {row.review.reason or ''}"
        facts.append(f"<b>Reader</b> {escape(said)}")
    title = f"{row.id}  {block.place}, score {number(row.score, 2)}, {row.review.state.value}"
    return [
        CondPageBreak(330),
        _text(escape(title), styles["head"]),
        _row(shown.sequences, POINTS_WIDE * min(len(shown.sequences) / 4, 1.0)),
        _row(second, POINTS_WIDE * 0.75),
        Spacer(0, 4),
        *(_text(fact, styles["plain"]) for fact in facts),
    ]


def _ending(page: Page, styles: dict[str, Any]) -> list[Any]:
    run, plain = page.run, styles["plain"]
    parts = [_text("Sequences", styles["head"])]
    parts += [
        _text(
            escape(
                f"{s.words}{' (reference)' if s.reference else ''}: {s.file}, {s.detected_by}, "
                f"{s.voxels} of {s.edges} mm"
            ),
            plain,
        )
        for s in page.sequences
    ]
    parts.append(_text("Quality checks, attention checks and warnings", styles["head"]))
    checks = [(q.passed, f"{q.check}: {q.message}") for q in page.content.quality]
    checks += [
        (t.reliable is not False, f"attention, {region.words}: {trust_words(t)}")
        for region, t in page.trust.items()
    ]
    parts += [_text(f"{'✓' if passed else '⚠'} {escape(said)}", plain) for passed, said in checks]
    parts += [_text(f"⚠ {escape(warning)}", plain) for warning in page.warnings]
    parts.append(_text("How it was made", styles["head"]))
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    lines = [
        f"Weights SHA-256 {run.weights_sha256 or 'none'}",
        f"{number(run.seconds, 1)} s; {versions}",
        f"{len(run.inputs)} input files; run.json lists them with their SHA-256",
    ]
    parts += [_text(escape(line), styles["soft"]) for line in lines]
    return parts


def _footer(canvas: Any, document: Any) -> None:
    canvas.setFont("Sans", 7)
    canvas.setFillColor(SOFT)
    canvas.drawString(36, 22, RESEARCH_USE_NOTICE)
    canvas.drawRightString(559, 22, f"page {document.page}")


def _row(pictures: tuple[Picture, ...], width: float) -> Any:
    """Return a row of pictures of one height."""
    from reportlab.lib.utils import simpleSplit  # noqa: PLC0415
    from reportlab.platypus import Flowable  # noqa: PLC0415

    gap, line = 5.0, 8.0
    ratios = [p.width / p.height for p in pictures]
    height = (width - gap * (len(pictures) - 1)) / sum(ratios)
    texts = [
        simpleSplit(f"{p.title} {p.caption}", "Sans", 6.5, height * ratio)
        for p, ratio in zip(pictures, ratios, strict=True)
    ]
    caption = 3.0 + line * max(len(words) for words in texts)

    class _Row(Flowable):  # type: ignore[misc]  # reportlab is an extra, without types
        def wrap(self, *_: float) -> tuple[float, float]:
            return width, height + caption + 4

        def draw(self) -> None:
            left = 0.0
            for picture, ratio, words in zip(pictures, ratios, texts, strict=True):
                self.canv.saveState()
                self.canv.translate(left, caption)
                _draw(self.canv, picture, height / picture.height)
                self.canv.restoreState()
                self.canv.setFont("Sans", 6.5)
                self.canv.setFillColor(SOFT)
                for row, text in enumerate(words, 1):
                    self.canv.drawString(left, caption - line * row, text)
                left += height * ratio + gap

    return _Row()


def _draw(canvas: Any, picture: Picture, scale: float) -> None:
    """Draw a picture with its lines; y grows upwards in a PDF, downwards in a picture."""
    from reportlab.lib.utils import ImageReader  # noqa: PLC0415

    raw = base64.b64decode(picture.href.partition(",")[2])
    wide, high = picture.width * scale, picture.height * scale
    canvas.drawImage(ImageReader(io.BytesIO(raw)), 0, 0, wide, high)
    canvas.setLineWidth(0.8)
    for outline in picture.outlines:
        canvas.setStrokeColor(outline.colour)
        canvas.setDash((2, 1.5) if outline.kind == "attention" else ())
        canvas.drawPath(_path(canvas, outline.path, scale, high))
    canvas.setDash(())
    canvas.setStrokeColor("#ffffff")
    if picture.box is not None:
        box = picture.box
        canvas.setLineWidth(0.5)
        top = high - (box.y + box.height) * scale
        canvas.rect(box.x * scale, top, box.width * scale, box.height * scale)
    canvas.setLineWidth(1.4)
    canvas.line(wide - (picture.bar + 4) * scale, 4, wide - 4 * scale, 4)
    canvas.setFillColor("#ffffff")
    canvas.setFont("Sans-Bold", 7)
    canvas.drawString(2, high / 2, picture.markers[0])
    canvas.drawRightString(wide - 2, high / 2, picture.markers[1])


def _path(canvas: Any, text: str, scale: float, high: float) -> Any:
    """Turn an outline's path ("Mx,y x,yZ…") into one of the canvas."""
    path = canvas.beginPath()
    for line in filter(None, text.split("M")):
        points = [tuple(map(float, p.split(","))) for p in line.rstrip("Z").split(" ")]
        for index, (x, y) in enumerate(points):
            (path.lineTo if index else path.moveTo)(x * scale, high - y * scale)
        path.close()
    return path
