"""The process that analyses a list in the background."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from lesionlens.napari.model.studies.worklist import WorklistSession
from lesionlens.napari.preferences import Preferences


class AheadProcess:
    """Analyses the studies of a list that have no result yet, in a separate process."""

    def __init__(self, session: WorklistSession) -> None:
        self._session = session
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path, preferences: Preferences) -> None:
        """Start analysing the list of a folder, unless that runs; it ends with this process."""
        if self._process is not None:
            return
        command = [
            sys.executable, "-m", "lesionlens", "worklist", "ahead", str(folder), "--while-open",
            *preferences.engine_arguments(), "--brain-extraction", preferences.brain_extraction,
        ]  # fmt: skip
        command += ["--bias-correction"] * preferences.bias_correction
        self._process = subprocess.Popen(  # noqa: S603  LesionLens itself
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._session.ahead(running=True)

    def stop(self) -> None:
        """Stop after the current step; finished results are kept."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0)
        self._session.ahead(running=False)

    def poll(self) -> None:
        """Note that the process has ended, and report if it failed."""
        process = self._process
        if process is None or process.poll() is None:
            return
        self._process = None
        self._session.ahead(running=False)
        if process.returncode not in (0, 2):
            self._session.ended(
                "Analysing ahead stopped early: see the warnings, then start it again."
            )
