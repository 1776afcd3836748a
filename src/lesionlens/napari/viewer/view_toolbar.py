"""A narrow row of buttons above the views, for the commands of layouts and window levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QMenu, QToolButton, QWidget

from lesionlens.base.text import capitalized
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.model.choices.views import Layout, WindowPreset
from lesionlens.napari.model.screen.board import Board

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
        rulers, length = "toggle_rulers", "measure_length"
        self.rulers = self._button("rulers", BY_NAME[rulers].tip, partial(run, rulers))
        self.measure = self._button("mm", BY_NAME[length].tip, partial(run, length))
        self._separators = [QFrame() for _ in range(2)]
        groups = [[*self.layouts.values()], [*self.windows.values()]]
        for group, line in zip(groups, self._separators, strict=True):
            for button in group:
                row.addWidget(button)
            line.setFrameShape(QFrame.Shape.VLine)
            row.addWidget(line)
        self.overflow = _plain_button("…", "More")
        self.overflow.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.overflow.setMenu(QMenu(self.overflow))
        self.overflow.menu().aboutToShow.connect(self._fill_overflow)
        for button in (self.measure, self.rulers, self.overflow):
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

    def _buttons(self) -> tuple[QToolButton, ...]:
        """Return the buttons by priority; the last ones are hidden first."""
        return (*self.layouts.values(), *self.windows.values(), self.measure, self.rulers)

    def _fill_overflow(self) -> None:
        """List the buttons that do not fit into the row."""
        menu = self.overflow.menu()
        menu.clear()
        for button in self._buttons():
            if button.isHidden() and button.isEnabled():
                action = menu.addAction(button.toolTip())
                action.setCheckable(True)
                action.setChecked(button.isChecked())
                action.triggered.connect(button.click)

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
        for button, is_on in ((self.measure, views.measuring), (self.rulers, views.rulers)):
            button.setChecked(is_on and linked)
            button.setEnabled(not board.editing)
            if not board.editing:
                buttons_to_show.add(button)
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
