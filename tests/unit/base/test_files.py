"""The user's folders, also of users whose home is another's or missing."""

from __future__ import annotations

import os
import sys

import pytest

from lesionlens.base.errors import ResourceError
from lesionlens.base.files import site_settings, user_data, user_settings


def no_home(*_, **__) -> str:
    raise RuntimeError("could not determine the home directory for '~/.local/share'")


@pytest.mark.skipif(sys.platform == "win32", reason="every user has a home there")
@pytest.mark.parametrize("of", [no_home, lambda *_, **__: "~/.local/share/lesionlens"])
def test_a_user_without_a_home_has_nothing_stored(monkeypatch, of):
    """A numeric user of a container: the command ended with "a defect in LesionLens"."""
    for name in ("data", "cache", "config"):
        monkeypatch.setattr(f"platformdirs.user_{name}_dir", of)
    for folder in (user_data(), user_settings()):
        assert folder.is_absolute()
        assert not folder.exists()
        with pytest.raises(NotADirectoryError):
            folder.mkdir(parents=True)


def test_a_data_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    """With sudo and another user's HOME the message was "a system error: Permission denied"."""
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path))

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ResourceError):
        user_data()


@pytest.mark.skipif(sys.platform != "linux", reason="the folder of Linux")
def test_the_sites_settings_lie_where_documented_whatever_the_desktop_sets(monkeypatch):
    """On Ubuntu's desktop, and KDE's, `unaided_first` of the site was ignored without a word."""
    monkeypatch.setenv("XDG_CONFIG_DIRS", "/etc/xdg/xdg-ubuntu:/etc/xdg")
    assert str(site_settings()) == "/etc/xdg/lesionlens"
