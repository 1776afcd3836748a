"""Tests here open no window: what napari's pytest plugin does round each test is left out."""

import pytest


@pytest.fixture(autouse=True)
def _disable_qt_warnings() -> None:
    """Load no Qt: that took some seconds in every process."""


@pytest.fixture(autouse=True)
def _clean_themes() -> None:
    """Load no napari."""
