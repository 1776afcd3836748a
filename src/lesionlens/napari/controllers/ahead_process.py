"""The process that analyses a list in the background."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from lesionlens.base.errors import os_reason
from lesionlens.napari.model.studies.worklist import WorklistSession
from lesionlens.napari.preferences import Preferences

_ERROR = "lesionlens: "
"""Begins the line with which a command reports why it ended."""


class AheadProcess:
    """Analyses the studies of a list that have no result yet, in a separate process."""

    def __init__(self, session: WorklistSession) -> None:
        self._session = session
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = io.BytesIO()
        """What the process reports; a file, as a pipe that nobody reads would stop it."""

    def start(self, folder: Path, preferences: Preferences) -> None:
        """Start analysing the list of a folder; it ends with this process."""
        command = [
            sys.executable, "-P",  # imports nothing from the working folder
            "-m", "lesionlens", "worklist", "ahead", str(folder), "--while-open",
            "--device", preferences.device,
        ]  # fmt: skip
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed when it ends
            self._process = subprocess.Popen(  # noqa: S603  LesionLens itself
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors
            )
        except OSError as error:
            self._errors.close()
            self._session.decline(
                f"Analysing ahead cannot start: {os_reason(error)}. Check the free memory and the "
                "folder for temporary files, then start it again."
            )
            return
        self._session.ahead(running=True)

    def stop(self) -> None:
        """Stop after the current step; finished results are kept."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        self._errors.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0)
        self._session.ahead(running=False)

    def poll(self) -> None:
        """Note that the process has ended, and report why if it stopped early.

        Studies that could not be analysed have a warning in the list.
        """
        process = self._process
        if process is None or process.poll() is None:
            return
        self._process = None
        self._session.ahead(running=False)
        with process, self._errors as errors:  # closes its standard input too
            errors.seek(0)
            lines = errors.read().decode(errors="replace").splitlines()
        last_line = lines[-1] if lines else ""
        if process.returncode and last_line.startswith(_ERROR):
            reason = last_line.removeprefix(_ERROR)
            self._session.decline(f"Analysing ahead stopped. {reason}")
        elif process.returncode not in (0, 1, 2):
            self._session.decline("Analysing ahead stopped early: start it again.")
