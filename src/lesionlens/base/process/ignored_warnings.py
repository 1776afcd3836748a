"""Ignore warnings within a block, in several threads at a time.

The filters of warnings are those of the whole process. `warnings.catch_warnings` restores them as
they were when its own block began: of two blocks that overlap in two threads, the one that ends
first ends the other one's, and the last leaves its own filters behind.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lesionlens.base.process.shared_block import SharedBlock


def _own_filters() -> ExitStack:
    stack = ExitStack()
    stack.enter_context(warnings.catch_warnings())
    return stack


_filters = SharedBlock(_own_filters, ExitStack.close)


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
    with _filters:
        warnings.filterwarnings("ignore", message, category, module)
        yield
