"""Files that a test walks: it fails where there are none, for then it would check nothing."""

from __future__ import annotations

from pathlib import Path


def files_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the files below a folder whose names fit, sorted; fail where there is none."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    assert files, f"no {pattern} below {folder}"
    return files
