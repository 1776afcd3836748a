"""A narrow row of buttons above the views, for the commands of layouts and window levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QToolButton, QWidget

from lesionlens.base.text import capitalized
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.commands.viewing import MEASURES
from lesionlens.napari.model.choices.views import Layout, WindowPreset
from lesionlens.napari.model.screen.board import Board
from lesionlens.napari.qt.menus import Menu

_LAYOUTS = (
    (Layout.SINGLE, "1", "layout_single", ""),
    (Layout.ONE, "as acquired", "layout_acquired", "toggle_acquired_slices"),
    (Layout.PAIR, "1 × 2", "layout_pair", "next_row_layout"),
    (Layout.TRIPLE, "1 × 3", "layout_triple", "next_row_layout"),
    (Layout.FOUR, "2 × 2", "layout_four", "four_views"),
    (Layout.PLANES, "3 planes", "layout_planes", "three_planes"),
    (Layout.PRIOR, "prior", "layout_prior", "toggle_prior"),
)
"""Layout, label of its button, its command, and the command whose key the tip names."""
_WINDOWS = (
    (WindowPreset.AUTO, "auto", "window_auto"),
    (WindowPreset.BRAIN, "brain", "window_brain"),
    (WindowPreset.WIDE, "wide", "window_wide"),
)
_SWITCHES = {
    "toggle_cine": ("cine", "cine"),
    "toggle_slab": ("slab", "slab"),
    "toggle_isolines": ("isolines", "isolines"),
    "toggle_rulers": ("rulers", "rulers"),
    "toggle_names": ("names", "shows_identity"),
}
"""By the name of their command: label, and the choice of the views (`ViewChoices`)."""

_LINKED_ONLY = ("toggle_slab", "toggle_rulers")
"""Switches that work in linked views only, so not while an outline is redrawn."""
_HIDDEN_WHILE_EDITING = (*_LINKED_ONLY, "toggle_cine")
"""Switches that are hidden while an outline is redrawn, for want of space."""

_STYLE = """
QToolButton { border: none; border-radius: 3px; padding: 4px %dpx; }
QToolButton:hover { background: rgba(128, 140, 160, 60); }
QToolButton:checked { background: #2F6FB5; color: white; }
QToolButton::menu-indicator { image: none; width: 0; }
QToolButton:disabled { color: rgba(128, 128, 128, 140); }
"""
_WIDE_PADDING, _NARROW_PADDING, _MARGIN = 9, 2, 2
"""Padding of a button, pixels: easy to hit, and narrow; margin of the row."""


def _style(*, wide: bool) -> str:
    return _STYLE % (_WIDE_PADDING if wide else _NARROW_PADDING)


def _layout_tip(name: str, key_command: str) -> str:
    tip = BY_NAME[name].description.removeprefix("layout: ")
    tip = capitalized(tip)
    return BY_NAME[key_command].hint(tip) if key_command else tip


class ViewToolbar(QWidget):
    """Buttons for layouts, window levels and measurements.

    `run` takes the name of a command.
    """

    def __init__(self, run: Callable[[str], object], parent: QWidget) -> None:
        super().__init__(parent)
        self.setLayoutDirection(Qt.LayoutDirection.LeftToRight)
        self._is_wide = False
        self._last_shown: tuple[Board, bool] | None = None
        row = QHBoxLayout(self)
        row.setContentsMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)
        row.setSpacing(0)
        self.layouts = {
            layout: self._button(label, _layout_tip(name, key_command), partial(run, name))
            for layout, label, name, key_command in _LAYOUTS
        }
        self.windows = {
            window: self._button(label, BY_NAME[name].tip, partial(run, name))
            for window, label, name in _WINDOWS
        }
        self.switches = {
            name: self._button(label, BY_NAME[name].tip, partial(run, name))
            for name, (label, _) in _SWITCHES.items()
        }
        self._separators = [QFrame() for _ in range(3)]
        groups = [[*self.layouts.values()], [*self.windows.values()], [*self.switches.values()]]
        for group, line in zip(groups, self._separators, strict=True):
            for button in group:
                row.addWidget(button)
            line.setFrameShape(QFrame.Shape.VLine)
            row.addWidget(line)
        self.measure = self._measure_button(run)
        self.overflow = self._menu_button("…", "More")
        self.overflow.menu().aboutToShow.connect(self._fill_overflow)
        for button in (self.measure, self.overflow):
            row.addWidget(button)
        row.addStretch(1)
        self._requested = self._buttons()
        self.setStyleSheet(_style(wide=self._is_wide))

    def _button(self, label: str, tip: str, on_click: Callable[[], object]) -> QToolButton:
        button = _plain_button(label, tip)
        button.setCheckable(True)
        button.clicked.connect(lambda _=False: on_click())
        button.clicked.connect(self._show_again)
        return button

    def _measure_button(self, run: Callable[[str], object]) -> QToolButton:
        keys = ", ".join(command.shown_key for command in MEASURES[:-1])
        button = self._menu_button("mm", f"Measure a length, an angle or intensities ({keys})")
        button.setAccessibleName("Measure")
        button.setCheckable(True)
        for command in MEASURES:
            action = button.menu().addAction(command.tip)
            action.triggered.connect(lambda _=False, c=command: run(c.name))
        return button

    def _menu_button(self, label: str, tip: str) -> QToolButton:
        button = _plain_button(label, tip)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setMenu(Menu(button))
        return button

    def _buttons(self) -> tuple[QToolButton, ...]:
        """Return the buttons by priority; the last ones are hidden first."""
        essential = (*self.layouts.values(), *self.windows.values(), self.measure)
        return (*essential, *self.switches.values())

    def _fill_overflow(self) -> None:
        """List the buttons that do not fit into the row."""
        menu = self.overflow.menu()
        menu.clear()
        for button in self._buttons():
            if button is not self.measure and button.isHidden() and button.isEnabled():
                action = menu.addAction(button.toolTip())
                action.setCheckable(True)
                action.setChecked(button.isChecked())
                action.triggered.connect(button.click)
        if self.measure.isHidden() and self.measure in self._requested:
            menu.addSeparator()
            menu.addActions(self.measure.menu().actions())

    def minimumSizeHint(self) -> QSize:
        """Return the size with one button and the menu of the others."""
        lines_width = sum(line.sizeHint().width() for line in self._separators)
        min_width = self._width_of((*self._requested[:1], self.overflow))
        return QSize(min_width + lines_width + 2 * _MARGIN, super().minimumSizeHint().height())

    def _width_of(self, buttons: Sequence[QToolButton], *, wide: bool = False) -> int:
        """Return the width of buttons with a padding, pixels."""
        extra = 2 * (_WIDE_PADDING - _NARROW_PADDING) * (wide - self._is_wide)
        return sum(button.sizeHint().width() + extra for button in buttons)

    def _fit(self) -> None:
        """Choose the padding that fits the width; other buttons go into the menu."""
        lines_width = sum(line.sizeHint().width() for line in self._separators)
        available, visible = self.width() - 2 * _MARGIN - lines_width, self._requested
        overflows = any(b not in visible and b.isEnabled() for b in self._buttons())
        menu = (self.overflow,) if overflows else ()
        wide = available >= self._width_of((*visible, *menu), wide=True)
        while len(visible) > 1 and available < self._width_of((*visible, *menu), wide=wide):
            visible, menu = visible[:-1], (self.overflow,)
        for button in self._buttons():
            button.setVisible(button in visible)
        self.overflow.setVisible(bool(menu))
        if wide is not self._is_wide:
            self._is_wide = wide
            self.setStyleSheet(_style(wide=wide))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose the padding and the buttons that fit the width."""
        super().resizeEvent(event)
        self._fit()

    def _show_again(self) -> None:
        """Paint the buttons again: Qt toggles a clicked button even if the command was refused."""
        if self._last_shown is not None:
            self.show_board(self._last_shown[0], linked=self._last_shown[1])

    def show_board(self, board: Board, *, linked: bool) -> None:
        """Check, enable and show the buttons.

        Unless linked views are visible (`linked`), napari's canvas is, in any layout.
        """
        self._last_shown = (board, linked)
        views, series_count = board.views, len(board.series)
        current_layout = views.layout if linked else Layout.SINGLE
        buttons_to_show = set()
        for layout, button in self.layouts.items():
            button.setChecked(layout is current_layout)
            enabled = layout is not Layout.PRIOR or views.compared is not None
            has_space = not board.editing or layout in (Layout.SINGLE, views.layout)
            button.setEnabled(enabled and layout.sequences <= max(series_count, 1))
            if enabled and has_space:  # napari's controls need the space
                buttons_to_show.add(button)
        compares_images = views.compared is not None and bool(views.compared.other_image)
        self.layouts[Layout.PRIOR].setText("beside" if compares_images else "prior")
        for window, button in self.windows.items():
            button.setChecked(window is views.window)
            buttons_to_show.add(button)
        for command, button in self.switches.items():
            is_linked_only = command in _LINKED_ONLY
            is_on: bool = getattr(views, _SWITCHES[command][1])
            button.setChecked(is_on and (linked or not is_linked_only))
            button.setEnabled(not (is_linked_only and board.editing))
            if command not in _HIDDEN_WHILE_EDITING or not board.editing:
                buttons_to_show.add(button)
        self.measure.setChecked(views.measuring is not None)
        if not board.editing:
            buttons_to_show.add(self.measure)
        self._requested = tuple(button for button in self._buttons() if button in buttons_to_show)
        self._fit()
        self.setVisible(board.opened)  # last: a visible row is laid out again at every change


def _plain_button(label: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(label)
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button
