"""Texts in the upper corners of napari's canvas: the patient's identity, a text for each line.

Napari draws one rectangle behind a text, as wide as its longest line. Each line is a separate text,
so that the background does not dim the tissue next to shorter lines.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from napari.components import ViewerModel
from napari.components.overlays import TextOverlay
from qtpy.QtCore import Qt
from qtpy.QtGui import QFont, QFontMetricsF, QTextLayout

from lesionlens.base.text import DIRECTION_CONTROLS

LETTER_POINTS = 13
"""Font size of the letters at the edges of the canvas."""
_WIDE_CANVAS, _LARGE, _SMALL = 800, 11, 8
"""Logical pixels from which the larger font size (points) is used."""
_PIXELS_PER_POINT = 96 / 72
_N_OF_PATIENT = 2
"""The first lines, name and identifier: shortened rather than omitted."""
_LETTER_SPACE, _MARGIN = 40, 20
"""Room for half the letter of the upper edge, and at both sides of a line, pixels."""


class IdentityText:
    """The lines, below the caption and the letter of the upper edge if one would reach them.

    They end above the letter of the right edge: the last ones are omitted on a low canvas.

    Parameters
    ----------
    create : callable
        Takes the end of a name; returns a hidden text in the upper right corner.
    """

    def __init__(self, viewer: ViewerModel, create: Callable[[str], TextOverlay]) -> None:
        self._viewer, self._create = viewer, create
        self._tiling = viewer.canvas.overlay_tiling
        self._napari_tiling = self._tiling.top_right
        self.lines: tuple[str, ...] = ()
        """The lines, in reading order, neither shortened nor reordered."""
        self._space = create("space")
        self._space.box = False
        self._texts: list[TextOverlay] = []

    def show(self, lines: tuple[str, ...], caption: str) -> None:
        """Show lines beside a caption at the opposite corner; call again if the canvas changed."""
        self.lines = lines
        self._tiling.top_right = "vertical" if lines else self._napari_tiling
        height, width = map(float, self._viewer.canvas.size)
        points = _LARGE if width >= _WIDE_CANVAS else _SMALL
        n_above = _rows_above_letter(height, points, self._tiling.padding[1])
        beside, n_caption = width / 2 - _LETTER_SPACE, caption.count("\n") + 1
        shown = _elided(lines, points, width - _MARGIN)
        if _width(shown, points) <= beside:
            n_caption = 0
        elif n_above - n_caption < min(len(lines), _N_OF_PATIENT):
            elide = Qt.TextElideMode.ElideMiddle  # identifiers of a site often differ at their end
            shown, n_caption = _elided(lines, points, beside, elide), 0
        if lines and not self._texts:
            # napari stacks texts in the order in which they are first shown
            _put(self._space, " ", points)
        _put(self._space, "\n".join([" "] * n_caption), points)
        del shown[max(n_above - n_caption, 0) :]
        while len(self._texts) < len(shown):
            self._texts.append(self._create(str(len(self._texts) + 1)))
        shown += [""] * (len(self._texts) - len(shown))
        for text, line in zip(self._texts, shown, strict=True):
            _put(text, line, points)


def fitted_caption(text: str, width_px: float) -> tuple[str, int]:
    """Return a caption in visual order and its font size, beside the letter of the upper edge.

    Where it is too wide, it is smaller, then broken at each "·", then shortened.
    """
    beside, lines = width_px / 2 - _LETTER_SPACE, text.split("\n")
    for points in (_LARGE, _SMALL):
        if _width(lines, points) <= beside:
            return "\n".join(map(visual_order, lines)), points
    return "\n".join(_elided(text.replace(" · ", "\n").split("\n"), _SMALL, beside)), _SMALL


def _elided(
    lines: Sequence[str],
    points: float,
    width_px: float,
    elide: Qt.TextElideMode = Qt.TextElideMode.ElideRight,
) -> list[str]:
    """Return lines in visual order, with an ellipsis where they are wider than `width_px`."""
    metrics, available = QFontMetricsF(QFont("OpenSans", points)), width_px / _PIXELS_PER_POINT
    return [visual_order(metrics.elidedText(line, elide, available)) for line in lines]


def _width(lines: Sequence[str], points: float) -> float:
    """Return the width of the widest line, pixels."""
    metrics = QFontMetricsF(QFont("OpenSans", points))
    return max(map(metrics.horizontalAdvance, lines), default=0.0) * _PIXELS_PER_POINT


def _rows_above_letter(height: float, points: float, padding: float) -> int:
    """Return how many texts of a font size end above the letter in the middle of an edge.

    Parameters
    ----------
    height, padding : float
        Of the canvas, and above each text, pixels.
    """
    row, letter = (
        QFontMetricsF(QFont("OpenSans", size)).height() * _PIXELS_PER_POINT
        for size in (points, LETTER_POINTS)
    )
    return int(((height - letter) / 2 - padding) / (row + padding))


def _put(text: TextOverlay, line: str, points: float) -> None:
    """Show a line, or hide its text; what is unchanged is not drawn again."""
    changes = {"font_size": points, "text": line, "visible": bool(line)}
    for name, value in changes.items():
        if getattr(text, name) != value:
            setattr(text, name, value)


def visual_order(line: str) -> str:
    """Return the characters of a line from left to right, as they are read on the screen.

    Napari draws each character to the right of the one before: a Hebrew or Arabic name would be
    spelt backwards.
    """
    leftward = [unicodedata.bidirectional(letter) in ("R", "AL") for letter in line]
    if not any(leftward):
        return line
    layout = QTextLayout(line)
    layout.beginLayout()
    row = layout.createLine()
    layout.endLayout()
    found = []
    for index, is_leftward in enumerate(leftward):
        glyphs = [point.x() for run in row.glyphRuns(index, 1) for point in run.positions()]
        if glyphs:  # those of a ligature have one position
            found.append((min(glyphs), -index if is_leftward else index, line[index]))
    return DIRECTION_CONTROLS.sub("", "".join(letter for *_, letter in sorted(found)))
