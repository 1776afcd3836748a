"""Changes over time in report.pdf: the table, the sums, the curves of all lesions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from lesionlens.results.export.followup import (
    CURVES_BEGIN,
    CURVES_END,
    HEIGHT,
    TICK_ROW_HEIGHT,
    WIDTH,
    Curves,
    FollowupSection,
)
from lesionlens.results.export.pdf_parts import SOFT, TEXT_WIDTH_PT, paragraph, ruled_table
from lesionlens.results.export.report_texts import ReportTexts


def followup_section(
    section: FollowupSection, texts: ReportTexts, styles: dict[str, Any]
) -> list[Any]:
    """Return the section of changes since earlier examinations."""
    from reportlab.platypus import CondPageBreak

    soft, plain = styles["soft"], styles["plain"]
    keys = ("fu_volume_before", "fu_volume_now", "fu_change", "fu_product_before",
            "fu_product_now", "fu_change")  # fmt: skip
    rows = [
        [paragraph(escape(head), soft) for head in ("#", *map(texts, ("place_heading", *keys)))]
    ]
    for row in (*section.rows, *section.sums):
        location = f"{row.location}. {row.note}" if row.note else row.location
        pairs = zip((row.volumes, row.products), row.changes, strict=True)
        measured = (cell for pair, change in pairs for cell in (*pair, change))
        rows.append([paragraph(escape(cell), plain) for cell in (row.name, location, *measured)])
    aligned = f"{escape(section.aligned)} <b>{escape(section.doubtful)}</b>"
    return [
        CondPageBreak(330),
        paragraph(escape(texts("followup")), styles["head"]),
        paragraph(aligned, plain),
        ruled_table(rows, (24, 127, 60, 60, 60, 60, 60, 60)),
        paragraph(escape(section.limits), soft),
        _curves_flowable(section.curves),
        paragraph(escape(texts("fu_curves")), soft),
    ]


def _curves_flowable(curves: Curves) -> Any:
    """Draw the volume of each lesion over all examinations, as report.html does."""
    from reportlab.platypus import Flowable

    scale = TEXT_WIDTH_PT / WIDTH

    class _Curves(Flowable):  # type: ignore[misc]  # reportlab is an extra, without types
        def wrap(self, *_: float) -> tuple[float, float]:
            return TEXT_WIDTH_PT, HEIGHT * scale

        def draw(self) -> None:
            canvas = self.canv
            canvas.scale(scale, -scale)  # y points down, as in report.html
            canvas.translate(0, -HEIGHT)
            canvas.setStrokeColor("#ccd2da")
            for y, _ in curves.levels:
                canvas.line(CURVES_BEGIN, y, CURVES_END, y)
            for curve in curves.lines:
                canvas.setStrokeColor(curve.colour)
                canvas.setFillColor(curve.colour)
                canvas.setLineWidth(1.8)
                for (a, b), (c, d) in pairwise(curve.points):
                    canvas.line(a, b, c, d)
                for x, y in curve.points:
                    canvas.circle(x, y, 3, stroke=0, fill=1)
                _draw_text(canvas, curve.points[-1][0] + 7, curve.name_y + 3, curve.name)
            canvas.setFillColor(SOFT)
            for y, label in curves.levels:
                _draw_text(canvas, 0, y + 3, label)
            for (x, label), row in zip(curves.ticks, curves.rows, strict=True):
                if row is not None:
                    _draw_text(canvas, x, HEIGHT - 19 + TICK_ROW_HEIGHT * row, label, centred=True)

    return _Curves()


def _draw_text(canvas: Any, x: float, y: float, text: str, *, centred: bool = False) -> None:
    """Draw text on a canvas whose y axis points down."""
    canvas.saveState()
    canvas.translate(x, y)
    canvas.scale(1, -1)
    canvas.setFont("Sans", 9)
    (canvas.drawCentredString if centred else canvas.drawString)(0, 0, text)
    canvas.restoreState()
