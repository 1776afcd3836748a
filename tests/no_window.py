"""For the conftest of a folder whose tests open no window: napari's pytest plugin stays aside."""

import pytest


@pytest.fixture(autouse=True)
def _disable_qt_warnings() -> None:
    """Load no Qt: that took some seconds in every process."""


@pytest.fixture(autouse=True)
def _clean_themes() -> None:
    """Load no napari."""


__all__ = ["_clean_themes", "_disable_qt_warnings"]
