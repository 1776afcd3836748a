"""The tests use a cache of their own, not that of the user."""

import pytest

from lesionlens.imaging.preparation import cache


@pytest.fixture(autouse=True)
def no_shared_cache(tmp_path_factory, monkeypatch):
    """Use an empty cache."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(cache, "folder", lambda: place)
