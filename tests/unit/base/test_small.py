"""Errors, labels, plugins and stages: the small things that everything leans on."""

from __future__ import annotations

import ctypes
import math
import threading

import pytest

from lesionlens.base import errors, plugins
from lesionlens.base.labels import REFERENCE_ORDER, Label, MrSequence, Region, ReviewState
from lesionlens.base.peak_memory import peak_memory_mib, windows_peak_mib
from lesionlens.base.stages import StageClock, TimeLimit, check

EVERY_ERROR = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.LesionLensError)
]


@pytest.mark.parametrize("kind", [k for k in EVERY_ERROR if k is not errors.CancelledError])
def test_an_error_says_what_was_found_expected_and_to_do(kind):
    error = kind(found="a cat", expected="a dog.", next_step="Fetch one")
    assert str(error) == "Found a cat. Expected a dog. Fetch one."
    assert error.exit_status in (1, 2)
    with pytest.raises(TypeError):
        kind("a cat")


def test_what_the_user_can_mend_ends_with_2():
    mendable = {k.__name__ for k in EVERY_ERROR if k.exit_status == 2}
    assert mendable >= {"UnusableInputError", "GeometryError", "ReadError", "ConfigError"}
    assert errors.ResourceError.exit_status == errors.ExportError.exit_status == 1
    assert errors.CancelledError("loading").exit_status == 130


def test_regions_are_nested():
    whole, core, enhancing = (set(region.labels) for region in Region)
    assert enhancing < core < whole == set(Label) - {Label.BACKGROUND}


def test_every_member_has_words():
    words = [member.words for kind in (MrSequence, Region, Label) for member in kind]
    assert all(words)
    assert len(set(words)) == len(words)
    assert sorted(REFERENCE_ORDER) == sorted(MrSequence)
    assert MrSequence.T1C.words == "T1c"
    assert ReviewState("accepted") is ReviewState.ACCEPTED


def test_a_missing_plugin_names_what_is_installed():
    with pytest.raises(errors.MissingPluginError, match=r"(?s)'toaster'.*dicom.*nifti"):
        plugins.load(plugins.READERS, "toaster")


def test_a_stage_is_timed_told_and_stopped_before_it_begins():
    told: list[tuple[str, float]] = []
    stop = threading.Event()
    clock = StageClock(lambda stage, fraction: told.append((stage, fraction)), stop)
    with clock.stage("first"):
        stop.set()
    assert told == [("first", 0.0), ("first", 1.0)]
    assert clock.times[0].name == "first"
    assert clock.times[0].seconds >= 0
    assert 0 < clock.times[0].peak_memory_mib <= peak_memory_mib()
    with pytest.raises(errors.CancelledError, match="second"), clock.stage("second"):
        pytest.fail("the stage began")
    with pytest.raises(errors.CancelledError):
        check(stop, "third")


class Kernel32:
    """Answers as Windows does: the peak lies after two 32-bit words, padded to none."""

    class _Callable:
        def __init__(self, call):
            self._call = call

        def __call__(self, *given):
            return self._call(*given)

    def __init__(self, told=1):
        def fill(process, counters, size):
            assert (process, size) == (-1, 72)
            words = ctypes.cast(counters, ctypes.POINTER(ctypes.c_uint64))
            words[1] = 300 << 20
            return told

        self.GetCurrentProcess = self._Callable(lambda: -1)
        self.K32GetProcessMemoryInfo = self._Callable(fill)


def test_windows_is_asked_for_the_peak_by_its_own_structure():
    assert windows_peak_mib(Kernel32()) == 300


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
