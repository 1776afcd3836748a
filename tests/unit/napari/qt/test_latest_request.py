"""Requests of which only the latest waiting one of a kind is processed."""

import pytest

from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.qt import latest_request
from lesionlens.napari.qt.latest_request import LatestRequest, RequestKey


@pytest.fixture
def begun(monkeypatch):
    """The tasks that were begun, in place of the threads that would process them."""
    tasks = []

    def start(name, work, task, *_):
        tasks.append(task)

    monkeypatch.setattr(latest_request, "start_thread", start)
    return tasks


def test_the_waiting_request_is_processed_after_one_whose_result_cannot_be_shown(qapp, begun):
    """It stayed, and was processed after the next one, in its place."""
    requests = LatestRequest(ReviewSession())
    requests.submit(RequestKey("first"), "a task", lambda value: value.missing)
    requests.submit(RequestKey("second"), "another task", print)
    with pytest.raises(AttributeError):
        requests._on_finished(1, None)
    assert begun == ["a task", "another task"]
    assert requests.running


def test_a_waiting_request_is_replaced_by_a_later_one_of_its_kind_only(qapp, begun):
    """A list of a server's models displaced the map that was chosen before it."""
    answers = []
    requests = LatestRequest(ReviewSession())
    for kind, subject in (("units", 0), ("layer", 1), ("models", 2), ("layer", 3), ("units", 0)):
        requests.submit(RequestKey(kind, subject), (kind, subject), answers.append)
    while requests.running:
        requests._on_finished(begun[-1], None)
    assert begun == answers == [("units", 0), ("models", 2), ("layer", 3)]


def test_a_request_that_is_made_again_at_an_answer_is_processed_once(qapp, begun):
    requests = LatestRequest(ReviewSession())

    def submit_second(_=None):
        requests.submit(RequestKey("layer", 2), "second", lambda _: None)

    requests.submit(RequestKey("layer", 1), "first", submit_second)
    submit_second()
    while requests.running:
        requests._on_finished(None, None)
    assert begun == ["first", "second"]
