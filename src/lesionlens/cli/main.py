"""The `lesionlens` command: runs a subcommand, prints its output, maps errors to exit statuses.

The only module that prints and that catches every exception.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import metadata
from itertools import pairwise
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from lesionlens.base.errors import INTERRUPTED, LesionLensError, ResourceError, environment_error
from lesionlens.base.process import discard_output, write_line
from lesionlens.cli import (
    analyze,
    batch,
    checks,
    doctor,
    evaluate,
    export,
    finetune,
    open_window,
    pacs,
    reader_study,
    response,
    review,
    sample,
    sentence,
    worklist,
)
from lesionlens.cli.console import STOP, CommandOutput, plain
from lesionlens.cli.option_groups import Group, arguments_of, set_options
from lesionlens.cli.verbosity import Verbosity, error_fields, logging_with

_MAY_BE_EMPTY = frozenset({"--modality"})
"""Options for which an empty value has a meaning."""
_VERBOSITY = Group(Verbosity)

logger = logging.getLogger(__name__)


class _Help:
    """Mixin of commands and groups whose help shows no value for an option that takes none."""

    def get_params(self, ctx: Any) -> Any:
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for option in parameters:
            if getattr(option, "is_flag", False) or getattr(option, "count", False):
                option.metavar = ""
        return parameters


class _Command(_Help, TyperCommand):
    pass


class _Group(_Help, TyperGroup):
    pass


app = typer.Typer(
    name="lesionlens",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Research use only. Flags regions; does not exclude disease.",
)


def run() -> int:
    """Run the command line of this process; returns or raises SystemExit with the exit status."""
    _reopen_closed_streams()
    STOP.install_handlers()
    if (error_text := empty_argument_error(sys.argv[1:])) is not None:
        _print_error(f"lesionlens: {error_text}")
        return 2
    try:
        _configure_process()
    except LesionLensError as error:
        return _report(error, in_json="--json" in sys.argv)
    try:
        with _output_errors():
            app(prog_name="lesionlens")
    except KeyboardInterrupt:
        pass
    except ResourceError as error:  # help or version that cannot be printed
        return _report(error, in_json=False)
    except (Exception, SystemExit) as error:  # an import may turn the interrupt into another error
        if not STOP.output_printed and isinstance(error.__context__, BrokenPipeError):
            return _status_of_unread_text(error.__context__)
        if STOP.output_printed or not STOP.is_set():
            raise
    finally:
        gc.freeze()  # the process ends: skip the final garbage collection
        _redirect_late_output()
    _print_error(f"lesionlens: {INTERRUPTED}")  # before the command itself began
    return 130


def _status_of_unread_text(error: BrokenPipeError) -> int:
    """Return the exit status of help, version or a wrong argument whose reader closed the pipe.

    The libraries that print these end with status 1 instead.
    """
    return getattr(error.__context__, "exit_code", 0)


def _print_error(text: str, stream: TextIO | None = None) -> None:
    """Print text, by default to stderr; an error is ignored: the exit status reports it."""
    write_line(text, stream or sys.stderr)


def _report_log(text: str) -> None:
    _print_error(f"lesionlens: {plain(text)}")


def _reopen_closed_streams() -> None:
    """Open the null device for each standard stream that was closed (`>&-`, some services).

    Otherwise the next file that is opened gets the stream's number, and what a library prints would
    be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def empty_argument_error(arguments: Sequence[str]) -> str | None:
    """Return the error text for an empty argument; None if there is none.

    It is usually an unset variable of a script, and would be read as the working folder.

    Examples
    --------
    >>> empty_argument_error(["analyze", "study", "--out", "result"])
    >>> empty_argument_error(["analyze", "study", "--out", ""]).partition(".")[0]
    'Found an empty value after --out'
    """
    for previous, argument in pairwise(("lesionlens", *arguments)):
        if not argument.strip() or (argument.startswith("--") and argument.endswith("=")):
            option = argument.strip().rstrip("=") or previous
            if option not in _MAY_BE_EMPTY:
                return (
                    f"Found an empty value after {option}. Expected a path or text. Name it; if it "
                    "is a variable of a script, check that it is set."
                )
        if previous == "--":
            break
    return None


def _configure_process() -> None:
    """Apply process-wide settings, which a program may make but not a library."""
    # Waiting OpenMP threads sleep. By default they spin and take the cores from other programs
    # (three times slower beside one busy program). Read when torch is loaded. In lower case,
    # because libgomp compares by locale, and in a Turkish one rejects PASSIVE, whose I is another.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # NumPy's products are small; its waiting threads spin, for a tenth of an analysis.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # glibc returns large blocks at once, which the network then asks for again: clearing their
    # pages takes a tenth of an analysis. Other C libraries have no such call.
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never trim
        mallopt(-4, 0)  # M_MMAP_MAX: never map a block separately
    # Imports create hundreds of thousands of permanent objects. With Python's threshold of 700 they
    # are traced repeatedly, which takes a tenth of the import time.
    gc.set_threshold(50_000)
    # Torch is imported during the preparation, which would wait 5 ms for it at each return to
    # Python.
    sys.setswitchinterval(0.0005)
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # workers import nothing of the working folder
    if os.environ.get("COLUMNS") == "0":  # unknown, as some consoles set it; rich prints nothing
        del os.environ["COLUMNS"]
    if isinstance(sys.stdout, io.TextIOWrapper):  # unencodable characters are replaced
        sys.stdout.reconfigure(errors="backslashreplace")


def _guarded(command: Callable[..., CommandOutput]) -> Callable[..., None]:
    """Print a command's output; turn any exception into a message and an exit status."""

    @functools.wraps(command)
    def run_guarded(**values: Any) -> None:
        verbosity, in_json = _VERBOSITY.choice_among(values), values.get("json") is True
        try:
            with logging_with(verbosity, _report_log):
                checks.check_working_folder()
                values = {name: checks.named(value) for name, value in values.items()}
                checks.check_readable(values.values())
                output = _run_command(command, values)
            with _output_errors():
                _print(output, quiet=verbosity.quiet, in_json=in_json)
        except (Exception, KeyboardInterrupt) as error:
            if verbosity.debug:
                traceback.print_exc()
            raise typer.Exit(_report(error, in_json=in_json)) from None
        finally:
            STOP.output_printed = True
        raise typer.Exit(output.status)

    set_options(run_guarded, command, _VERBOSITY)
    return run_guarded


@contextmanager
def _output_errors() -> Iterator[None]:
    """Report that the written result is complete if only the output could not be printed.

    A reader that closed the pipe (`| head -1`) has what it needs: the exit status is unchanged.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output(sys.stdout)
    except OSError as error:
        discard_output(sys.stdout)
        raise ResourceError(
            f"Cannot write to stdout: {error.strerror or type(error).__name__}.",
            hint="Files that the command wrote are complete; redirect the output elsewhere.",
        ) from error


def _run_command(command: Callable[..., CommandOutput], values: dict[str, Any]) -> CommandOutput:
    """Run a command and log its start, notes and exit status."""
    version = metadata.version("lesionlens")
    logger.info("lesionlens %s %s", version, command.__name__.replace("_", "-"))
    try:
        with redirect_stdout(sys.stderr), _stdout_to_stderr():
            output = command(**arguments_of(command, values))
    except (Exception, KeyboardInterrupt) as error:
        status, message = explain(error)
        logger.info("exit status %d: %s", status, plain(message))
        raise
    for note in output.notes:
        logger.info("note: %s", plain(note))
    logger.info("exit status %d", output.status)
    return output


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect output of native code and child processes to stderr; stdout is for results."""
    try:
        stdout = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # one of them is closed
        yield
        return
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def _redirect_late_output() -> None:
    """Redirect output of plug-ins after the result, from threads or at exit, to stderr."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        os.dup2(2, 1)


def _report(error: BaseException, *, in_json: bool) -> int:
    """Print why a command failed, for people and for scripts; return its exit status."""
    status, message = explain(error)
    _print_error(f"lesionlens: {plain(message)}")
    if in_json:
        content = error_fields(error, status, plain(message))
        _print_error(json.dumps(content, indent=1), sys.stdout)
    return status


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit status and the message of an exception.

    Examples
    --------
    >>> explain(KeyboardInterrupt())
    (130, 'Interrupted; nothing was changed.')
    >>> explain(ModuleNotFoundError("no", name="torch"))[1].partition(".")[0]
    'The package torch is not installed'
    """
    if isinstance(error, LesionLensError):
        return error.exit_status, str(error)
    if isinstance(error, KeyboardInterrupt) or STOP.is_set():
        return 130, INTERRUPTED
    known_error = environment_error(error)
    if known_error is not None:
        return 1, str(known_error)
    message_lines = str(error).strip().splitlines() or ["no message"]
    return 1, (
        f"Found a defect in LesionLens ({type(error).__name__}: {message_lines[0][:300]}). "
        "Run it again with --debug and report the output; completed output is kept."
    )


def _print(output: CommandOutput, *, quiet: bool, in_json: bool) -> None:
    if quiet and not in_json:
        return
    for note in () if quiet else output.notes:
        _print_error(plain(f"Note: {note}"))
    for part in output.output:
        if isinstance(part, str):
            print(part)
        else:
            from rich.console import Console

            # names may have brackets, and colons as those of emoji
            console = Console(highlight=False, emoji=False)
            with console.capture() as captured:  # it ends the process itself if a pipe is closed
                console.print(part, markup=False)
            print(captured.get(), end="")


def _joined_paragraphs(text: str | None) -> str:
    """Join the lines of each paragraph, so that the terminal wraps them."""
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _version(requested: bool) -> None:
    if requested:
        print(f"lesionlens {metadata.version('lesionlens')}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Flag candidate tumour regions in brain MRI, with the attention behind them, for review."""
    del version


def _add(
    parent: typer.Typer, command: Callable[..., CommandOutput], example: str, name_at: int = 0
) -> None:
    """Add a command, named by the word of its example at `name_at`."""
    parent.command(
        example.split()[name_at],
        cls=_Command,
        help=_joined_paragraphs(command.__doc__),
        epilog=f"Example: lesionlens {example}",
    )(_guarded(command))


for _command, _example in (
    (analyze.analyze, "analyze sample_data/study --out out/demo"),
    (batch.batch, "batch sample_data --out out/batch"),
    (doctor.doctor, "doctor"),
    (evaluate.evaluate, "evaluate out/demo sample_data/study_reference"),
    (export.export, "export out/demo sample_data/study --out out/reviewed"),
    (finetune.finetune, "finetune cases --out out/tuned"),
    (open_window.open_window, "open sample_data/study"),
    (response.response, "response out/now --baseline 1"),
    (review.review, "review sample_data/study_reference/segmentation.nii.gz sample_data/study"),
    (sample.sample, "sample sample_data"),
    (sentence.sentence, "sentence out/demo --candidate 1"),
):
    _add(app, _command, _example)

_GROUPS: dict[str, tuple[str, tuple[tuple[Callable[..., CommandOutput], str], ...]]] = {
    "pacs": (
        "Find studies in an archive, fetch and send them, by DICOMweb or DIMSE.",
        (
            (pacs.find, "pacs find http://127.0.0.1:8042/dicom-web --date 20260105"),
            (pacs.get, "pacs get dicom://ORTHANC@127.0.0.1:4242 1.2.3 --out study"),
            (pacs.send, "pacs send http://127.0.0.1:8042/dicom-web out/dicom"),
        ),
    ),
    "worklist": (
        "Worklists: list studies, and analyse them in advance.",
        (
            (worklist.scan, "worklist scan sample_data --list out/list"),
            (worklist.show, 'worklist show out/list --filter "new flair"'),
            (worklist.ahead, "worklist ahead out/list"),
        ),
    ),
    "reader-study": (
        "Reader studies: reading order from LIST/protocol.toml, and result tables.",
        (
            (reader_study.plan, "reader-study plan out/list"),
            (reader_study.table, "reader-study table out/list --out out/tables"),
        ),
    ),
}
for _group, (_help, _verbs) in _GROUPS.items():
    _app = typer.Typer(cls=_Group, no_args_is_help=True, help=_help)
    for _command, _example in _verbs:
        _add(_app, _command, _example, name_at=1)
    app.add_typer(_app, name=_group)
