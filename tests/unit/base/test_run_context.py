"""Progress, cancellation and the clock of stages."""

from __future__ import annotations

import threading

import pytest

from lesionlens.base import errors
from lesionlens.base.run_context import RunContext, peak_memory_mib


def test_a_stage_is_timed_reported_and_stopped_before_it_begins():
    reported: list[tuple[str, float]] = []
    stop = threading.Event()
    context = RunContext(lambda stage, fraction: reported.append((stage, fraction)), stop).timed()
    with context.stage("first"):
        stop.set()
    assert reported == [("first", 0.0), ("first", 1.0)]
    assert context.times[0].name == "first"
    assert context.times[0].seconds >= 0
    assert 0 < context.times[0].peak_memory_mib <= peak_memory_mib()
    with pytest.raises(errors.CancelledError, match="second"), context.stage("second"):
        pytest.fail("the stage began")
    with pytest.raises(errors.CancelledError):
        context.check("third")
