"""No test here opens a window."""

from tests.helpers.no_window import _clean_themes, _disable_qt_warnings

__all__ = ["_clean_themes", "_disable_qt_warnings"]
