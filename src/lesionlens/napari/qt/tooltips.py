"""Tooltips with text of files, which Qt would take for markup."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt


def plain_tooltip(text: str) -> str:
    """Return a text of unknown origin as a tooltip that shows it as it is.

    Qt would open the file that `<img src=FILE>` in the name of a series refers to.

    Examples
    --------
    >>> plain_tooltip("T1 <2 mm>")
    'T1 <2 mm>'
    >>> plain_tooltip("T1 <b>post")
    '<span style="white-space: pre-wrap">T1 &lt;b&gt;post</span>'
    """
    if not Qt.mightBeRichText(text):
        return text
    return f'<span style="white-space: pre-wrap">{escape(text)}</span>'
