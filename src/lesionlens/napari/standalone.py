"""napari in a process of LesionLens alone (`lesionlens open`), which signals close in order.

The arguments are napari's. As a plugin in a napari of others, LesionLens handles no signal.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def main() -> int:
    """Run napari until its window is closed; return the exit status, 130 if interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun by `&` in a script
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else no signal wakes Qt's loop
    try:
        keep_no_sources()
        from napari.__main__ import main as run_napari  # noqa: PLC0415  takes a second

        run_napari()
    except KeyboardInterrupt:  # napari raises it again once its loop has ended
        return 130
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # in an import, by Python up to 3.11
            return 130
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the process ends
    return 0


def keep_no_sources() -> None:
    """Keep PySide from holding the source of every imported module: 150 MiB with torch.

    PySide searches each module for its own name, by `inspect`, whose cache keeps all it has read.
    """
    from qtpy import QtCore  # noqa: PLC0415  (imports the Qt binding)

    del QtCore
    scan = sys.modules.get("shibokensupport.feature")
    if hasattr(scan, "_mod_uses_pyside"):
        setattr(scan, "_mod_uses_pyside", _names_pyside)  # noqa: B010  not declared


def _names_pyside(module: ModuleType) -> bool:
    """Return whether the source of a module has the word PySide6, as PySide's own scan does."""
    file = Path(getattr(module, "__file__", None) or "")
    try:
        return file.suffix == ".py" and b"PySide6" in file.read_bytes()
    except OSError:
        return False


def _interrupt(number: int, frame: Any) -> None:
    """Treat SIGTERM like SIGINT, at which napari leaves its loop."""
    del number, frame
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
