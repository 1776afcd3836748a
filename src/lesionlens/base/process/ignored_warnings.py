"""Ignore warnings within a block, in several threads at a time.

The filters of warnings are those of the whole process. `warnings.catch_warnings` restores them as
they were when its own block began: of two blocks that overlap in two threads, the one that ends
first ends the other one's, and the last leaves its own filters behind.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lock = threading.Lock()
_filters = ExitStack()
_active_blocks = 0


@contextmanager
def warnings_ignored(
    category: type[Warning] = Warning, *, message: str = "", module: str = ""
) -> Iterator[None]:
    """Ignore warnings within the block, until the last of overlapping blocks ends.

    Parameters
    ----------
    category, message, module
        Which of them, as for `warnings.filterwarnings`; all by default.
    """
    global _active_blocks  # noqa: PLW0603  (one list of filters a process)
    with _lock:
        if _active_blocks == 0:
            _filters.enter_context(warnings.catch_warnings())
        _active_blocks += 1
        warnings.filterwarnings("ignore", message, category, module)
    try:
        yield
    finally:
        with _lock:
            _active_blocks -= 1
            if _active_blocks == 0:
                _filters.close()
