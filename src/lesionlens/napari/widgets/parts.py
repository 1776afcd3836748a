"""Small parts of the panel: headings, segmented choices, relevance bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QAbstractItemModel, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QBoxLayout,
    QButtonGroup,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QMenu,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from lesionlens.napari.model.wording.candidates import Bar, Fact
from lesionlens.napari.qt.rows_model import LEFT, plain_tooltip


def small_font(widget: QWidget) -> QFont:
    """Return the font of custom-painted texts, slightly smaller than the window's."""
    font = QFont(widget.font())
    font.setPointSizeF(max(font.pointSizeF(), 1.0) * 0.92)
    return font


def label(text: str = "", role: str = "", *, wrap: bool = False) -> QLabel:
    """Make a plain-text label (hostile descriptions are never interpreted as markup)."""
    widget = QLabel(text)
    widget.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        widget.setProperty("role", role)
    if wrap:
        widget.setWordWrap(True)
        widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return widget


def set_role(widget: QWidget, role: str) -> None:
    """Change the role of a widget, and its style."""
    if widget.property("role") != role:
        widget.setProperty("role", role)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def show_text(widget: QLabel, text: str) -> None:
    """Show a text, or hide the label if it is empty."""
    widget.setText(text)
    widget.setVisible(bool(text))


def show_fact(widget: QLabel, fact: Fact | None) -> None:
    """Show a fact with its sign and colour, or hide the label."""
    widget.setVisible(fact is not None)
    if fact is not None:
        widget.setText(fact.text + {True: " ✓", False: " ⚠", None: ""}[fact.good])
        widget.setToolTip(plain_tooltip(fact.tooltip))
        set_role(widget, {True: "good", False: "warn", None: "dim"}[fact.good])


def row(*items: QWidget | None, spacing: int = 6) -> QHBoxLayout:
    """Arrange widgets side by side; None stretches. A spacing of -1 is that of Qt's style."""
    layout = QHBoxLayout()
    _arrange(layout, items, (0, 0, 0, 0), spacing)
    return layout


def stack(
    parent: QWidget,
    *items: QWidget | QLayout | None,
    margins: tuple[int, int, int, int] | None = (0, 0, 0, 0),
    spacing: int = -1,
) -> QVBoxLayout:
    """Arrange widgets and rows below each other in a widget; None stretches.

    Parameters
    ----------
    margins : left, top, right, bottom, or None
        Pixels; None for those of Qt's style.
    spacing : int
        Pixels; -1 for that of Qt's style.
    """
    layout = QVBoxLayout(parent)
    _arrange(layout, items, margins, spacing)
    return layout


def _arrange(
    layout: QBoxLayout,
    items: Sequence[QWidget | QLayout | None],
    margins: tuple[int, int, int, int] | None,
    spacing: int,
) -> None:
    if margins is not None:
        layout.setContentsMargins(*margins)
    layout.setSpacing(spacing)
    for item in items:
        if item is None:
            layout.addStretch(1)
        elif isinstance(item, QLayout):
            layout.addLayout(item)
        else:
            layout.addWidget(item)


def push_button(
    text: str, callback: Callable[[], object], tip: str = "", role: str = ""
) -> QPushButton:
    """Make a button that calls `callback`."""
    button = QPushButton(text)
    button.setToolTip(tip)
    if role:
        button.setProperty("role", role)
    button.clicked.connect(lambda _=False: callback())
    return button


def combo_box(name: str, letters: int) -> QComboBox:
    """Make a list that may be narrower than its texts, down to a number of letters."""
    box = QComboBox()
    box.setAccessibleName(name)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(letters)
    return box


def show_items(box: QComboBox, items: Sequence[tuple[str, object]], chosen: object) -> None:
    """Show a list of (text, value) with one chosen, else the first."""
    if [box.itemText(n) for n in range(box.count())] != [text for text, _ in items]:
        box.clear()
        for text, value in items:
            box.addItem(text, value)
    values = [value for _, value in items]
    box.setCurrentIndex(values.index(chosen) if chosen in values else 0)


def verbatim(text: str) -> str:
    """Return a text of a button or menu in which no "&" marks a key, such as a folder's name."""
    return text.replace("&", "&&")


def flat_button(text: str, tooltip: str = "", menu: QMenu | None = None) -> QToolButton:
    """Make a frameless button, with a menu if any; its tooltip is also its accessible name."""
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tooltip)
    button.setAccessibleName(tooltip)
    button.setProperty("role", "flat")
    if menu is not None:
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setMenu(menu)
    return button


def set_available(control: QWidget, why_not: str) -> None:
    """Enable a control, or disable it with the reason as tooltip."""
    if control.property("hint") is None:
        control.setProperty("hint", control.toolTip())
    control.setEnabled(not why_not)
    control.setToolTip(why_not or control.property("hint"))


class ElidedLabel(QLabel):
    """One elided line of plain text; the tooltip has all of it."""

    def __init__(self, role: str = "") -> None:
        super().__init__()
        self._full_text = ""
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_text(self, text: str) -> None:
        """Show this text."""
        self._full_text = text
        self._elide()

    def resizeEvent(self, event: Any) -> None:
        """Elide the text for the new width."""
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        width = max(self.width(), 1)
        shown = self.fontMetrics().elidedText(self._full_text, Qt.TextElideMode.ElideMiddle, width)
        self.setText(shown)
        self.setToolTip(plain_tooltip(self._full_text) if shown != self._full_text else "")


class Section(QWidget):
    """A collapsible block with a heading, a rule and an optional corner widget."""

    def __init__(self, title: str, corner: QWidget | None = None) -> None:
        super().__init__()
        rule = QFrame()
        rule.setProperty("role", "rule")
        self.heading = QToolButton()
        self.heading.setText(title)
        self.heading.setProperty("role", "fold")
        self.heading.setCheckable(True)
        self.heading.setChecked(True)
        self.heading.setArrowType(Qt.ArrowType.DownArrow)
        self.heading.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.heading.setToolTip("Collapse or expand this section")
        self.heading.setAccessibleName(f"{title.capitalize()}: expanded")
        self.heading.toggled.connect(self._unfold)
        self._inside = QWidget()
        self.body_layout = stack(self._inside, spacing=6)
        heading = row(self.heading, None, *([corner] if corner is not None else []))
        stack(self, rule, heading, self._inside, spacing=6)

    def add(self, *items: QWidget | QLayout) -> None:
        """Add widgets and rows below each other."""
        _arrange(self.body_layout, items, None, self.body_layout.spacing())

    def _unfold(self, expanded: bool) -> None:
        self._inside.setVisible(expanded)
        arrow = Qt.ArrowType.DownArrow if expanded else Qt.ArrowType.RightArrow
        self.heading.setArrowType(arrow)
        title = self.heading.text().capitalize()
        self.heading.setAccessibleName(f"{title}: {'expanded' if expanded else 'collapsed'}")


class Segments(QWidget):
    """A choice among a few buttons side by side."""

    chosen = Signal(object)

    def __init__(self, choices: Sequence[tuple[object, str, str]]) -> None:
        """Create a button for each (value, text, tooltip)."""
        super().__init__()
        self.buttons: dict[object, QToolButton] = {}
        """By choice; Tab stops at the chosen one, arrows lead to the others."""
        self._group = QButtonGroup(self)
        layout = row(spacing=2)
        self.setLayout(layout)
        for value, text, tooltip in choices:
            button = QToolButton()
            button.setText(text)
            button.setToolTip(tooltip)
            button.setCheckable(True)
            button.setProperty("role", "segment")
            button.clicked.connect(lambda _=False, value=value: self.chosen.emit(value))
            self._group.addButton(button)
            self.buttons[value] = button
            layout.addWidget(button)

    def show_choice(self, value: object) -> None:
        """Show the choice, without a signal."""
        button = self.buttons.get(value)
        if button is not None and not button.isChecked():
            button.setChecked(True)
        for other in self.buttons.values():
            chosen = other is button
            other.setFocusPolicy(
                Qt.FocusPolicy.StrongFocus if chosen else Qt.FocusPolicy.ClickFocus
            )


def signed(value: float) -> str:
    """Return a number with its sign, except for zero.

    Examples
    --------
    >>> signed(0.5), signed(-0.25), signed(-0.001)
    ('+0.50', '-0.25', '0.00')
    """
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


class Bars(QWidget):
    """Signed relevance of the sequences: one bar each, to the left if negative."""

    def __init__(self) -> None:
        super().__init__()
        self._bars: tuple[Bar, ...] = ()
        self.setProperty("role", "painted")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_bars(self, bars: tuple[Bar, ...], deciding: str = "") -> None:
        """Show bars; the tooltip has the deciding sequence and all values."""
        if bars != self._bars:
            self._bars = bars
            self.setToolTip(
                "\n".join(
                    [
                        "How much of the outline each sequence shows (Shapley values):",
                        *(bar.details for bar in bars),
                        deciding,
                    ]
                ).strip()
            )
            self.setAccessibleName(", ".join(f"{b.name} {signed(b.value)}" for b in bars))
            self.updateGeometry()
            self.update()

    def sizeHint(self) -> QSize:
        """Return the size of one line per bar."""
        return QSize(200, self._line * len(self._bars))

    @property
    def _line(self) -> int:
        return int(QFontMetrics(small_font(self)).height()) + 1

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw name, bar and value on each line."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = small_font(self)
        metrics, line = QFontMetrics(font), self._line
        painter.setFont(font)
        text = self.palette().windowText().color()
        span = max((abs(bar.value) for bar in self._bars), default=1.0) or 1.0
        name_width = metrics.horizontalAdvance("FLAIR ") + 4
        value_width = metrics.horizontalAdvance("+0.00") + 6
        width = max(self.width() - name_width - value_width, 10)
        for n, bar in enumerate(self._bars):
            top = n * line
            painter.setPen(text)
            left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(0, top, name_width, line), left, bar.name)
            value_box = QRectF(self.width() - value_width, top, value_width, line)
            painter.drawText(value_box, right, signed(bar.value))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor("#56B4E9" if bar.value >= 0 else "#D55E00"))
            length = max(abs(bar.value) / span * width, 1.0)
            painter.drawRoundedRect(QRectF(name_width, top + line / 2 - 3.5, length, 7), 2, 2)
        painter.end()


def show_rows(table: QTableView, model: QAbstractItemModel, name: str) -> None:
    """Show a model in a read-only table with single-row selection."""
    table.setModel(model)
    make_read_only(table, name)
    table.horizontalHeader().setHighlightSections(False)


def text_table(headings: Sequence[str], name: str) -> QTableWidget:
    """Make a read-only table of texts with single-row selection."""
    table = QTableWidget(0, len(headings))
    table.setHorizontalHeaderLabels(list(headings))
    make_read_only(table, name)
    return table


def show_texts(table: QTableWidget, rows: Sequence[Sequence[str]]) -> None:
    """Show rows of texts."""
    table.setRowCount(len(rows))
    for number, texts in enumerate(rows):
        for column, text in enumerate(texts):
            table.setItem(number, column, QTableWidgetItem(text))


def make_read_only(table: QTableView, name: str) -> None:
    """Name a table, let single rows be selected in it, and nothing edited."""
    table.setAccessibleName(name)
    table.setShowGrid(False)
    table.setWordWrap(False)
    table.setTabKeyNavigation(False)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.verticalHeader().hide()
    table.horizontalHeader().setDefaultAlignment(LEFT)


def scroll_into_view(*widgets: QWidget) -> None:
    """Scroll the area around widgets until they are visible, with priority for the last."""
    for widget in widgets:
        ancestor = widget.parentWidget()
        while ancestor is not None and not isinstance(ancestor, QScrollArea):
            ancestor = ancestor.parentWidget()
        if ancestor is not None:
            ancestor.ensureWidgetVisible(widget)


class AnchoredScroll(QScrollArea):
    """Scroll area that keeps its lower edge in place when its height changes, once scrolled."""

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Scroll by the change of height."""
        bar = self.verticalScrollBar()
        before = bar.value()
        super().resizeEvent(event)
        shrinkage = event.oldSize().height() - event.size().height()
        if before and event.oldSize().isValid():
            bar.setValue(before + shrinkage)
