"""napari in LesionLens' own process (`lesionlens open`), which closes in order on a signal.

The arguments are napari's, or `--screenshot PNG PATH`: show the path, write a picture of the window
and close it. As a plugin in a foreign napari process, LesionLens handles no signal.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from lesionlens.base.errors import Interrupt, LesionLensError, UnusableInputError
from lesionlens.base.files import is_volume_name
from lesionlens.base.process import SIGNALS, signals_to_handle, unblock_interrupts, write_line
from lesionlens.base.text import encodable
from lesionlens.napari.loading import study_paths

_INTERVAL_S = 0.1
_WINDOW = (1500, 950)
_PATIENCE_S, _SETTLE_S = 120.0, 1.0


def main() -> int:
    """Run napari until its window is closed; return the exit status, 130 if interrupted.

    A study that cannot be opened is reported on stderr without a traceback.
    """
    interrupted = threading.Event()

    def interrupt(number: int, frame: Any) -> None:
        """Raise Interrupt, and again until it ends the loop: Qt and imports only report some."""
        del number, frame
        if not interrupted.is_set():
            interrupted.set()
            sys.excepthook = lambda *_: None
            sys.unraisablehook = lambda _: None
            _repeat_sigint()
        raise Interrupt

    for number in signals_to_handle():
        signal.signal(number, interrupt if number == signal.SIGINT else _treat_as_sigint)
    try:
        keep_no_sources()
        unblock_interrupts()  # after the import of PySide, which aborts at an exception
        _check_study()
        from lesionlens.napari.preferences import check_enabled

        check_enabled()
        if sys.argv[1:2] == ["--screenshot"]:
            _paint(Path(sys.argv[-1]), Path(sys.argv[2]))
            return 0
        from napari.__main__ import main as run_napari

        run_napari()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if interrupted.is_set():  # an import turned the interrupt into another error
            return 130
        if not isinstance(error, LesionLensError):
            raise
        # the study cannot be read; napari shows no window then
        write_line(f"lesionlens: {encodable(str(error))}", sys.stderr)
        return error.exit_status
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the process ends
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_REAL, 0)
    return 130 if interrupted.is_set() else 0


def _check_study() -> None:
    """Refuse a path that no reader opens; a DICOM file stands for its folder.

    Raises
    ------
    UnusableInputError
        There is no NIfTI or DICOM file at the path, which is the last argument.
    """
    if len(sys.argv) < 2:
        return
    path = Path(sys.argv[-1])
    paths = study_paths([path])
    if not paths:
        from lesionlens.site.database.worklist_database import is_worklist_folder

        raise UnusableInputError(
            f"There is no scan in {path.name!r} that the window can open.",
            hint="Open the list in the window: Open…, Worklist…"
            if is_worklist_folder(path)
            else "Choose the folder that holds the scans.",
        )
    chosen = paths[0]
    if chosen.is_file() and not is_volume_name(chosen.name):
        chosen = chosen.parent
    sys.argv[-1] = str(chosen)


def _paint(path: Path, picture: Path) -> None:
    """Show a study, or a result with its first candidate, and write the whole window as PNG.

    Raises
    ------
    LesionLensError
        The window shows this error instead.
    """
    import napari
    from qtpy.QtWidgets import QApplication

    from lesionlens.napari.dock import open_panel
    from lesionlens.napari.model.choices.choices import Overlay
    from lesionlens.results.review.reopen import result_of

    def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            QApplication.processEvents()
            time.sleep(0.02)

    def is_shown() -> bool:
        state = panel.session.state
        expected = state.study if result_of((path,)) is None else state.analysis
        return state.problem is not None or (expected is not None and not panel.jobs.running)

    viewer = napari.Viewer(title="LesionLens")
    viewer.window.resize(*_WINDOW)
    panel = open_panel(viewer)
    panel.actions_.open_dropped((path,))
    wait(_PATIENCE_S, is_shown)
    problem = panel.session.state.problem
    if problem is not None:
        raise LesionLensError(
            found=problem.found, expected=problem.expected, next_step=problem.next_step
        )
    if panel.session.state.analysis is not None:
        panel.session.choose_overlay(Overlay.MAP)
        panel.session.step(1)
    wait(_SETTLE_S)
    viewer.screenshot(str(picture), canvas_only=False, flash=False)
    viewer.close()


def keep_no_sources() -> None:
    """Prevent PySide from caching the source of every imported module: 150 MiB with torch.

    PySide searches each module for its own name, by `inspect`, which caches every source.
    """
    from qtpy import QtCore

    del QtCore
    feature_module = sys.modules.get("shibokensupport.feature")
    if hasattr(feature_module, "_mod_uses_pyside"):
        setattr(feature_module, "_mod_uses_pyside", _names_pyside)  # noqa: B010  not declared


def _names_pyside(module: ModuleType) -> bool:
    """Return whether the source of a module has the word PySide6, as PySide's own scan does."""
    file = Path(getattr(module, "__file__", None) or "")
    try:
        return file.suffix == ".py" and b"PySide6" in file.read_bytes()
    except OSError:
        return False


def _repeat_sigint() -> None:
    """Send SIGINT at intervals: the first may be lost, and napari's loop begins later."""
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, _treat_as_sigint)
        signal.setitimer(signal.ITIMER_REAL, _INTERVAL_S, _INTERVAL_S)


def _treat_as_sigint(number: int, frame: Any) -> None:
    """Treat another signal like SIGINT, at which napari leaves its loop."""
    del number, frame
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
