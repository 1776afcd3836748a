"""What a user finds in the window: controls by what they are called, words that can be read."""

from napari import current_viewer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QMessageBox, QWidget

from lesionlens.napari.qt import threads
from lesionlens.site.database.records import ReadKey

CONTROLS = (QAbstractButton, QComboBox, QLineEdit)
STILL = 60
"""So many looks, 10 ms apart and Qt's events between them, find a widget at rest at one place:
twice the time after which the panel fits the window to its screen."""
PATIENCE_MS = 120_000
"""However busy the machine is; what is there is never waited for longer."""


def wait(qtbot, panel):
    """Wait until no job of a panel or dialog runs."""
    qtbot.waitUntil(lambda: not panel.jobs.running, timeout=PATIENCE_MS)


def threads_ended(qtbot):
    """Wait until every thread of the windows has ended, and what it was given is freed."""
    kept = threads._custodian
    qtbot.waitUntil(lambda: not (kept._running or kept._ended), timeout=PATIENCE_MS)


def settled(panel, qtbot):
    """Wait likewise, for a job that must not fail."""
    wait(qtbot, panel)
    assert panel.session.state.problem is None, panel.session.state.problem


def question(qtbot, widget):
    """The question that is asked over a widget, once it is shown."""

    def asked():
        return [box for box in widget.findChildren(QMessageBox) if box.isVisible()]

    qtbot.waitUntil(lambda: bool(asked()), timeout=PATIENCE_MS)
    (box,) = asked()
    return box


def at_rest(qtbot, widget):
    """Wait until a widget stays where it is: docks settle a moment after they are shown."""
    seen = []

    def still():
        corner = widget.mapToGlobal(QPoint())
        seen.append((corner.x(), corner.y(), widget.width(), widget.height()))
        return len(seen) >= STILL and len(set(seen[-STILL:])) == 1

    qtbot.waitUntil(still, timeout=PATIENCE_MS)


def read(dock, name, reader="A. Reader", **more):
    return dock.session.database.read(ReadKey(name, reader, **more))


def names():
    """The layers of napari's canvas."""
    return {layer.name for layer in current_viewer().layers}


def visible():
    """The layers that are shown on it."""
    return {layer.name for layer in current_viewer().layers if layer.visible}


def canvas():
    """The widget that keys and clicks on the image go to."""
    return current_viewer().window._qt_viewer.canvas.native


def reads(widget):
    """All words that can be read in a widget now, a line each."""
    shown = (w for w in widget.findChildren(QWidget) if w.isVisibleTo(widget))
    return "\n".join(w.text() for w in shown if isinstance(w, QLabel | QAbstractButton))


def sign(panel, entered=None):
    """Press Shift+A, and answer the question that comes; `entered` is typed into its field."""
    panel.actions_.sign()
    answer(panel, entered)


def answer(panel, entered=None):
    """Answer whether to sign or to withdraw, by Enter."""
    assert panel.signing.isVisible()
    if entered is not None:
        panel.signing.findChild(QLineEdit).setText(entered)
    QTest.keyClick(panel.signing, Qt.Key.Key_Return)


def control(widget, name):
    """The one control that begins with these words, by text or accessible name.

    Where several do, it is the one that is shown; else one that is folded away.
    """
    called = [
        w
        for w in widget.findChildren(QWidget)
        if isinstance(w, CONTROLS)
        and (w.accessibleName().startswith(name) or getattr(w, "text", str)().startswith(name))
    ]
    found = [w for w in called if w.isVisibleTo(widget)] or called
    assert len(found) == 1, f"{len(found)} controls are called {name!r}"
    return found[0]
