"""The stage clock and limits of time."""

from __future__ import annotations

import math
import threading

import pytest

from lesionlens.base import errors
from lesionlens.base.peak_memory import peak_memory_mib
from lesionlens.base.stages import StageClock, TimeLimit, check


def test_a_stage_is_timed_reported_and_stopped_before_it_begins():
    reported: list[tuple[str, float]] = []
    stop = threading.Event()
    clock = StageClock(lambda stage, fraction: reported.append((stage, fraction)), stop)
    with clock.stage("first"):
        stop.set()
    assert reported == [("first", 0.0), ("first", 1.0)]
    assert clock.times[0].name == "first"
    assert clock.times[0].seconds >= 0
    assert 0 < clock.times[0].peak_memory_mib <= peak_memory_mib()
    with pytest.raises(errors.CancelledError, match="second"), clock.stage("second"):
        pytest.fail("the stage began")
    with pytest.raises(errors.CancelledError):
        check(stop, "third")


def test_a_time_limit_ends_a_block_quietly_and_only_where_time_is_up():
    over = TimeLimit(0.0)
    with over:
        check(over, "anything")
        pytest.fail("the block went on")
    assert over.seconds_left == 0
    endless = TimeLimit(math.inf)
    assert not endless.is_set()
    with pytest.raises(errors.CancelledError), endless:
        raise errors.CancelledError
    with pytest.raises(ValueError, match="own"), over:
        raise ValueError("its own")


def test_a_time_limit_passes_on_the_wish_of_the_user():
    stop = threading.Event()
    limit = TimeLimit(3600.0, stop)
    assert not limit.is_set()
    stop.set()
    assert limit.is_set()
    with pytest.raises(errors.CancelledError), limit:
        check(limit, "anything")
    late = TimeLimit(0.0, stop)
    with pytest.raises(errors.CancelledError), late:
        check(late, "anything")
