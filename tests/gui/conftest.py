"""A small analysed head and the panel in a real viewer; skipped without a display."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.analysed_head import (
    LEFT,
    RIGHT,
    FakeResult,
    analysis,
    first,
    head,
    result,
    without_right,
)
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.napari.preferences import Preferences
from lesionlens.results.export.exporter import save
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.database.worklist_database import open_worklist_database

GUI_TESTS = Path(__file__).parent
WINDOWS = {"panel", "viewer"}
MANIFEST = GUI_TESTS.parents[1] / "napari.yaml"


def display_missing() -> str | None:
    """Return why no window can be opened, or None."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return "no display: run under xvfb-run"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a viewer, and skip them without a display.

    In each file, tests with the study come first, as adding and removing its layers is slow.
    """
    reason = display_missing()
    places = [place for place, item in enumerate(items) if GUI_TESTS in Path(item.path).parents]
    windows = [items[place] for place in places]
    files = [*dict.fromkeys(item.path for item in windows)]
    windows.sort(key=lambda item: (files.index(item.path), "loaded" not in item.fixturenames))
    for place, item in zip(places, windows, strict=True):
        items[place] = item
    for item in items:
        if GUI_TESTS in Path(item.path).parents and WINDOWS & set(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker(pytest.mark.gui)
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:napari"))
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package")
def modules_at_rest() -> None:
    """Load what a window needs and exclude it from garbage collection.

    napari collects at every layer; half of the time of these tests was spent on modules that stay
    anyway. Objects loaded by tests of other files are collected once.
    """
    import napari.viewer  # noqa: F401

    import lesionlens.napari.dock  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def manifest() -> Any:
    """The plugin's manifest, read and validated once."""
    from npe2 import PluginManifest

    return PluginManifest.from_file(MANIFEST)


@pytest.fixture(scope="package")
def shared_window(modules_at_rest: None, qapp: Any, manifest: Any) -> Iterator[Any]:
    """The window shared by the tests of this folder."""
    from tests.gui.shared_window import SharedWindow

    shared = SharedWindow(manifest)
    gc.freeze()  # it stays, too; collections happen at every layer and study
    yield shared
    gc.unfreeze()
    shared.close()
    gc.freeze()


@pytest.fixture
def collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let napari collect garbage at each removed layer, as outside of these tests."""
    monkeypatch.setattr("napari._vispy.canvas.gc", gc)


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin's default preferences, stored in the test's folder."""
    from napari import settings

    settings._clear_plugin_settings_cache()
    monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))
    yield
    settings._clear_plugin_settings_cache()


@pytest.fixture
def viewer(
    shared_window: Any, own_settings: None, qtbot: Any, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """The viewer of the shared window, as new; a test that leaves a widget behind fails."""
    with_study = "loaded" in request.fixturenames
    shared_window.lay(request.getfixturevalue("analysis").study if with_study else None)
    before = set(shared_window.ownerless_widgets())
    yield shared_window.viewer
    shared_window.reset()
    left_behind = [one for one in shared_window.ownerless_widgets() if one not in before]
    assert not left_behind, f"widgets were left behind: {left_behind}"
    current = shared_window.described()
    differences = {
        k: (v, current[k]) for k, v in shared_window.new.items() if str(current[k]) != str(v)
    }
    assert not differences, f"the window was left changed: {differences}"


@pytest.fixture
def panel(
    viewer: Any,
    coarse: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """The docked panel of a real viewer."""
    from qtpy.compat import isalive

    from lesionlens.napari.dock import LesionLens

    monkeypatch.setattr(
        "lesionlens.results.review.store.sessions_folder", lambda: tmp_path / "reviews"
    )
    monkeypatch.setattr("lesionlens.site.worklist.reader_log.own_folder", lambda: tmp_path / "own")
    monkeypatch.setattr(
        "lesionlens.napari.model.studies.last_layout.layouts_file", lambda: tmp_path / "views.json"
    )
    monkeypatch.setattr(
        "lesionlens.napari.model.studies.recent_paths.stored_file", lambda: tmp_path / "recent.json"
    )
    widget = LesionLens(viewer)
    widget.actions_.review_controller.has_asked_name = True
    viewer.window.add_dock_widget(widget, name="LesionLens")
    yield widget
    if isalive(widget):
        widget.release()
        widget.deleteLater()


@pytest.fixture
def loaded(panel: Any, analysis: Analysis) -> Any:
    """The panel with the study's four layers."""
    assert panel.session.state.study is analysis.study
    return panel


@pytest.fixture
def missed(loaded: Any, analysis: Analysis) -> Any:
    """The panel with an analysis that missed the lesion on the right."""
    from lesionlens.napari.model.overlays.maps import overlays_of

    found = without_right(analysis)
    loaded.actions_.show_result(FakeResult(found), overlays_of(found))
    loaded.session.go_to_candidate(1)
    return loaded


@pytest.fixture
def reviewed(loaded: Any, result: FakeResult) -> Any:
    """The panel after the analysis."""
    from lesionlens.napari.model.overlays.maps import overlays_of

    loaded.actions_.show_result(result, overlays_of(result.analysis))
    return loaded


@pytest.fixture
def prefer(monkeypatch, tmp_path):
    """Return a function that sets preferences of a named reader: `prefer(unaided_first=True)`."""

    def set_(**reported):
        wanted = Preferences(reader_name="A. Reader", **reported)
        for module in (
            "actions",
            "current_read",
            "worklist_controller",
        ):
            monkeypatch.setattr(
                f"lesionlens.napari.controllers.{module}.read_preferences", lambda: wanted
            )

    set_()
    return set_


@pytest.fixture(scope="module")
def one(head, tmp_path_factory):
    """Folder with a study of one sequence (no registration) and its result."""
    folder = tmp_path_factory.mktemp("day")
    made = make_analysis(head, write_study(head, folder / "head", sequences=(MrSequence.T1C,)))
    save(made, folder / "result")
    return folder


@pytest.fixture
def listed(panel, one, tmp_path, prefer):
    """A worklist of three studies, the first two analysed, docked beside the panel."""
    from lesionlens.napari.widgets.worklist_dock import WorklistDock

    folder, place = tmp_path / "list", one / "head"
    database = open_worklist_database(folder)
    database.add_studies(
        StudyEntry(name, str(place), f"P{name}", "2026-01-05", ("t1c",), candidates=2, highest=0.97)
        for name in "ab"
    )
    database.add_studies([StudyEntry("c", str(place), sequences=("t1c",))])
    database.close()
    for name in "ab":
        (folder / name).symlink_to(one / "result")
    dock = WorklistDock(panel.viewer, panel.actions_, panel.commands)
    panel.viewer.window.add_dock_widget(dock, name="Worklist")
    dock.list_folder = folder
    yield dock
    dock.release()


__all__ = ["LEFT", "RIGHT", "FakeResult", "MrSequence", "analysis", "first", "head", "result"]
