"""Errors name what was found, what was expected and what to do."""

from __future__ import annotations

import pytest

from lesionlens.base import errors

EVERY_ERROR = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.LesionLensError)
]


WORDED = (
    errors.CancelledError,
    errors.GoneError,
    errors.PatientConflictError,
    errors.PluginError,
)
"""Errors that bring their own words."""


@pytest.mark.parametrize("kind", [k for k in EVERY_ERROR if k not in WORDED])
def test_an_error_says_what_was_found_expected_and_to_do(kind):
    error = kind(found="a cat", expected="a dog.", next_step="Fetch one")
    assert str(error) == "Found a cat. Expected a dog. Fetch one."
    assert error.exit_status in (1, 2)
    with pytest.raises(TypeError):
        kind("a cat")


def test_what_a_server_no_longer_holds_is_named_and_to_be_sent_again():
    assert "Found a study that" in str(errors.GoneError("study"))
    assert str(errors.GoneError("study")).endswith("Send it again.")


def test_a_plugin_that_fails_is_named_and_its_own_words_only_in_the_message():
    who = "the engine 'mine' of a-package 0.1"
    error = errors.PluginError(who=who, why="failed", message="Doe.nii", expected="one that works")
    assert str(error).startswith(f"Found that {who} failed: Doe.nii. Expected one that works.")
    assert error.brief == f"{who} failed"
    assert error.exit_status == 1


def test_what_the_user_can_mend_ends_with_2():
    mendable = {k.__name__ for k in EVERY_ERROR if k.exit_status == 2}
    assert mendable >= {"UnusableInputError", "GeometryError", "ReadError", "ConfigError"}
    assert errors.ResourceError.exit_status == errors.ExportError.exit_status == 1
    assert errors.CancelledError("loading").exit_status == 130
