"""Our keys beside napari's own."""

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
