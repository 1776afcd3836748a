"""A virtual display for each test process, so that they share no pointer and no windows."""

from __future__ import annotations

import os
import sys

SERVER = "Xvfb -displayfd 3 -screen 0 1600x1000x24 0</dev/null >/dev/null 2>&1 & cat; kill $!"
"""Ends with the input of the shell, that is, with the process at the other end of the pipe."""


WORKER = "PYTEST_XDIST_WORKER"


def start_own_display() -> None:
    """Give this worker process its own display, if the tests run on a virtual one.

    On a shared display, windows of other processes would cover this one's, and their tests would
    move the pointer.
    """
    if sys.platform == "win32" or not {"LESIONLENS_VIRTUAL_DISPLAY", WORKER} <= os.environ.keys():
        return
    (reader, writer), (shell_input, _) = os.pipe(), os.pipe()
    ends = [(os.POSIX_SPAWN_DUP2, shell_input, 0), (os.POSIX_SPAWN_DUP2, writer, 3)]
    os.posix_spawnp("sh", ["sh", "-c", SERVER], os.environ, file_actions=ends)
    os.close(writer)
    os.close(shell_input)
    with os.fdopen(reader) as lines:
        display = lines.readline().strip()  # empty if the server has ended
    assert display, "Xvfb did not start"
    os.environ["DISPLAY"] = f":{display}"
    os.environ.pop("XAUTHORITY", None)
