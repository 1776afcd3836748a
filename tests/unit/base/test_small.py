"""Errors, labels, plugins and stages: the small things that everything leans on."""

from __future__ import annotations

import threading

import pytest

from lesionlens.base import errors, plugins
from lesionlens.base.labels import REFERENCE_ORDER, Label, MrSequence, Region, ReviewState
from lesionlens.base.stages import StageClock, check, peak_memory_mib

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
