"""report.pdf: the report on A4 (extra `pdf`).

It has the same `Page` content as report.html, without the annex; contours are vector graphics. Text
is escaped for reportlab's markup.
"""

from __future__ import annotations

import base64
import importlib.util
import io
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image

from lesionlens.base.labels import RESEARCH_USE_NOTICE, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.results.export.page import Page, page_of
from lesionlens.results.export.pdf_followup import followup_section
from lesionlens.results.export.pdf_parts import (
    SOFT,
    TEXT_WIDTH_PT,
    paragraph,
    ruled_table,
    styles_of_document,
)
from lesionlens.results.export.pictures import ATTENTION_COLOUR, ReportPicture
from lesionlens.results.export.sections import CandidateSection

JPEG_QUALITY = 88
"""High enough to show no visible loss compared with the WebP source."""
MAX_ROW_HEIGHT_PT = 320.0
"""Height limit of a row of images: a narrow field of view would exceed the page."""
TEXT_EDGE_OFFSETS = ((-0.7, 0.0), (0.7, 0.0), (0.0, -0.7), (0.0, 0.7))
"""Offsets of a letter's dark edge, in points: white alone is invisible on a bright scalp."""


class PdfExporter:
    """Writes report.pdf if reportlab is installed."""

    name = "pdf"

    def missing(self, analysis: Analysis) -> str | None:
        """Return why reportlab is missing; None if it is installed."""
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
    """Return the report as a PDF document."""
    from reportlab import rl_config
    from reportlab.platypus import SimpleDocTemplate

    rl_config.useA85 = 0  # binary streams: ASCII 85 is a quarter larger, and slow to write
    page = page_of(analysis)
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        leftMargin=36,
        rightMargin=36,
        topMargin=30,
        bottomMargin=36,
        title=f"LesionLens: {page.conclusion}",
        author="LesionLens",
        subject=RESEARCH_USE_NOTICE,
        lang=page.texts("code"),
        invariant=True,
    )
    styles = styles_of_document()
    story = [*_opening_story(page, styles), *_findings_story(page, styles)]
    for section in page.candidate_sections:
        story += _candidate_story(section, page, styles)
    if page.followup is not None:
        story += followup_section(page.followup, page.texts, styles)
    story += _impression_story(page, styles)
    footer = partial(_footer, page=page)
    document.build(story, onFirstPage=footer, onLaterPages=footer)
    return buffer.getvalue()


def _opening_story(page: Page, styles: dict[str, Any]) -> list[Any]:
    """Return patient, technique and limitations."""
    texts, plain = page.texts, styles["plain"]
    heading = " &nbsp; ".join(
        f"{escape(key)} <b>{escape(value)}</b>" for key, value in page.heading
    )
    provenance = " · ".join(filter(None, (page.analysed, page.engine)))
    statements = [
        f"{'–' if q.undecided else '⚠'} {texts.check(q.check)}: {page.without_hidden(q.message)}"
        for q in page.quality_checks
        if q.outcome is not True
    ]
    statements += [f"⚠ {page.without_hidden(warning)}" for warning in page.warnings]
    return [
        paragraph(f"<b>LesionLens</b>   {escape(texts('title'))}", styles["title"]),
        paragraph(escape(provenance), styles["soft"]),
        paragraph(escape(texts("notice")), styles["notice"]),
        paragraph(heading, plain),
        paragraph(escape(texts("technique")), styles["head"]),
        paragraph(escape(f"{page.technique} {page.quality}"), plain),
        *(paragraph(escape(statement), plain) for statement in statements),
    ]


def _findings_story(page: Page, styles: dict[str, Any]) -> list[Any]:
    texts = page.texts
    parts = [paragraph(escape(texts("findings")), styles["head"])]
    if page.cavity:
        parts.append(paragraph(escape(page.cavity), styles["plain"]))
    if not page.candidate_sections:
        return [
            *parts,
            _picture_row(page.overview[:4], TEXT_WIDTH_PT),
            _picture_row(page.overview[4:], TEXT_WIDTH_PT),
        ]
    legend = f"{_legend(page)} &nbsp; {escape(page.legend)}"
    return [*parts, _candidate_table(page, styles), paragraph(legend, styles["soft"])]


def _legend(page: Page) -> str:
    colours = dict(page.colours)
    if page.checks:
        colours[page.texts("attention_from_half")] = ATTENTION_COLOUR
    lines = (f'<font color="{colour}">▬</font> {escape(name)}' for name, colour in colours.items())
    return " &nbsp; ".join(lines)


def _candidate_table(page: Page, styles: dict[str, Any]) -> Any:
    texts = page.texts
    keys = ("place_heading", "size", "whole", "core", "enhancing", "rano", "score", "review")
    rows = [[paragraph(escape(head), styles["soft"]) for head in ("#", *map(texts, keys))]]
    for section in page.candidate_sections:
        row = section.row
        if row.apart and len(rows) == 1 + sum(not b.row.apart for b in page.candidate_sections):
            head = paragraph(f"<b>{escape(texts('other_findings'))}</b>", styles["plain"])
            rows.append(["", head, *[""] * 7])
        cells = (
            str(row.id),
            section.location,
            f"{section.size} ({section.measured_part})",
            *(texts.volume(row.volume_ml[region]) for region in Region),
            section.rano,
            texts.score(row.score),
            section.state,
        )
        rows.append([paragraph(escape(cell), styles["plain"]) for cell in cells])
    return ruled_table(rows, (24, 98, 90, 46, 46, 54, 52, 34, 67))


def _candidate_story(section: CandidateSection, page: Page, styles: dict[str, Any]) -> list[Any]:
    from reportlab.platypus import CondPageBreak, Spacer

    texts, row, pictures = page.texts, section.row, section.pictures
    second_row = (
        *((pictures.heat,) if pictures.heat and section.trusted else ()),
        *pictures.planes,
    )
    facts = [f"<b>{escape(name)}</b> {escape(value)}" for name, value in section.facts]
    if section.bars:
        contributions = ", ".join(
            f"{bar.name} {texts('absent') if bar.value is None else _signed(bar.value, page)}"
            for bar in section.bars
        )
        facts.append(
            f"<b>{escape(texts('adds'))}</b> "
            f"{escape(f'{contributions}. {section.deciding_sequence_text}')}"
        )
    elif section.deciding_sequence_text:
        facts.append(escape(section.deciding_sequence_text))
    score = texts("score_is", value=texts.score(row.score))
    return [
        CondPageBreak(330),
        paragraph(
            escape(f"{row.id}  {section.location}, {score}, {section.state}"), styles["name"]
        ),
        _picture_row(pictures.sequences, TEXT_WIDTH_PT * min(len(pictures.sequences) / 4, 1.0)),
        _picture_row(second_row, TEXT_WIDTH_PT * 0.75),
        Spacer(0, 3),
        *(paragraph(fact, styles["plain"]) for fact in facts),
    ]


def _signed(value: float, page: Page) -> str:
    return ("+" if value >= 0 else "") + page.texts.number(value, 2)


def _impression_story(page: Page, styles: dict[str, Any]) -> list[Any]:
    from reportlab.platypus import KeepTogether

    texts, plain = page.texts, styles["plain"]
    return [
        KeepTogether(
            [
                paragraph(escape(texts("impression")), styles["head"]),
                paragraph(escape(page.conclusion), styles["name"]),
                *(paragraph(f"• {escape(line)}", plain) for line in page.impression),
                *(
                    paragraph(f"<b>{escape(texts('response_head'))}</b> {escape(line)}", plain)
                    for line in page.response[:1]
                ),
                *(paragraph(f"• {escape(line)}", plain) for line in page.response[1:]),
                paragraph(f"<b>{escape(texts('f_sentence'))}</b> {escape(page.sentence)}", plain),
                paragraph(escape(texts("convention")), styles["soft"]),
                paragraph(escape(texts("annex_elsewhere")), styles["soft"]),
            ]
        )
    ]


def _footer(canvas: Any, document: Any, *, page: Page) -> None:
    canvas.setFont("Sans", 7)
    canvas.setFillColor(SOFT)
    canvas.drawString(36, 20, page.texts("notice"))
    canvas.drawRightString(559, 20, page.texts("page", n=document.page))


def _picture_row(pictures: tuple[ReportPicture, ...], width: float) -> Any:
    """Return a row of images of equal height."""
    from reportlab.lib.utils import simpleSplit
    from reportlab.platypus import Flowable

    gap, line_height = 5.0, 8.0
    ratios = [p.width / p.height for p in pictures]
    height = min((width - gap * (len(pictures) - 1)) / sum(ratios), MAX_ROW_HEIGHT_PT)
    texts = [
        simpleSplit(f"{p.title} {p.caption}", "Sans", 6.5, height * ratio)
        for p, ratio in zip(pictures, ratios, strict=True)
    ]
    caption = 3.0 + line_height * max(len(lines) for lines in texts)

    class _Row(Flowable):  # type: ignore[misc]  # reportlab is an extra, without types
        def wrap(self, *_: float) -> tuple[float, float]:
            return width, height + caption + 4

        def draw(self) -> None:
            left = 0.0
            for picture, ratio, lines in zip(pictures, ratios, texts, strict=True):
                self.canv.saveState()
                self.canv.translate(left, caption)
                _draw_picture(self.canv, picture, height / picture.height)
                self.canv.restoreState()
                self.canv.setFont("Sans", 6.5)
                self.canv.setFillColor(SOFT)
                for row, text in enumerate(lines, 1):
                    self.canv.drawString(left, caption - line_height * row, text)
                left += height * ratio + gap

    return _Row()


def _draw_picture(canvas: Any, picture: ReportPicture, scale: float) -> None:
    """Draw an image with its contours; y is upwards in PDF, downwards in images."""
    from reportlab.lib.utils import ImageReader

    width, height = picture.width * scale, picture.height * scale
    canvas.drawImage(ImageReader(_jpeg(picture)), 0, 0, width, height)
    canvas.setLineWidth(0.8)
    for outline in picture.outlines:
        canvas.setStrokeColor(outline.colour)
        canvas.setDash((2, 1.5) if outline.region is None else ())
        canvas.drawPath(_path(canvas, outline.path, scale, height))
    canvas.setDash(())
    canvas.setStrokeColor("#ffffff")
    if picture.box is not None:
        box = picture.box
        canvas.setLineWidth(0.5)
        top = height - (box.y + box.height) * scale
        canvas.rect(box.x * scale, top, box.width * scale, box.height * scale)
    canvas.setFont("Sans-Bold", 7)
    for colour, line_width, offsets in (
        ("#000000", 2.6, TEXT_EDGE_OFFSETS),
        ("#ffffff", 1.4, ((0.0, 0.0),)),
    ):
        canvas.setStrokeColor(colour)
        canvas.setLineWidth(line_width)
        if picture.bar:
            canvas.line(width - (picture.bar + 4) * scale, 4, width - 4 * scale, 4)
        canvas.setFillColor(colour)
        for dx, dy in offsets:
            canvas.drawString(2 + dx, height / 2 + dy, picture.markers[0])
            canvas.drawRightString(width - 2 + dx, height / 2 + dy, picture.markers[1])


def _jpeg(picture: ReportPicture) -> io.BytesIO:
    """Return an image as JPEG, which PDF embeds directly; WebP would be embedded uncompressed."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture.href.partition(",")[2]))) as image:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    buffer.seek(0)
    return buffer


def _path(canvas: Any, text: str, scale: float, height: float) -> Any:
    """Convert an SVG path ("Mx,y x,yZ…") to a canvas path."""
    path = canvas.beginPath()
    for subpath in filter(None, text.split("M")):
        points = [tuple(map(float, p.split(","))) for p in subpath.rstrip("Z").split(" ")]
        for index, (x, y) in enumerate(points):
            (path.lineTo if index else path.moveTo)(x * scale, height - y * scale)
        path.close()
    return path
