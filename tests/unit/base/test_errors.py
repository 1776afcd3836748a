"""Errors are a sentence and a hint, and have an exit status."""

from __future__ import annotations

from lesionlens.base import errors

EVERY_ERROR = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.LesionLensError)
]


def test_an_error_is_one_sentence_and_a_hint():
    error = errors.ReadError("Cannot read 'IM1'.", hint="Check the disk")
    assert str(error) == "Cannot read 'IM1'. Check the disk."
    assert (error.sentence, error.in_window) == ("Cannot read 'IM1'.", "Check the disk")
    assert str(errors.ReadError("Cannot read 'IM1'.")) == "Cannot read 'IM1'."


def test_a_plugin_that_fails_is_named_and_its_own_words_only_in_the_message():
    who = "the engine 'mine' of a-package 0.1"
    error = errors.PluginError(who=who, why="failed", message="Doe.nii")
    assert str(error).startswith(f"T{who[1:]} failed: Doe.nii.")
    assert error.brief == f"{who} failed"
    assert error.exit_status == 1


def test_what_the_user_can_mend_ends_with_2():
    mendable = {k.__name__ for k in EVERY_ERROR if k.exit_status == 2}
    assert mendable >= {"UnusableInputError", "GeometryError", "ReadError", "ConfigError"}
    assert errors.ResourceError.exit_status == errors.ExportError.exit_status == 1
    assert errors.CancelledError("loading").exit_status == 130
