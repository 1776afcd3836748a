"""Tests never meet, nor fill, the cache of the person who runs them."""

import pytest

from lesionlens.imaging.preparation import cache


@pytest.fixture(autouse=True)
def no_shared_cache(tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(cache, "folder", lambda: place)
