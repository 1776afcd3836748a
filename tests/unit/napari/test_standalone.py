"""A napari of LesionLens alone is closed in order by the signals that end a process."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from lesionlens.base.errors import ReadError
from lesionlens.base.process import SIGNALS
from lesionlens.imaging.samples import DICOM_STUDY
from lesionlens.napari import standalone
from lesionlens.site.database.worklist_database import open_worklist_database


@pytest.fixture
def run_napari(monkeypatch):
    """Sets what stands for napari's main function; the signals are as before afterwards."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:  # not as the tests were started, as by nohup
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(sys, "argv", ["napari"])
    started = ModuleType("napari.__main__")
    monkeypatch.setitem(sys.modules, "napari", ModuleType("napari"))
    monkeypatch.setitem(sys.modules, "napari.__main__", started)
    settings = ModuleType("napari.settings")
    monkeypatch.setitem(sys.modules, "napari.settings", settings)

    def run(main, disabled=()):
        started.main = main
        plugins = SimpleNamespace(disabled_plugins=set(disabled))
        settings.get_settings = lambda: SimpleNamespace(plugins=plugins)
        return standalone.main()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_closed_window_is_no_error(run_napari):
    assert run_napari(lambda: None) == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_it_without_a_traceback(run_napari, number):
    def main():
        os.kill(os.getpid(), number)
        time.sleep(10)

    assert run_napari(main) == 130


SWALLOWED = """
import os, signal, sys
from types import ModuleType, SimpleNamespace
from qtpy.QtCore import QCoreApplication, QTimer
from lesionlens.napari import preferences, standalone

def main():
    app, awake = QCoreApplication([]), QTimer()
    awake.timeout.connect(lambda: None)  # napari wakes Python by a socket
    awake.start(10)
    QTimer.singleShot(0, lambda: os.kill(os.getpid(), signal.SIGTERM))
    while sys.excepthook is hook:
        app.processEvents()
    signal.signal(signal.SIGINT, leave)  # as napari in its loop
    app.exec()

def leave(*_):
    QCoreApplication.exit()

hook, preferences.check_enabled, sys.argv[1:] = sys.excepthook, lambda: None, []
sys.modules["napari.__main__"] = SimpleNamespace(main=main)
sys.modules["napari"] = ModuleType("napari")
sys.exit(standalone.main())
"""


def test_a_plugin_that_is_disabled_in_napari_is_named_without_a_traceback(run_napari, capsys):
    """napari did not find the reader, and ended with a traceback."""
    assert run_napari(lambda: pytest.fail("napari was started"), disabled={"lesionlens"}) == 1
    error = capsys.readouterr().err
    assert error.startswith("lesionlens: The plugin LesionLens is disabled in napari.")
    assert "Plugins, Install/Uninstall Plugins…" in error


def test_any_other_error_is_raised(run_napari):
    def main():
        raise RuntimeError("a defect") from ValueError()

    with pytest.raises(RuntimeError, match="a defect"):
        run_napari(main)


def test_a_study_that_cannot_be_read_is_named_without_a_traceback(run_napari, capsys):
    def main():
        raise ReadError(
            found="a damaged scan", expected="a whole one", next_step="Convert it again"
        )

    assert run_napari(main) == 2
    assert capsys.readouterr().err.startswith("lesionlens: Found a damaged scan. Expected")


@pytest.mark.parametrize("name", ["notes.txt", "head.npz", "empty"])
def test_what_the_window_does_not_open_is_refused_before_it_opens(
    run_napari, monkeypatch, tmp_path, capsys, name
):
    place = tmp_path / name
    place.write_bytes(b"of others") if "." in name else place.mkdir()
    monkeypatch.setattr(sys, "argv", ["napari", "--plugin", "lesionlens", str(place)])
    assert run_napari(lambda: pytest.fail("it opened")) == 2
    assert f"no scan in {name!r}" in capsys.readouterr().err


def test_a_list_is_told_where_it_opens(run_napari, monkeypatch, tmp_path, capsys):
    open_worklist_database(tmp_path / "list").close()
    monkeypatch.setattr(sys, "argv", ["napari", "--plugin", "lesionlens", str(tmp_path / "list")])
    assert run_napari(lambda: pytest.fail("it opened")) == 2
    assert "Open the list in the window: Open…, Worklist…" in capsys.readouterr().err


def test_a_dicom_file_opens_its_folder(run_napari, monkeypatch):
    series = DICOM_STUDY / "S01"
    monkeypatch.setattr(sys, "argv", ["napari", str(series / "IM0001")])
    assert run_napari(lambda: None) == 0
    assert sys.argv[1] == str(series)


SOURCES = """
import inspect, linecache, sys
from lesionlens.napari.standalone import keep_no_sources
keep_no_sources()
kept = len(linecache.cache)
import email.mime.text, napari.qt, scipy.ndimage, xml.dom.minidom
assert len(linecache.cache) - kept < 20, len(linecache.cache) - kept
from shibokensupport.feature import pyside_feature_dict as users

def names(module):
    try:
        return "PySide6" in inspect.getsource(module)
    except (OSError, TypeError):
        return False

read = {name: names(module) for name, module in list(sys.modules.items()) if users.get(name) == 0}
assert read and all(read.values()), read
missed = [n for n, of in users.items() if of == -1 and n in sys.modules and names(sys.modules[n])]
assert not missed, missed
"""
