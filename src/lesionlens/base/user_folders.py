"""Where this user's caches, data and settings of LesionLens are kept; nowhere else."""

from __future__ import annotations

from pathlib import Path

import platformdirs

_NAME = "lesionlens"


def data() -> Path:
    """Return the folder of what must be kept: reviews, decisions, accepted weights, pseudonyms."""
    return Path(platformdirs.user_data_dir(_NAME, appauthor=False))


def cache() -> Path:
    """Return the folder of what can be computed again at any time."""
    return Path(platformdirs.user_cache_dir(_NAME, appauthor=False))


def settings() -> Path:
    """Return the folder of this user's settings."""
    return Path(platformdirs.user_config_dir(_NAME, appauthor=False))


def site_settings() -> Path:
    """Return the folder of the settings that an administrator makes for everybody."""
    return Path(platformdirs.site_config_dir(_NAME, appauthor=False))
