"""napari in a process of LesionLens alone (`lesionlens open`), which signals close in order.

The arguments are napari's. As a plugin in a napari of others, LesionLens handles no signal.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lesionlens.base.errors import LesionLensError, UnusableInputError
from lesionlens.base.text import writable
from lesionlens.napari.loading import study_paths


def main() -> int:
    """Run napari until its window is closed; return the exit status, 130 if interrupted.

    A study that cannot be opened is reported on stderr without a traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun by `&` in a script
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else no signal wakes Qt's loop
    try:
        _check_study()
        keep_no_sources()
        from napari.__main__ import main as run_napari  # noqa: PLC0415  takes a second

        run_napari()
    except KeyboardInterrupt:  # napari raises it again once its loop has ended
        return 130
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # in an import, by Python up to 3.11
            return 130
        raise
    except LesionLensError as error:  # the study cannot be read; napari shows no window then
        sys.stderr.write(f"lesionlens: {writable(str(error))}\n")
        return error.exit_status
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the process ends
    return 0


def _check_study() -> None:
    """Refuse a path that napari does not offer to its reader; a DICOM file stands for its folder.

    Raises
    ------
    UnusableInputError
        There is no NIfTI or DICOM file at the path, which is the last argument.
    """
    if len(sys.argv) < 2:
        return
    place = Path(sys.argv[-1])
    found = study_paths([place])
    if not found:
        raise UnusableInputError(
            found=f"no scan in {place.name!r} that the window opens",
            expected="a folder of NIfTI or DICOM files, a NIfTI file, or a result folder",
            next_step="What only a plug-in reads is analysed by `lesionlens analyze`; then open "
            "the result",
            in_window="Choose such a folder or file",
        )
    nifti = found[0].name.lower().endswith((".nii", ".nii.gz"))
    sys.argv[-1] = str(found[0] if found[0].is_dir() or nifti else found[0].parent)


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
