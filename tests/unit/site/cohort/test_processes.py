"""Workers of this machine: no port, no study lost, nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.site.cohort.processes import in_processes
from lesionlens.site.cohort.studies import StudyJob

TASKS = """
import os, signal, sys, time
from pathlib import Path
from lesionlens.site.database.records import Status, StudyOutcome

def answered(job, words="done"):
    return StudyOutcome(job.name, Status.ANALYSED, 0, words)

def names_its_sockets(job, context):
    places = [Path(f"/proc/self/fd/{number}") for number in range(64)]
    links = [str(place.readlink()) for place in places if place.is_symlink()]
    return answered(job, " ".join(link for link in links if link.startswith("socket")))

def dies_once(job, context):
    mark = job.out / f"{job.name}.died"
    if job.name == "b" and not mark.exists():
        mark.touch()
        os._exit(9)
    return answered(job)

def always_dies(job, context):
    return os._exit(9) if job.name == "b" else answered(job)

def waits(job, context):
    (job.out / f"{job.name}.pid").write_text(str(os.getpid()))
    while not context.cancel.is_set():
        time.sleep(0.01)
    return StudyOutcome(job.name, Status.STOPPED, 130, "stopped")

def dies_when_stopped(job, context):
    waits(job, context)
    os._exit(9)

def hears_nothing(job, context):
    (job.out / f"{job.name}.pid").write_text(str(os.getpid()))
    time.sleep(600)
"""
PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
if __name__ == "__main__":
    import tasks
    from lesionlens.base.run_context import RunContext
    from lesionlens.site.cohort.processes import in_processes
    from lesionlens.site.cohort.studies import StudyJob
    out = Path(sys.argv[1])
    jobs = [StudyJob(name, out, out) for name in "ab"]
    list(in_processes(jobs, tasks.waits, 2, RunContext()))
"""

UNGUARDED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
print("begun")
import tasks
from lesionlens.base.run_context import SILENT
from lesionlens.site.cohort.processes import in_processes
from lesionlens.site.cohort.studies import StudyJob
jobs = [StudyJob(name, Path(sys.argv[1]), Path(sys.argv[1])) for name in "abc"]
print(*sorted(one.message for one in in_processes(jobs, tasks.dies_once, 2, SILENT)))
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Return what workers can be given; a process finds it by the path that it inherits."""
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    import tasks

    return tasks


def jobs(folder, names="abc"):
    return [StudyJob(name, folder, folder) for name in names]


def answers(tmp_path, task, context=SILENT):
    found = in_processes(jobs(tmp_path), task, 2, context)
    return {one.name: one for one in found}


def gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"


def wait_for(question):
    end = time.monotonic() + 60
    while not question() and time.monotonic() < end:
        time.sleep(0.05)
    assert question()


def test_workers_do_not_run_the_script_that_starts_them(tasks, tmp_path):
    """Without a guard each ran `batch` again."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    ran = subprocess.run(
        [sys.executable, script, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == ["begun", "done", "done", "done"], ran.stderr


def test_a_study_whose_worker_died_is_tried_once_more(tasks, tmp_path):
    found = answers(tmp_path, tasks.dies_once)
    assert {one.exit_status for one in found.values()} == {0}
    assert (tmp_path / "b.died").exists()


def test_a_study_that_ends_every_worker_is_recorded_and_costs_no_other(tasks, tmp_path):
    found = answers(tmp_path, tasks.always_dies)
    assert {name: one.exit_status for name, one in found.items()} == {"a": 0, "b": 1, "c": 0}
    assert "memory" in found["b"].message


DIED = "not analysed: its worker died while the batch was being stopped"


@pytest.mark.parametrize(("task", "message"), [("waits", "stopped"), ("dies_when_stopped", DIED)])
def test_a_stop_reaches_workers_and_leaves_what_was_not_begun(tasks, tmp_path, task, message):
    """Of a worker that died meanwhile it was said that it did not stop in time."""
    stop = threading.Event()
    begun = threading.Thread(
        target=lambda: (
            wait_for(lambda: len([*tmp_path.glob("*.pid")]) == 2),
            stop.set(),
        )
    )
    begun.start()
    found = answers(tmp_path, getattr(tasks, task), RunContext(cancel=stop))
    begun.join()
    assert {one.exit_status for one in found.values()} == {130}
    assert sorted(one.message for one in found.values()) == sorted(
        ["not started", message, message]
    )


@pytest.mark.skipif(os.name != "posix", reason="ends a process by SIGKILL")
def test_workers_end_with_a_parent_that_was_killed(tasks, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script, tmp_path]) as parent:
        pids = [tmp_path / f"{name}.pid" for name in "ab"]
        wait_for(lambda: all(file.exists() and file.read_text() for file in pids))
        parent.send_signal(signal.SIGKILL)
    for file in pids:
        wait_for(lambda file=file: gone(int(file.read_text())))
