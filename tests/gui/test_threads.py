"""What a thread of the window held is freed on the main thread, where Qt's objects are."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from qtpy.QtCore import QObject
from tests.gui.window import PATIENCE_MS

from lesionlens.napari.model.state.holder import JobReports
from lesionlens.napari.model.state.state import State
from lesionlens.napari.qt.jobs import Jobs
from lesionlens.napari.qt.latest_request import LatestRequest, RequestKey
from lesionlens.napari.qt.threads import start_thread, submit
from lesionlens.napari.qt.waiting import run_while_painting

MANY = 20_000
"""So many containers that a thread makes run the garbage collector, if it is enabled."""


class Reports(JobReports):
    state = State()

    def _set(self, **changes):
        pass


class Receiver:
    """An object that a signal may be connected to; tells which thread freed it."""

    def __init__(self, threads):
        self._threads = threads

    def __del__(self):
        self._threads.append(threading.current_thread())


def as_job(task, parent, qtbot):
    jobs = Jobs(Reports(), parent)
    jobs.start("a job", lambda _: task(), lambda _: None)
    return lambda: not jobs.running


def as_request(task, parent, qtbot):
    requests = LatestRequest(SimpleNamespace(), parent)
    requests.submit(RequestKey("key"), lambda _: task(), lambda _: None)
    return lambda: not requests.running


def as_plain_thread(task, parent, qtbot):
    thread = start_thread("a thread", task)
    return lambda: not thread.is_alive()


def in_a_pool(task, parent, qtbot):
    pool = ThreadPoolExecutor(1)
    future = submit(pool, task)
    pool.shutdown(wait=False)
    return future.done


def while_painting(task, parent, qtbot):
    run_while_painting(task)
    return lambda: True


WAYS = [as_job, as_request, as_plain_thread, in_a_pool, while_painting]


@pytest.fixture
def often():
    """The garbage collector runs often, as where many modules allocate."""
    gc.collect()
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("start", WAYS)
def test_garbage_is_collected_on_the_main_thread(start, often, qapp, qtbot):
    """The collector of a job's thread freed what the last study had left in cycles: a crash."""
    freed, worked_in = [], []

    def task():
        worked_in.append(threading.current_thread())
        receiver = Receiver(freed)
        receiver.itself = receiver
        del receiver
        return len([[number] for number in range(MANY)])

    parent = QObject()
    ended = start(task, parent, qtbot)
    qtbot.waitUntil(ended, timeout=PATIENCE_MS)
    qtbot.waitUntil(gc.isenabled, timeout=PATIENCE_MS)
    gc.collect()
    assert freed == [threading.main_thread()]
    assert worked_in != freed


@pytest.mark.parametrize("start", WAYS)
def test_what_a_thread_was_given_is_freed_on_the_main_thread(start, qapp, qtbot):
    """Also where everything else has dropped it, as a panel that was closed meanwhile."""
    freed, go_on = [], threading.Event()

    def task_of(receiver):
        def task():
            go_on.wait(PATIENCE_MS / 1000)
            return repr(receiver)

        return task

    threading.Timer(0.05, go_on.set).start()
    parent = QObject()
    ended = start(task_of(Receiver(freed)), parent, qtbot)
    qtbot.waitUntil(ended, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: bool(freed), timeout=PATIENCE_MS)
    assert freed == [threading.main_thread()]
