"""Engines: from a prepared study to a prediction; names load their module when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlens.base.lazy import lazy_exports

if TYPE_CHECKING:
    from lesionlens.engines.bundle import BundleEngine
    from lesionlens.engines.engine import Engine, EngineChoice
    from lesionlens.engines.lens import LensEngine

__getattr__ = lazy_exports(
    __name__,
    {
        "lesionlens.engines.bundle": "BundleEngine",
        "lesionlens.engines.engine": "Engine EngineChoice",
        "lesionlens.engines.lens": "LensEngine",
    },
)
__all__ = ["BundleEngine", "Engine", "EngineChoice", "LensEngine"]
