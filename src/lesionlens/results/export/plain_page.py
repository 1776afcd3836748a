"""A plain page of headings, sentences and tables that opens offline; everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from lesionlens.base.labels import RESEARCH_USE_NOTICE

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}"
    "td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
    ".stop{background:#fdecea;border-left:4px solid #b3261e;padding:.5rem 1rem}"
    ".fine{background:#eef6ee;border-left:4px solid #2e7d32;padding:.5rem 1rem}"
    "code{background:#f2f2f2;padding:.1rem .3rem}"
)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is of words, the others of figures."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def heading(text: str) -> str:
    """Return a heading of the second level."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def warned(title: str, lines: Sequence[str], otherwise: str) -> str:
    """Return a red box of lines under a title; a green one of other words where there are none."""
    if not lines:
        return f'<div class="fine">{escape(otherwise)}</div>'
    items = "".join(f"<li>{escape(one)}</li>" for one in lines)
    return f'<div class="stop"><b>{escape(title)}</b><ul>{items}</ul></div>'


def number(value: float | None, form: str = ".2f") -> str:
    """Return a figure, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def page(title: str, parts: Sequence[str]) -> str:
    """Return the whole page; ends with the notice that it is for research."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}{paragraph(RESEARCH_USE_NOTICE)}</body></html>\n"
    )
