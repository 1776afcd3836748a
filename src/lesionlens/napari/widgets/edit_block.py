"""Buttons for adding and drawing, and the brush's range."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QLocale, QSignalBlocker
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QMenu,
    QPushButton,
    QToolButton,
    QWidget,
)

from lesionlens.napari.commands.editing import EDIT
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.tools import Limit
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.qt.keyboard import leave_after_enter
from lesionlens.napari.widgets.command_buttons import CommandButtons
from lesionlens.napari.widgets.parts import flat_button, label, row, set_available, stack

_TOOLS = (
    ("ball", "brush_ball"),
    ("smooth", "smooth"),
    ("holes", "fill_holes"),
    ("islands", "remove_islands"),
    ("slices", "interpolate"),
    ("split", "split"),
    ("cut here", "split_here"),
    ("exclude", "prompts_exclude"),
)
_COLUMNS = 4
_SMALL_INTENSITY = 10.0
"""Intensities below this, as of normalised images, have three decimals or more instead of one."""
_LIMITS = (
    (Limit.ANYWHERE, "paint anywhere"),
    (Limit.INTENSITY, "within intensity"),
    (Limit.PROBABILITY, "within probability"),
)


class NumberBox(QDoubleSpinBox):
    """A number with a decimal point or comma, in any locale; neither separates thousands."""

    def __init__(self) -> None:
        super().__init__()
        self.setLocale(QLocale.c())
        self.setGroupSeparatorShown(False)

    def validate(self, text: str, at: int) -> Any:
        """Check a text that is being typed."""
        return super().validate(text.replace(",", "."), at)

    def valueFromText(self, text: str) -> float:
        """Return the number of a text."""
        return float(super().valueFromText(text.replace(",", ".")))


class EditTools(QWidget):
    """Tools shown while an outline is drawn, and the range of the brush."""

    def __init__(self, session: ReviewSession, run: Callable[[str], object]) -> None:
        super().__init__()
        self._session = session
        self._commands = CommandButtons(run)
        self._buttons = {act: self._button(text, act) for text, act in _TOOLS}
        for act in ("brush_ball", "split", "prompts_exclude"):
            self._buttons[act].setCheckable(True)
        grid = QGridLayout()
        grid.setSpacing(3)
        grid.setContentsMargins(0, 0, 0, 0)
        for position, button in enumerate(self._buttons.values()):
            grid.addWidget(button, position // _COLUMNS, position % _COLUMNS)
        self.limit = QComboBox()
        self.limit.setAccessibleName("Where the brush paints")
        tip = BY_NAME["brush_limit"].hint("Only voxels in the range are painted")
        self.limit.setToolTip(tip)
        for value, text in _LIMITS:
            self.limit.addItem(text, value)
        self.limit.activated.connect(self._choose_limit)
        self._limit_number = 0
        self.low, self.high = self._bound("Lowest value painted"), self._bound("Highest value")
        self._until = label("to", "dim")
        bounds = row(self.low, self._until, self.high, None, spacing=4)
        stack(self, grid, self.limit, bounds, spacing=4)

    def _choose_limit(self, number: int) -> None:
        """Forward the choice; the one in use is shown until another is accepted."""
        self.limit.setCurrentIndex(self._limit_number)
        self._session.choose_limit(_LIMITS[number][0])

    def _button(self, text: str, act: str) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setProperty("role", "segment")
        policy = button.sizePolicy()
        policy.setHorizontalPolicy(policy.Policy.Expanding)
        button.setSizePolicy(policy)
        return self._commands.add(button, act)

    def _bound(self, name: str) -> NumberBox:
        box = NumberBox()
        box.setAccessibleName(name)
        box.setKeyboardTracking(False)
        box.setMinimumWidth(72)
        box.valueChanged.connect(
            lambda _: self._session.choose_range(self.low.value(), self.high.value())
        )
        leave_after_enter(box, self)
        return box

    def show_screen(self, screen: Screen) -> None:
        """Show the tools; hidden unless an outline is drawn."""
        self.setVisible(screen.editing)
        tools = screen.tools
        self._buttons["brush_ball"].setChecked(tools.ball)
        self._buttons["split"].setChecked(tools.points is not None)
        self._buttons["prompts_exclude"].setChecked(tools.excluding)
        kinds = [value for value, _ in _LIMITS]
        self._limit_number = kinds.index(tools.limit)
        self.limit.setCurrentIndex(self._limit_number)
        is_limited = tools.limit is not Limit.ANYWHERE
        is_probability = tools.limit is Limit.PROBABILITY
        largest = max(abs(tools.low), abs(tools.high))
        step, decimals = (0.05, 2) if is_probability else _intensity_digits(largest)
        for box, value in ((self.low, tools.low), (self.high, tools.high)):
            with QSignalBlocker(box):
                box.setVisible(is_limited)
                box.setDecimals(decimals)
                box.setRange(0.0 if is_probability else -1e6, 1.0 if is_probability else 1e6)
                box.setSingleStep(step)
                box.setValue(value)
        self._until.setVisible(is_limited)


def _intensity_digits(largest: float) -> tuple[float, int]:
    """Return the step and the number of decimals of intensities up to the largest.

    Examples
    --------
    >>> [_intensity_digits(largest) for largest in (900.0, 2.0, 0.0004)]
    [(10.0, 1), (0.01, 3), (1e-05, 6)]
    """
    if largest >= _SMALL_INTENSITY:
        return 10.0, 1
    decimals = max(3, 3 - math.ceil(math.log10(largest))) if largest else 3
    return 10.0 ** (1 - decimals), decimals


class AddRow(QWidget):
    """Buttons for adding, drawing and merging, and for continuing interrupted strokes."""

    def __init__(self, merge_with: Callable[[int], object], run: Callable[[str], object]) -> None:
        super().__init__()
        self._merge_with = merge_with
        self._commands = commands = CommandButtons(run)
        tip = "Add the lesion at the crosshair or pointer"
        self._add = commands.add(flat_button(""), "add_lesion", "+ add", tip)
        self._draw = commands.add(flat_button(""), "draw_lesion", "draw")
        tip = "Draw the resection cavity after surgery, or correct it; it is not tumour"
        # without its long key, for which a large font has no room
        self._cavity = commands.add(flat_button("cavity"), "draw_cavity", tip=tip)
        merge = BY_NAME["merge"]
        tip = merge.hint("Merge with another candidate; the key selects the nearest")
        self._menu = QMenu(self)
        self._merge = flat_button(merge.captioned("merge"), tip, self._menu)
        self._draft = label("", "warn", wrap=True)
        tip = "Continue with the interrupted strokes"
        self._continue_draft = commands.add(QPushButton(), EDIT, "Continue", tip)
        tip = "Discard the interrupted strokes"
        self._discard_draft = commands.add(flat_button("discard"), "discard_edit", tip=tip)
        adding = row(self._add, self._draw, self._cavity, self._merge, None, spacing=2)
        stack(
            self,
            adding,
            self._draft,
            row(self._continue_draft, self._discard_draft, None),
            spacing=4,
        )

    def show_screen(self, screen: Screen) -> None:
        """Show the available acts."""
        self.setVisible(not screen.editing)
        others = [candidate for candidate in screen.candidates if not candidate.focus]
        self._commands.show_screen(screen)
        set_available(self._merge, BY_NAME["merge"].unavailable(screen))
        self._menu.clear()
        for candidate in others:
            act = self._menu.addAction(f"{candidate.id} · {candidate.location}")
            act.triggered.connect(lambda _=False, number=candidate.id: self._merge_with(number))
        self._draft.setText(screen.draft_text)
        for widget in (self._draft, self._continue_draft, self._discard_draft):
            widget.setVisible(bool(screen.draft_text))
