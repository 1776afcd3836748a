"""Images: reading studies, and preparing them for an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlens.base.lazy import lazy_exports

if TYPE_CHECKING:
    from lesionlens.imaging.reading.open import open_study

__getattr__ = lazy_exports(__name__, {"lesionlens.imaging.reading.open": "open_study"})
__all__ = ["open_study"]
