"""Whether LesionLens may tune this process; not if it is a napari with other plugins."""

from __future__ import annotations

TUNE = "LESIONLENS_TUNE_PROCESS"
"""Environment variable that is set in a napari started by LesionLens."""
_host = {"tunable": True}


def tunable() -> bool:
    """Return whether the garbage collector and allocator may be tuned for the whole process."""
    return _host["tunable"]


def set_tunable(*, allowed: bool) -> None:
    """Allow or forbid tuning from now on."""
    _host["tunable"] = allowed
