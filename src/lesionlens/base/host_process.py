"""Whether the process is ours to tune: one of napari's, with other plugins in it, is not."""

from __future__ import annotations

TUNE = "LESIONLENS_TUNE_PROCESS"
"""Environment variable of a napari that LesionLens itself started."""
_host = {"tunable": True}


def tunable() -> bool:
    """Whether collector and allocator may be set for the whole process."""
    return _host["tunable"]


def set_tunable(allowed: bool) -> None:
    """Allow it or not, from now on."""
    _host["tunable"] = allowed
