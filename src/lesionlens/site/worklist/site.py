"""Site-wide policy: `settings.toml` in the site's settings folder.

On Linux `/etc/xdg/lesionlens/settings.toml`, on macOS `/Library/Application Support/lesionlens`, on
Windows `C:/ProgramData/lesionlens`. A reader cannot override it.
"""

from __future__ import annotations

from pathlib import Path

from lesionlens.base import user_folders
from lesionlens.base.bounded_read import read_toml
from lesionlens.base.errors import ConfigError


def site_file() -> Path:
    """Return the path of the site's settings."""
    return user_folders.site_settings() / "settings.toml"


def unaided_first_required() -> bool:
    """Return whether the site requires an unaided read first.

    The setting is `unaided_first = true` in the table `[reading]`.

    Raises
    ------
    ConfigError
        The file exists but cannot be read, so that the requirement is unknown.
    """
    try:
        table = read_toml(site_file())
        wanted = table.get("reading", {}).get("unaided_first", False)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError) as error:
        raise _wrong(str(error)) from error
    if not isinstance(wanted, bool):
        raise _wrong(f"unaided_first = {wanted!r}")
    return wanted


def _wrong(found: str) -> ConfigError:
    return ConfigError(
        found=f"the site's {site_file().name} with {found}",
        expected="[reading] and unaided_first = true or false",
        next_step="Ask this machine's administrator to correct it",
    )
