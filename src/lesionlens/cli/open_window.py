"""`lesionlens open`: open a study, or a saved result with its study, in napari."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.base.plugins import check_window
from lesionlens.base.process import interrupts_blocked
from lesionlens.cli.console import CommandOutput

_CLOSE_TIMEOUT_S = 30.0
"""Seconds that an interrupted window has to close."""


def open_window(
    path: Annotated[
        Path, typer.Argument(help="A study, or a result folder.", metavar="STUDY_OR_RESULT")
    ],
    screenshot: Annotated[
        Path | None,
        typer.Option(help="Write a picture of the window to this file and close.", metavar="PNG"),
    ] = None,
) -> CommandOutput:
    """Open a study, or a saved result with its study, in napari.

    Nothing is analysed until you press Analyse.
    """
    if not path.exists():
        raise UnusableInputError(
            f"There is no file or folder {path.name!r}.",
            hint="Check the path.",
        )
    if screenshot is not None and not screenshot.absolute().parent.is_dir():
        raise UnusableInputError(
            f"There is no folder {str(screenshot.parent)!r}.", hint="Create the folder."
        )
    check_window()
    # -P: a file such as signal.py in the working folder is not imported.
    napari = [sys.executable, "-P", "-m", "lesionlens.napari.standalone"]
    how = ("--screenshot", screenshot.absolute()) if screenshot else ("--plugin", "lesionlens")
    command = [*napari, *map(str, how), str(path.absolute())]
    # A process of LesionLens alone. With arenas for its threads an analysis takes 1.5 GB more.
    # NumPy's threads spin while they wait, for a tenth of its processor time.
    # Small pages, so that less stays resident of what is freed in pieces.
    tuning = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1", "NUMPY_MADVISE_HUGEPAGE": "0"}
    env = {**tuning, **os.environ}
    return CommandOutput(status=_show_window(command, env))


def _show_window(command: list[str], env: Mapping[str, str]) -> int:
    """Wait for the window to close; an interrupted one is given time to save its state.

    Raises
    ------
    ResourceError
        The window ended by itself, as for want of memory or by its graphics driver.
    """
    window = None
    try:
        with interrupts_blocked():
            window = subprocess.Popen(command, env=env)  # noqa: S603  built here
        status = window.wait()
    except KeyboardInterrupt:
        if window is None:
            raise
        _close(window)
        return 130
    if status < 0:
        raise ResourceError(
            f"The window was ended by {signal.Signals(-status).name}.",
            hint="Open it again: decisions are kept. Then check memory and graphics driver.",
        )
    return status


def _close(window: subprocess.Popen[bytes]) -> None:
    """Ask a window to close, and end it if it does not."""
    window.terminate()
    try:
        window.wait(_CLOSE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        window.kill()
