"""Fixtures that disable those of napari's pytest plugin, for tests that open no window."""

import pytest


@pytest.fixture(autouse=True)
def _disable_qt_warnings() -> None:
    """Replace napari's fixture, which loads Qt: some seconds in every process."""


@pytest.fixture(autouse=True)
def _clean_themes() -> None:
    """Replace napari's fixture, which loads napari."""


__all__ = ["_clean_themes", "_disable_qt_warnings"]
