"""A job whose window was closed while it ran."""

from __future__ import annotations

import errno
import threading
from types import SimpleNamespace

import pytest

from lesionlens.base.errors import ResourceError
from lesionlens.napari.qt.jobs import end_all, problem_of, work


class Gone:
    """A signal of an object that Qt has deleted."""

    def emit(self, *_: object) -> None:
        raise RuntimeError("Signal source has been deleted")


@pytest.mark.parametrize("fails", [False, True])
def test_it_ends_without_a_traceback(fails, caplog):
    cancel = threading.Event()

    def task(context):
        cancel.set()  # the window is closed now
        if fails:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        return 1

    work(task, SimpleNamespace(progressed=Gone(), finished=Gone()), cancel)
    assert not caplog.records


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (RuntimeError("std::bad_alloc"), "too little memory"),
        (RuntimeError("can't start new thread"), "The system starts no more threads"),
        (ModuleNotFoundError("no", name="torch"), "torch is not installed"),
        (ResourceError(found="out of memory there", expected="more", next_step="Wait"), "there"),
    ],
)
def test_what_this_machine_lacks_is_no_defect(error, words, caplog):
    """On a full disk the window asked the reader to report a defect, with a traceback."""
    ended = []

    def task(context):
        raise error

    silent = SimpleNamespace(emit=lambda *_: None)
    finished = SimpleNamespace(emit=lambda *outcome: ended.append(outcome))
    work(task, SimpleNamespace(progressed=silent, finished=finished), threading.Event())
    ((_, failure),) = ended
    for problem in (problem_of(failure), problem_of(error)):  # of a job, and of the main thread
        assert words in problem.found
        assert (problem.title, problem.details) == ("The action failed", "")
    assert not caplog.records


def test_the_end_of_the_application_waits_until_partial_output_is_deleted():
    begun, ended = threading.Event(), []

    def task(context):
        begun.set()
        while not context.cancel.wait(0.01):
            pass
        ended.append("deleted")

    silent = SimpleNamespace(emit=lambda *_: None)
    messenger = SimpleNamespace(progressed=silent, finished=silent)
    threading.Thread(target=work, args=(task, messenger, threading.Event()), daemon=True).start()
    assert begun.wait(60)
    end_all()
    assert ended == ["deleted"]


_SCRIPT = """
import threading, time
from types import SimpleNamespace
from lesionlens.napari.qt.jobs import end_with_application, work
from lesionlens.napari.qt.threads import start_thread

begun = threading.Event()
def task(context):
    begun.set()
    context.cancel.wait(60)
    time.sleep(0.2)
    print("ended", flush=True)

silent = SimpleNamespace(emit=lambda *_: None)
messenger = SimpleNamespace(progressed=silent, finished=silent)
end_with_application()
start_thread("job", work, task, messenger, threading.Event())
begun.wait(60)
"""


def test_a_defect_in_an_open_window_is_logged(caplog):
    found = []
    finished = SimpleNamespace(emit=lambda *given: found.append(given))

    def task(context):
        raise ValueError("a defect")

    work(task, SimpleNamespace(finished=finished), threading.Event())
    assert "a job failed" in caplog.text
    assert isinstance(found[0][1], ValueError)
