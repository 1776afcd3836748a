"""What is spared from collections is not kept for good."""

from __future__ import annotations

import gc
import weakref

from lesionlens.base.memory import rest


class Knot:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


def test_what_was_spared_and_is_no_longer_used_goes_at_the_next_rest():
    try:
        knot = Knot()
        there = weakref.ref(knot)
        rest()
        assert gc.get_freeze_count() > 0
        del knot
        gc.collect()
        assert there() is not None  # spared
        rest()
        assert there() is None
    finally:
        gc.unfreeze()
