"""The small analysed head, without a window."""

from tests.reviewed_head import analysis, head, result

__all__ = ["analysis", "head", "result"]
