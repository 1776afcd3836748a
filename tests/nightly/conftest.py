"""Tests that run at night only: programs of others, whole runs of the network, endurance."""

from pathlib import Path

import pytest
from tests.helpers.no_window import _clean_themes, _disable_qt_warnings

__all__ = ["_clean_themes", "_disable_qt_warnings"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder as slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
