"""The small analysed head, without a window."""

from tests.reviewed_head import analysis, first, head, result

__all__ = ["analysis", "first", "head", "result"]
