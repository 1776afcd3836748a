"""What becomes of studies whose worker, or whose scheduler, was killed (run: bench/scale.py)."""

from pathlib import Path

from lesionlens.cohort import run
from lesionlens.cohort.run import CohortRun
from lesionlens.cohort.studies import StudyJob
from lesionlens.cohort.work import Status

JOB = StudyJob("case", Path("study"), Path("out"))


class Future:
    def __init__(self, status):
        self.status = status


def test_a_worker_that_died_and_a_scheduler_that_went_are_told_apart():
    died = run._unanswered(JOB, Future("error"))
    left = run._unanswered(JOB, Future("cancelled"))
    assert (died.status, died.exit_status) == (Status.FAILED, 1)
    assert (left.status, left.exit_status) == (Status.STOPPED, 1)
    assert "memory" in died.message
    assert "--resume" in left.message
    assert CohortRun((left,), 0).exit_status == 1
