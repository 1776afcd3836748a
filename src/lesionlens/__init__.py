"""LesionLens: attention that flags candidate tumour regions in brain MRI, for review.

Research use only. The names below load what they need when they are first used, so that
importing the package (as napari does to list plugins) imports neither numpy, torch nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lesionlens.imaging.reading.readers import open_study
    from lesionlens.lens import Lens
    from lesionlens.results.result import Result

__version__ = "0.5.0"
__all__ = ["Lens", "Result", "__version__", "open_study"]

_HOME = {
    "Lens": "lesionlens.lens",
    "Result": "lesionlens.results.result",
    "open_study": "lesionlens.imaging.reading.readers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lesionlens' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
