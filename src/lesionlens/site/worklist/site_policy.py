"""Site-wide policy: `settings.toml` in the site's settings folder.

On Linux `/etc/xdg/lesionlens/settings.toml`, on macOS `/Library/Application Support/lesionlens`, on
Windows `C:/ProgramData/lesionlens`. A reader cannot override it.
"""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.errors import ConfigError
from lesionlens.base.files import read_toml, site_settings

_UNAIDED_KEY = "unaided_first"


def site_file() -> Path:
    """Return the path of the site's settings."""
    return site_settings() / "settings.toml"


def unaided_first_required() -> bool:
    """Return whether the site requires an unaided read first.

    The setting is `unaided_first = true` in the table `[reading]`.

    Raises
    ------
    ConfigError
        The file exists but cannot be read or holds unknown names, so that the requirement is
        unknown.
    """
    try:
        table = read_toml(site_file())
        reading = table.get("reading", {})
        unknown = sorted((set(table) - {"reading"}) | (set(reading) - {_UNAIDED_KEY}))
        required = reading.get(_UNAIDED_KEY, False)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise _config_error(str(error)) from error
    if unknown:  # a misspelt requirement must not be taken for none
        raise _config_error(f"the name {unknown[0]!r}")
    if not isinstance(required, bool):
        raise _config_error(f"unaided_first = {required!r}")
    return required


def _config_error(found: str) -> ConfigError:
    return ConfigError(
        found=f"the site's {site_file().name} with {found}",
        expected="[reading] and unaided_first = true or false",
        next_step="Ask this machine's administrator to correct it",
    )
