"""Whatever goes wrong becomes one message and one status."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lesionlens.__main__ import run
from lesionlens.base.errors import CancelledError, ResourceError, UnusableInputError
from lesionlens.base.files.safe_paths import check_outside
from lesionlens.base.process.interrupts import SIGNALS
from lesionlens.cli import checks, console, main
from lesionlens.cli.console import StopRequest, plain
from lesionlens.cli.main import app, explain
from lesionlens.cli.option_groups import SourceOptions
from lesionlens.cli.train import train
from lesionlens.engines.engine_choice import EngineChoice

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


def test_a_connection_that_breaks_is_an_error(monkeypatch):
    broken = BrokenPipeError(errno.EPIPE, "Broken pipe")
    monkeypatch.setattr(main, "_run_command", lambda *_: (_ for _ in ()).throw(broken))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "Broken pipe" in done.stderr


def test_the_modality_of_a_search_may_be_empty():
    assert main.empty_argument_error(["pacs", "find", "https://h", "--modality", ""]) is None
    assert main.empty_argument_error(["pacs", "find", "https://h", "--modality="]) is None
    assert main.empty_argument_error(["pacs", "find", "https://h", "--patient="]) is not None


@pytest.mark.parametrize("text", ["\x1b[31mred", "left\u202etfel", "bell\x07", "zero\u200bwidth"])
def test_text_of_strangers_cannot_steer_the_terminal(text):
    assert plain(text).isprintable()


def test_line_breaks_of_our_own_messages_stay():
    assert plain("one\ntwo") == "one\ntwo"


def test_what_native_code_prints_is_not_mixed_with_the_answer(capfd):
    with main._stdout_to_stderr():
        os.write(1, b"a library says")
    os.write(1, b"{}")
    assert capfd.readouterr() == ("{}", "a library says")


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


def test_progress_is_silent_where_nobody_watches(capsys):
    with console.progress_bar() as context:
        context.progress("loading", 0.5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == ""


NAMES = ("[red]Miller", "[/b] Doe", "[@click=f(]", "a:cat:b")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_with_brackets_is_shown_as_it_is(name, capsys):
    table = console.new_table(("study",))
    table.add_row(name)
    main._print(console.CommandOutput((table,)), quiet=False, in_json=False)
    assert name in capsys.readouterr().out


def test_a_line_beside_a_table_is_printed_as_it_is(capsys):
    """A path was broken at 80 characters, so that no script found it."""
    table, line = console.new_table(("study",)), f"Result: {'long name/' * 12}:cat: [b]"
    main._print(console.CommandOutput((table, line)), quiet=False, in_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == line


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_with_brackets_is_shown_as_it_is(name, monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as in a terminal
    with console.progress_bar() as context:
        context.progress(name, 0.5)
    assert name in capsys.readouterr().err


def test_only_named_sequences_are_passed_on():
    assert SourceOptions(t1c="a.nii").named == {"t1c": "a.nii"}


@pytest.mark.parametrize("inside", [".", "out", "deep/out", "../study/out"])
def test_an_output_folder_in_the_study_is_refused(tmp_path, inside):
    study = tmp_path / "study"
    study.mkdir()
    with pytest.raises(UnusableInputError, match="within the study"):
        check_outside(study, study / inside)
    check_outside(study, tmp_path / "study_result")


def test_training_writes_nothing_among_the_cases(tmp_path):
    cases = tmp_path / "cases"
    cases.mkdir()
    for how in ({"finetune": cases}, {"finetune": tmp_path / "out" / "batch", "studies": cases}):
        with pytest.raises(UnusableInputError, match="within the study"):
            train(Path("finetune"), cases / "run", EngineChoice("cpu"), **how)
    assert not list(cases.iterdir())


def test_a_reader_who_stops_reading_gets_no_traceback():
    code = "from lesionlens.cli.main import run; run()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "doctor", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=120)
    assert "Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--version"], 0), (["--help"], 0), (["analyze", "--help"], 0), (["analize"], 2)],
)
def test_a_reader_who_closes_the_pipe_does_not_change_the_status(arguments, status):
    """Help piped to `head` ended with status 1, and so did a wrong command piped to `true`."""
    reader, pipe = os.pipe()
    os.close(reader)
    code = "import sys; from lesionlens.cli.main import run; sys.exit(run())"
    try:
        done = subprocess.run(
            [sys.executable, "-u", "-c", code, *arguments],
            stdout=pipe, stderr=pipe, check=False, timeout=120,
        )  # fmt: skip
    finally:
        os.close(pipe)
    assert done.returncode == status


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
@pytest.mark.parametrize("then", ["raise", "raise ImportError('no') from None", "pass"])
@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_while_the_command_line_is_imported_is_one(number, then):
    """The signal arrives in the first import; some packages make an error of their own of it.

    Python discards what is raised in the callback of a weakref, as in the lock of a module.
    """
    code = f"""
import os, signal, sys
signal.signal({int(number)}, signal.SIG_DFL)  # not as the tests were started, as by nohup
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "lesionlens.cli":
            try:
                exec("os.kill(os.getpid(), {int(number)})")  # as the methods of a dataclass are
            except KeyboardInterrupt:
                {then}
sys.meta_path.insert(0, Finder())
from lesionlens.__main__ import run
sys.exit(run())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "lesionlens: Interrupted; nothing was changed.\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_an_interrupt_between_import_and_own_handlers_has_no_traceback(monkeypatch, capsys):
    """`lesionlens open` ended with a traceback and status 1."""

    def begin():
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(main, "run", begin)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        assert run() == 130
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == "lesionlens: Interrupted; nothing was changed.\n"


def test_a_path_that_may_not_be_read_is_refused_with_a_next_step(tmp_path, monkeypatch):
    """In our words, before the command begins: not in a box that names no next step."""
    secret = tmp_path / "secret"
    monkeypatch.setattr(checks.os, "access", lambda path, how: how == os.F_OK or path != secret)
    (tmp_path / "secret").mkdir()
    outcome = CliRunner().invoke(app, ["evaluate", str(tmp_path / "secret"), str(tmp_path)])
    assert outcome.exit_code == 2
    assert "no permission to read 'secret'" in outcome.stderr
    assert "chmod" in outcome.stderr


def test_a_link_that_leads_nowhere_is_not_called_unreadable(tmp_path):
    """The advice was to change the permissions of a file that does not exist."""
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    outcome = CliRunner().invoke(app, ["analyze", str(tmp_path / "link"), "--out", "out"])
    assert outcome.exit_code == 2
    assert "'link' does not exist" in outcome.stderr
    assert "permission" not in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample", "loop"),
        ("response", "loop"),
        ("batch", "table.csv", "--out", "out"),
    ],
)
def test_a_link_to_itself_is_no_defect_of_ours(arguments, tmp_path, monkeypatch):
    """Python before 3.13 raises RuntimeError where it resolves one."""
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("table.csv").write_text("study\nloop\n", encoding="utf-8")
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 2 or isinstance(outcome.exception, UnusableInputError), outcome
    assert Path("loop").is_symlink()


@pytest.fixture
def run_app(monkeypatch):
    """Runs the command line with another app; neither signals nor the process are touched."""
    monkeypatch.setattr(main, "STOP", StopRequest())
    monkeypatch.setattr(StopRequest, "install_handlers", lambda _: None)
    monkeypatch.setattr(main, "_configure_process", lambda: None)
    monkeypatch.setattr(sys, "argv", ["lesionlens", "doctor"])

    def run(app):
        monkeypatch.setattr(main, "app", app)
        return main.run()

    return run


def test_an_interrupt_that_an_import_turned_into_an_error_is_still_one(run_app, capsys):
    """Python up to 3.11 raises RuntimeError for what is raised in a `__set_name__`."""

    def interrupted(**_):
        main.STOP.set()
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    assert run_app(interrupted) == 130
    assert "nothing was changed" in capsys.readouterr().err


def test_an_error_without_an_interrupt_is_raised(run_app):
    def broken(**_):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run_app(broken)


@pytest.mark.parametrize(
    "arguments",
    [
        ["batch", ".", "--out", "../out"],
        ["sentence", "."],
        ["worklist", "scan", ".", "--list", "../out"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_message_names_the_working_folder(arguments, tmp_path, monkeypatch):
    """It was called ''."""
    (tmp_path / "reading room").mkdir()
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path / "reading room")
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 2
    assert "in 'reading room'" in outcome.stderr
