"""A network share whose server no longer knows it."""

import errno
import os
from pathlib import Path

import pytest


def make_stale(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be on a share whose server no longer knows it."""
    look = os.stat

    def stat(path, *arguments, **keywords):
        if not isinstance(path, int) and Path(os.fsdecode(path)).is_relative_to(folder):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return look(path, *arguments, **keywords)

    monkeypatch.setattr(os, "stat", stat)
