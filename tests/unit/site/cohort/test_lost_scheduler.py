"""What becomes of studies whose worker, or whose scheduler, was killed."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from lesionlens.base.errors import ResourceError
from lesionlens.base.run_context import SILENT
from lesionlens.site.cohort import cluster
from lesionlens.site.cohort.run import CohortRun
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.database.records import Status, StudyOutcome

JOB = StudyJob("case", Path("study"), Path("out"))


class Future:
    def __init__(self, status):
        self.status = status


def test_a_worker_that_died_and_a_scheduler_that_went_are_distinguished():
    died = cluster._failed_outcome(JOB, Future("error"))
    left = cluster._failed_outcome(JOB, Future("cancelled"))
    assert (died.status, died.exit_status) == (Status.FAILED, 1)
    assert (left.status, left.exit_status) == (Status.STOPPED, 1)
    assert "memory" in died.message
    assert "--resume" in left.message
    assert CohortRun((left,), 0).exit_status == 1


class Remade:
    """A future whose outcome went with its worker, and is there again when asked once more."""

    def __init__(self):
        self.states = iter(("lost", "lost", *["finished"] * 9))
        self.released = False

    def done(self):
        return True

    @property
    def status(self):
        return next(self.states)

    def result(self):
        assert not self.released
        return StudyOutcome("case", Status.ANALYSED, 0, "no candidate region")

    def release(self):
        self.released = True


@pytest.fixture
def remade(monkeypatch):
    """The futures that were submitted."""
    distributed = pytest.importorskip("distributed")
    submitted = []

    stops = []

    class Client:
        def submit(self, *_, **__):
            submitted.append(Remade())
            submitted[-1].stop = stops[0]
            return submitted[-1]

    class Event:
        def __init__(self, name, client):
            self.name, self.is_set = name, False
            stops.append(self)

        def set(self):
            self.is_set = True

    monkeypatch.setattr(distributed, "Event", Event)
    monkeypatch.setattr(cluster, "_client", lambda _: nullcontext(Client()))
    return submitted


def test_an_outcome_that_went_with_its_worker_is_waited_for(remade):
    found = list(cluster.on_cluster([JOB], CohortChoice(), "tcp://here:1", SILENT))
    assert [one.status for one in found] == [Status.ANALYSED]


def test_an_outcome_that_was_received_is_released(remade):
    """Dask analysed the study again when the worker that had analysed it died."""
    outcomes = cluster.on_cluster([JOB, JOB], CohortChoice(), "tcp://here:1", SILENT)
    next(outcomes)
    assert [future.released for future in remade] == [True, False]
    outcomes.close()


def test_a_scheduler_that_is_gone_is_named_and_the_way_on(monkeypatch):
    comm = pytest.importorskip("distributed.comm")

    def gone(_):
        raise comm.CommClosedError("in <TCP>: Stream is closed")

    monkeypatch.setattr(cluster, "_client", gone)
    with pytest.raises(ResourceError, match="--resume"):
        list(cluster.on_cluster([JOB], CohortChoice(), "tcp://here:1", SILENT))
