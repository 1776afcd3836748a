"""A virtual display for each process of the tests: one pointer, and no windows of the others."""

from __future__ import annotations

import os
import sys

SERVER = "Xvfb -displayfd 3 -screen 0 1600x1000x24 0</dev/null >/dev/null 2>&1 & cat; kill $!"
"""It ends with the input of the shell, that is with the process that holds the pipe's other end."""


WORKER = "PYTEST_XDIST_WORKER"


def own_display() -> None:
    """Give this process a display of its own where the one that there is is a virtual one.

    On a shared one, a window of another process lies over this one's, and the pointer that one test
    has placed is moved by the next.
    """
    if sys.platform == "win32" or not {"LESIONLENS_VIRTUAL_DISPLAY", WORKER} <= os.environ.keys():
        return
    (answer, number), (held, _) = os.pipe(), os.pipe()
    ends = [(os.POSIX_SPAWN_DUP2, held, 0), (os.POSIX_SPAWN_DUP2, number, 3)]
    os.posix_spawnp("sh", ["sh", "-c", SERVER], os.environ, file_actions=ends)
    os.close(number)
    os.close(held)
    with os.fdopen(answer) as lines:
        display = lines.readline().strip()  # empty where the server has ended
    assert display, "Xvfb did not start"
    os.environ["DISPLAY"] = f":{display}"
    os.environ.pop("XAUTHORITY", None)
