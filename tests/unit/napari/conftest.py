"""The small analysed head, without a window."""

from tests.helpers.analysed_head import analysis, first, head, result

__all__ = ["analysis", "first", "head", "result"]
