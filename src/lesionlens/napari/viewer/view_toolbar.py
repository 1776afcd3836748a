"""A narrow row of buttons above the views, for the commands of layouts and window levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QMenu, QToolButton, QWidget

from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.commands.viewing import MEASURES
from lesionlens.napari.model.choices.views import Layout, Window
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
"""Layout, words on the button, its command, and the keyed command that the tip names."""
_WINDOWS = (
    (Window.AUTO, "auto", "window_auto"),
    (Window.BRAIN, "brain", "window_brain"),
    (Window.WIDE, "wide", "window_wide"),
)
_SWITCHES = (
    ("toggle_cine", "cine"),
    ("toggle_slab", "slab"),
    ("toggle_isolines", "isolines"),
    ("toggle_rulers", "rulers"),
    ("toggle_names", "names"),
)

_LINKED = ("toggle_slab", "toggle_rulers")
"""Switches that work in linked views only, so not while an outline is redrawn."""
_ASIDE = (*_LINKED, "toggle_cine")
"""Switches that have no room while an outline is redrawn."""

_STYLE = """
QToolButton { border: none; border-radius: 3px; padding: 4px %dpx; }
QToolButton:hover { background: rgba(128, 140, 160, 60); }
QToolButton:checked { background: #2F6FB5; color: white; }
QToolButton::menu-indicator { image: none; width: 0; }
QToolButton:disabled { color: rgba(128, 128, 128, 140); }
"""
_ROOMY, _NARROW, _MARGIN = 9, 2, 2
"""Padding of a button, pixels: easy to hit, and narrow; margin of the row."""


def _style(roomy: bool) -> str:
    return _STYLE % (_ROOMY if roomy else _NARROW)


def _layout_tip(name: str, keyed: str) -> str:
    words = BY_NAME[name].description.removeprefix("layout: ")
    words = f"{words[:1].upper()}{words[1:]}"
    return BY_NAME[keyed].hint(words) if keyed else words


class ViewToolbar(QWidget):
    """Buttons for layouts, window levels and measurements.

    Parameters
    ----------
    run : callable
        Runs a command of the window by its name.
    """

    def __init__(self, run: Callable[[str], object], parent: QWidget) -> None:
        super().__init__(parent)
        self._is_roomy = False
        self._stated: tuple[Board, bool] | None = None
        row = QHBoxLayout(self)
        row.setContentsMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)
        row.setSpacing(0)
        self.layouts = {
            layout: self._button(words, _layout_tip(name, keyed), partial(run, name))
            for layout, words, name, keyed in _LAYOUTS
        }
        self.windows = {
            window: self._button(words, BY_NAME[name].tip, partial(run, name))
            for window, words, name in _WINDOWS
        }
        self.switches = {
            name: self._button(words, BY_NAME[name].tip, partial(run, name))
            for name, words in _SWITCHES
        }
        self._lines = [QFrame() for _ in range(3)]
        groups = [[*self.layouts.values()], [*self.windows.values()], [*self.switches.values()]]
        for group, line in zip(groups, self._lines, strict=True):
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
        self._wanted = self._buttons()
        self.setStyleSheet(_style(self._is_roomy))

    def _button(self, words: str, tip: str, act: Callable[[], object]) -> QToolButton:
        button = _plain_button(words, tip)
        button.setCheckable(True)
        button.clicked.connect(lambda _=False: act())
        button.clicked.connect(self._restate)
        return button

    def _measure_button(self, run: Callable[[str], object]) -> QToolButton:
        keys = ", ".join(command.shown_key for command in MEASURES[:-1])
        made = self._menu_button("mm", f"Measure a length, an angle or intensities ({keys})")
        made.setAccessibleName("Measure")
        made.setCheckable(True)
        for command in MEASURES:
            act = made.menu().addAction(command.tip)
            act.triggered.connect(lambda _=False, c=command: run(c.name))
        return made

    def _menu_button(self, words: str, tip: str) -> QToolButton:
        made = _plain_button(words, tip)
        made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        made.setMenu(QMenu(made))
        return made

    def _buttons(self) -> tuple[QToolButton, ...]:
        """Return the buttons; the last ones are the first that have no room."""
        first = (*self.layouts.values(), *self.windows.values(), self.measure)
        return (*first, *self.switches.values())

    def _fill_overflow(self) -> None:
        """List the buttons that have no room in the row."""
        menu = self.overflow.menu()
        menu.clear()
        for button in self._buttons():
            if button is not self.measure and button.isHidden() and button.isEnabled():
                act = menu.addAction(button.toolTip())
                act.setCheckable(True)
                act.setChecked(button.isChecked())
                act.triggered.connect(button.click)
        if self.measure.isHidden() and self.measure in self._wanted:
            menu.addSeparator()
            menu.addActions(self.measure.menu().actions())

    def minimumSizeHint(self) -> QSize:
        """Return the size with one button and the menu of the others."""
        lines = sum(one.sizeHint().width() for one in self._lines)
        least = self._width_of((*self._wanted[:1], self.overflow))
        return QSize(least + lines + 2 * _MARGIN, super().minimumSizeHint().height())

    def _width_of(self, buttons: Sequence[QToolButton], roomy: bool = False) -> int:
        """Return the width of buttons, pixels, whatever the padding is now."""
        more = 2 * (_ROOMY - _NARROW) * (roomy - self._is_roomy)
        return sum(button.sizeHint().width() + more for button in buttons)

    def _fit(self) -> None:
        """Choose the padding that fits the width; what has no room goes into the menu."""
        lines = sum(one.sizeHint().width() for one in self._lines)
        free, shown = self.width() - 2 * _MARGIN - lines, self._wanted
        aside = (one for one in self._buttons() if one not in shown and one.isEnabled())
        menu = (self.overflow,) if any(aside) else ()
        roomy = free >= self._width_of((*shown, *menu), roomy=True)
        while len(shown) > 1 and free < self._width_of((*shown, *menu), roomy):
            shown, menu = shown[:-1], (self.overflow,)
        for button in self._buttons():
            button.setVisible(button in shown)
        self.overflow.setVisible(bool(menu))
        if roomy is not self._is_roomy:
            self._is_roomy = roomy
            self.setStyleSheet(_style(roomy))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose the padding and the buttons that fit the width."""
        super().resizeEvent(event)
        self._fit()

    def _restate(self) -> None:
        """Paint the buttons again: Qt toggles a clicked button even if the command was refused."""
        if self._stated is not None:
            self.show_board(self._stated[0], linked=self._stated[1])

    def show_board(self, board: Board, *, linked: bool) -> None:
        """Check, enable and show the buttons.

        Parameters
        ----------
        linked : bool
            Whether linked views are visible; otherwise napari's canvas is, whatever the layout.
        """
        self._stated = (board, linked)
        views, present = board.views, len(board.series)
        layout_shown = views.layout if linked else Layout.SINGLE
        wanted = set()
        for layout, button in self.layouts.items():
            button.setChecked(layout is layout_shown)
            free = layout is not Layout.PRIOR or views.compared is not None
            roomy = not board.editing or layout in (Layout.SINGLE, views.layout)
            button.setEnabled(free and layout.sequences <= max(present, 1))
            wanted |= {button} if free and roomy else set()  # napari's controls need the space
        other = views.compared is not None and bool(views.compared.other_image)
        self.layouts[Layout.PRIOR].setText("beside" if other else "prior")
        for window, button in self.windows.items():
            button.setChecked(window is views.window)
            wanted.add(button)
        held = {
            "toggle_cine": views.cine,
            "toggle_slab": views.slab and linked,
            "toggle_isolines": views.isolines,
            "toggle_rulers": views.rulers and linked,
            "toggle_names": views.named,
        }
        for act, button in self.switches.items():
            button.setChecked(held[act])
            free = act not in _LINKED or not board.editing
            button.setEnabled(free)
            wanted |= {button} if act not in _ASIDE or not board.editing else set()
        self.measure.setChecked(views.measuring is not None)
        wanted |= set() if board.editing else {self.measure}
        self._wanted = tuple(button for button in self._buttons() if button in wanted)
        self._fit()
        self.setVisible(board.opened)  # last: a visible row is laid out again at every change


def _plain_button(words: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(words)
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button
