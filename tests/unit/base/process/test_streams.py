"""Standard error that is lost while a command runs changes nothing of its outcome."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="terminals of Unix")
CLOSED_TERMINAL = """
import os, sys, time
terminal, stderr = os.openpty()
os.dup2(stderr, 2)
os.environ["TTY_COMPATIBLE"] = "1"
{act}
print("done")
"""
IN_PROGRESS = """
from lesionlens.cli.console import progress_bar
with progress_bar() as context:
    context.progress("load", 0.1)
    os.close(terminal)
    time.sleep(0.3)  # the bar is drawn by a thread
    context.progress("network", 0.5)
"""


def test_a_command_whose_terminal_was_closed_ends_as_without_it():
    """A finished analysis ended with status 1 and an input/output error of the disk."""
    code = CLOSED_TERMINAL.format(act=IN_PROGRESS)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("status", [130, 2])
def test_a_message_that_nobody_can_read_leaves_the_exit_status(status):
    code = f"""
import sys
from lesionlens.base.process.streams import write_line
write_line("lesionlens: Found", sys.stderr)
sys.exit({status})
"""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", code], stderr=full, check=False, timeout=120)
    assert done.returncode == status
