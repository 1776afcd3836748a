"""What runs beside the tests of `make test` can hide no failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

BESIDE = Path(__file__).resolve().parents[2] / "tools" / "beside.sh"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="make is for Unix")


def beside(check: str, tests: str, stderr: int | IO[str]) -> subprocess.CompletedProcess[str]:
    command = [BESIDE, "sh", "-c", check, "--", "sh", "-c", tests]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("tests", [0, 1, 5])
@pytest.mark.parametrize("check", [0, 1, 2])
def test_it_succeeds_only_if_both_do(check, tests):
    done = beside(f"echo checked; exit {check}", f"echo tested; exit {tests}", subprocess.PIPE)
    assert (done.returncode == 0) == (check == tests == 0)
    assert done.stdout.splitlines() == ["tested", "checked"]
    assert ("failed" in done.stderr) == (check != 0)


def test_what_fails_is_said_while_the_tests_run(tmp_path):
    """The tests here end once it was said."""
    said = tmp_path / "stderr"
    wait = f"until grep -q 'wrong type' {said}; do sleep .05; done; echo tested"
    with said.open("w", encoding="utf-8") as stderr:
        done = beside("echo wrong type; exit 1", wait, stderr)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["tested", "wrong type"]
