"""A network share that the server no longer exports."""

import errno
import os
from pathlib import Path

import pytest


def make_stale(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make `os.stat` fail below a folder, as on a share that is no longer exported."""
    original_stat = os.stat

    def stat(path, *arguments, **keywords):
        if not isinstance(path, int) and Path(os.fsdecode(path)).is_relative_to(folder):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return original_stat(path, *arguments, **keywords)

    monkeypatch.setattr(os, "stat", stat)
