"""Requests of which only the latest waiting one is processed."""

import pytest

from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.qt import latest_request
from lesionlens.napari.qt.latest_request import LatestRequest


def test_the_waiting_request_is_processed_after_one_whose_result_cannot_be_shown(qapp, monkeypatch):
    """It stayed, and was processed after the next one, in its place."""
    begun = []

    def start(name, work, task, *_):
        begun.append(task)

    monkeypatch.setattr(latest_request, "start_thread", start)
    requests = LatestRequest(ReviewSession())
    requests.submit("first", "a task", lambda value: value.missing)
    requests.submit("second", "another task", print)
    with pytest.raises(AttributeError):
        requests._on_finished(1, None)
    assert begun == ["a task", "another task"]
    assert requests.running
