"""Search for files that a test checks; none is an error, as the test would check nothing."""

from __future__ import annotations

from pathlib import Path


def files_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files below a folder that match a pattern, sorted; fail if there is none."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    assert files, f"no {pattern} below {folder}"
    return files
