"""Double clicks whose first click changed what lies under the pointer.

The first click may scroll the panel, hide a row of buttons or rename a button. The second one was
not meant for what lies there now.
"""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QWidget,
)

_CONTROLS = (QAbstractButton, QComboBox, QAbstractSlider, QAbstractSpinBox)
_PRESSES = (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick)


class DoubleClickGuard(QObject):
    """Drops the second press of a double click on another control, or on one with another text.

    A double click on one of `once` is a single one: the first opens another study.
    """

    def __init__(self, parent: QWidget, *once: QWidget) -> None:
        """Guard the controls and tables that the parent has now."""
        super().__init__(parent)
        self._once = once
        self._pressed: tuple[QObject | None, str] = (None, "")
        """The control that was pressed last, and its text then."""
        views = [view.viewport() for view in parent.findChildren(QAbstractItemView)]
        controls = (widget for kind in _CONTROLS for widget in parent.findChildren(kind))
        for widget in (*controls, *views):
            widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Remember a press; drop the second of a double click that was meant for another control.

        Qt sends it to whatever lies under the pointer.
        """
        if event.type() not in _PRESSES:
            return False
        before = self._pressed
        self._pressed = (watched, watched.text() if isinstance(watched, QAbstractButton) else "")
        is_second = event.type() == QEvent.Type.MouseButtonDblClick
        return is_second and (before != self._pressed or watched in self._once)
