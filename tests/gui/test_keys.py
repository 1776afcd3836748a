"""Our keys beside napari's own."""

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QComboBox, QDialog, QLabel, QScrollArea

from lesionlens._napari.model.acts.keys import KEYS


def test_no_key_takes_one_of_naparis():
    from napari import Viewer
    from napari.layers import Image, Labels
    from napari.utils.action_manager import action_manager

    taken = {str(key) for keys in action_manager._shortcuts.values() for key in keys}
    viewer_and_layers = {
        str(key) for kind in (Image, Labels, Viewer) for key in getattr(kind, "class_keymap", {})
    }
    shapes_only = {"A", "R", "D", "T", "S", "I", "Shift+A", "Shift+L", "Shift+P"}
    ours = {key.shown for key in KEYS}
    assert not (ours & viewer_and_layers)
    assert (ours & taken) <= shapes_only


def test_all_keys_are_read_at_once_on_a_small_screen(panel):
    """In columns: one column of them was taller than the screen, and could not be scrolled."""
    panel.window().show()
    panel.show_keys()
    dialogs = [one for one in panel.findChildren(QDialog) if one.windowTitle() == "LesionLens keys"]
    (dialog,) = dialogs
    table = dialog.findChild(QLabel)
    assert all(escape(key.words) in table.text() for key in KEYS)
    assert table.heightForWidth(table.width()) <= table.height() < 0.9 * 1000
    assert table.width() < 0.9 * 1280
    assert dialog.findChild(QScrollArea).widget() is table
    dialog.close()
    panel.window().hide()


def test_keys_pressed_while_a_list_is_open_choose_in_it(reviewed, qtbot):
    """Down went a slice on and A accepted, behind the open list."""
    reviewed.window().show()
    qtbot.waitUntil(lambda: reviewed.drops is not None)
    reviewed.session.go_to(1)
    regions = next(
        one for one in reviewed.findChildren(QComboBox) if "Region" in one.accessibleName()
    )
    regions.showPopup()
    opened = regions.view()
    QApplication.instance().focusChanged.emit(None, opened)
    slice_before = reviewed.views.bar.words.text()
    qtbot.keyClick(opened, Qt.Key.Key_Down)
    qtbot.keyClick(opened, Qt.Key.Key_A)
    assert reviewed.views.bar.words.text() == slice_before
    assert not reviewed.session.state.review.events
    regions.hidePopup()
    QApplication.instance().focusChanged.emit(opened, reviewed.candidates.table)
    qtbot.keyClick(reviewed.candidates.table, Qt.Key.Key_A)
    assert reviewed.session.state.review.events
