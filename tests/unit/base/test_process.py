"""Which signals end a command in order."""

from __future__ import annotations

import signal

import pytest

from lesionlens.base.process import SIGNALS, signals_to_handle
from lesionlens.cli.console import StopRequest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_closed_terminal_ends_a_command_like_an_interrupt():
    """It was killed, left hidden folders with patient data, and lost the state of a training."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stop = StopRequest()
    stop.record_only()
    stop.install_handlers()
    signal.raise_signal(signal.SIGHUP)
    assert stop.is_set()


@pytest.mark.usefixtures("handlers")
def test_a_command_under_nohup_outlives_its_terminal():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    StopRequest().install_handlers()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signals_to_handle() == (signal.SIGINT, signal.SIGTERM)
