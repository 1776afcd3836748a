"""Whatever goes wrong becomes one message and one status."""

from __future__ import annotations

import errno
import os
import signal

import pytest
from typer.testing import CliRunner

from lesionlens.base.errors import CancelledError, ResourceError, UnusableInputError
from lesionlens.cli import checks, main
from lesionlens.cli.console import StopRequest, plain
from lesionlens.cli.main import app, explain

WORDS = {"found": "a cat", "expected": "a dog", "next_step": "Fetch one"}


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UnusableInputError(**WORDS), 2, "Found a cat"),
        (ResourceError(**WORDS), 1, "Found a cat"),
        (CancelledError("loading"), 130, "loading"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (MemoryError(), 1, "too little memory"),
        (RuntimeError("std::bad_alloc"), 1, "too little memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 1, "too little memory"),
        (ImportError("core.so: failed to map segment from shared object"), 1, "too little memory"),
        (RuntimeError("could not create a primitive"), 1, "too little memory"),
        (RuntimeError("can't start new thread"), 1, "ulimit -u"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left"),
        (PermissionError(errno.EACCES, "denied", "/data/p1/run.json"), 1, "denied (p1/run.json)"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
        (RuntimeError(), 1, "--debug"),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, BaseException) else "",
)
def test_every_failure_has_its_status_and_words(error, status, words):
    found, message = explain(error)
    assert found == status
    assert words in message
    assert "bad_alloc" not in message
    if "Interrupted" not in message:  # `learn` and `batch` keep what was complete before
        assert "nothing was changed" not in message


def test_the_modality_of_a_search_may_be_empty():
    assert main.empty_argument_error(["pacs", "find", "https://h", "--modality", ""]) is None
    assert main.empty_argument_error(["pacs", "find", "https://h", "--modality="]) is None
    assert main.empty_argument_error(["pacs", "find", "https://h", "--patient="]) is not None


@pytest.mark.parametrize("text", ["\x1b[31mred", "left\u202etfel", "bell\x07", "zero\u200bwidth"])
def test_text_of_strangers_cannot_steer_the_terminal(text):
    assert plain(text).isprintable()


def test_the_first_signal_raises_and_later_ones_wait():
    stop = StopRequest()
    with pytest.raises(KeyboardInterrupt):
        stop._on_signal(signal.SIGINT, None)
    stop._on_signal(signal.SIGTERM, None)
    assert stop.is_set()


def test_a_gentle_stop_only_notes_the_wish():
    stop = StopRequest()
    stop.record_only()
    stop._on_signal(signal.SIGINT, None)
    assert stop.is_set()


def test_a_path_that_may_not_be_read_is_refused_with_a_next_step(tmp_path, monkeypatch):
    """In our words, before the command begins: not in a box that names no next step."""
    secret = tmp_path / "secret"
    monkeypatch.setattr(checks.os, "access", lambda path, how: how == os.F_OK or path != secret)
    (tmp_path / "secret").mkdir()
    outcome = CliRunner().invoke(app, ["evaluate", str(tmp_path / "secret"), str(tmp_path)])
    assert outcome.exit_code == 2
    assert "No permission to read 'secret'" in outcome.stderr
    assert "chmod" in outcome.stderr
