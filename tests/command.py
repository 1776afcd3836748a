"""Run the command line as a user does: in this process for speed, or as a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from lesionlens.cli.main import app

COMMAND = Path(sys.executable).parent / "lesionlens"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def lesionlens(*arguments: object) -> Ended:
    """Run a command in this process; what no command catches is raised."""
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    return _checked(Ended(done.exit_code, done.stdout, done.stderr), arguments)


def lesionlens_process(*arguments: object, timeout: float = 300, **options: Any) -> Ended:
    """Run a command as a process of its own."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    return _checked(Ended(done.returncode, done.stdout, done.stderr), arguments)


def _checked(ended: Ended, arguments: tuple[object, ...]) -> Ended:
    assert "Traceback (most recent call last)" not in ended.stdout + ended.stderr, arguments
    return ended


def commands() -> dict[str, Any]:
    """Return every command by the words that call it, such as "pacs find"."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(words), command
        for name, one in (inner or {}).items():
            yield from below(one, (*words, name))

    return dict(below(typer.main.get_command(app), ()))


def digests(folder: Path) -> dict[str, str]:
    """Return a digest of every file below a folder, and the names of all folders."""
    return {
        os.path.relpath(path, folder): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "a folder"
        for path in sorted(folder.rglob("*"))
    }
