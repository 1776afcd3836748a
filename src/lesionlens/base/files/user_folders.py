"""The user's folders for data and settings of LesionLens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from lesionlens.base.errors import ResourceError
from lesionlens.base.files import reachable

_NAME = "lesionlens"


def data() -> Path:
    """Return the folder of permanent data: reviews and decisions.

    Raises
    ------
    ResourceError
        It may not be read: earlier decisions would be missing without a message.
    """
    folder = _folder(platformdirs.user_data_dir)
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.scandir(folder).close()
    except OSError as error:
        raise _unusable(f"{folder}, which cannot be read ({error.strerror})") from error
    return folder


def settings() -> Path:
    """Return the folder of the user's settings."""
    return _folder(platformdirs.user_config_dir)


def site_settings() -> Path:
    """Return the folder of the site-wide settings made by an administrator.

    It does not depend on XDG_CONFIG_DIRS: desktops put folders of their own first there, and a
    reader could choose another one.
    """
    if sys.platform == "win32":
        return Path(platformdirs.site_config_dir(_NAME, appauthor=False))
    above = "/Library/Application Support" if sys.platform == "darwin" else "/etc/xdg"
    return Path(above, _NAME)


def check_writable(name: str) -> None:
    """Refuse if another program cannot write its own cache and settings.

    Raises
    ------
    ResourceError
        This user may not create, or write, its folders.
    """
    for kind in (platformdirs.user_cache_dir, platformdirs.user_config_dir):
        folder = _folder(kind, name)
        nearest = next(path for path in (folder, *folder.parents) if reachable.exists(path))
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise _unusable(f"{folder}, which {name} needs and which cannot be written")


def _folder(kind: Callable[..., str], name: str = _NAME) -> Path:
    """Return a user's folder of a program.

    For a user without a home (a service, a container's numeric user) nothing is there, and nothing
    can be written.
    """
    with suppress(RuntimeError):
        folder = Path(kind(name, appauthor=False))
        if folder.is_absolute():
            return folder
    return Path(os.devnull, name)


def _unusable(found: str) -> ResourceError:
    return ResourceError(
        found=found,
        expected="a folder of this user's own",
        next_step="Set HOME to this user's home (sudo -H does), or name another folder by "
        "XDG_DATA_HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME",
    )
