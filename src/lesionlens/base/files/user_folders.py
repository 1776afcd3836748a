"""The user's folders for caches, data and settings of LesionLens."""

from __future__ import annotations

from pathlib import Path

import platformdirs

_NAME = "lesionlens"


def data() -> Path:
    """Return the folder of permanent data: reviews, decisions, accepted weights, pseudonyms."""
    return Path(platformdirs.user_data_dir(_NAME, appauthor=False))


def cache() -> Path:
    """Return the folder of data that can be recomputed at any time."""
    return Path(platformdirs.user_cache_dir(_NAME, appauthor=False))


def settings() -> Path:
    """Return the folder of the user's settings."""
    return Path(platformdirs.user_config_dir(_NAME, appauthor=False))


def site_settings() -> Path:
    """Return the folder of the site-wide settings made by an administrator."""
    return Path(platformdirs.site_config_dir(_NAME, appauthor=False))
