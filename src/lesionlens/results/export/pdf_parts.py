"""Fonts, styles, paragraphs and tables of report.pdf."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from lesionlens.base.text import DIRECTION_CONTROLS

INK, SOFT, ACCENT = "#17232e", "#5a6b7a", "#0b6a8f"
TEXT_WIDTH_PT = 511.0
"""Width of the text on A4 with margins of 36 points, less the frame's own of 6."""
_HANGUL, _KANA = (
    re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    re.compile("[\u3041-\u30ff]"),
)
_EAST_ASIAN = re.compile(
    "[\u1100-\u11ff\u2e80-\u318f\u31f0-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff01-\uffee]+"
)
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff](?:[\u0590-\u08ff ,.'\"-]*[\u0590-\u08ff])?")


def styles_of_document() -> dict[str, Any]:
    """Register the fonts and return the styles of paragraphs by name."""
    from reportlab.lib.styles import ParagraphStyle

    _register_fonts()
    plain = ParagraphStyle("plain", fontName="Sans", fontSize=7.5, leading=10, textColor=INK)
    bold = {"fontName": "Sans-Bold"}
    box = {"borderPadding": 4, "backColor": "#fff6e5", "spaceBefore": 8, "spaceAfter": 8}
    attributes: dict[str, dict[str, Any]] = {
        "plain": {},
        "soft": {"textColor": SOFT, "fontSize": 7, "leading": 9},
        "title": {"fontSize": 13, "leading": 18},
        "head": bold | {"fontSize": 8.5, "leading": 12, "spaceBefore": 6, "spaceAfter": 2,
                        "textColor": ACCENT},
        "name": bold | {"fontSize": 10, "leading": 14, "spaceBefore": 4},
        "notice": bold | {"fontSize": 9, "leading": 12} | box,
    }  # fmt: skip
    return {name: ParagraphStyle(name, parent=plain, **own) for name, own in attributes.items()}


@cache
def _register_fonts() -> None:
    """Read the fonts once per process; reportlab tracks the used glyphs per document."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    # located without importing matplotlib, which is slow
    fonts = Path(str(distribution("matplotlib").locate_file("matplotlib/mpl-data/fonts/ttf")))
    for name in ("", "-Bold"):  # no italics: each font takes .1 s to read
        pdfmetrics.registerFont(TTFont(f"Sans{name}", fonts / f"DejaVuSans{name}.ttf"))
    pdfmetrics.registerFontFamily("Sans", "Sans", "Sans-Bold", "Sans", "Sans-Bold")


@cache
def _register_cid_font(name: str) -> str:
    """Register an East Asian font, which is not embedded: viewers substitute their own."""
    from reportlab.pdfbase import cidfonts, pdfmetrics

    pdfmetrics.registerFont(cidfonts.UnicodeCIDFont(name))
    pdfmetrics.registerFontFamily(name, name, name, name, name)
    return name


def displayable(markup: str) -> str:
    """Adapt markup for letters that reportlab does not typeset correctly.

    East Asian letters, which DejaVu Sans lacks, get another font; Hebrew and Arabic runs, which
    reportlab would set from left to right, are reversed.
    """
    markup = _RIGHT_TO_LEFT.sub(lambda match: match[0][::-1], DIRECTION_CONTROLS.sub("", markup))
    if not _EAST_ASIAN.search(markup):
        return markup
    fonts = (
        (_HANGUL, "HYGothic-Medium"),
        (_KANA, "HeiseiKakuGo-W5"),
        (_EAST_ASIAN, "STSong-Light"),
    )
    name = next(font for letters, font in fonts if letters.search(markup))
    return _EAST_ASIAN.sub(rf'<font name="{_register_cid_font(name)}">\g<0></font>', markup)


def paragraph(markup: str, style: Any) -> Any:
    """Return a paragraph of markup; callers must escape text."""
    from reportlab.platypus import Paragraph

    return Paragraph(displayable(markup), style)


def ruled_table(rows: list[list[Any]], widths: tuple[float, ...]) -> Any:
    """Return a table with a line below each row; its first row is repeated on the next page."""
    from reportlab.platypus import Table

    rules = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, "#d9e0e6"),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ]
    return Table(rows, colWidths=widths, style=rules, hAlign="LEFT", repeatRows=1)
