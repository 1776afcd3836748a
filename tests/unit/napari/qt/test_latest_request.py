"""Requests of which only the latest waiting one is processed."""

from functools import partial
from types import SimpleNamespace

import pytest

from lesionlens.napari.controllers.network_requests import NetworkRequests
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


def test_a_slow_request_says_that_it_waits_until_it_is_answered(qtbot, monkeypatch):
    """A probe on a server that had stopped was silent for a minute."""
    monkeypatch.setattr(latest_request, "start_thread", lambda *_: None)
    monkeypatch.setattr(latest_request, "_SLOW_MS", 1)
    acts = SimpleNamespace(session=ReviewSession())
    show_wait = partial(NetworkRequests._show_wait, acts)
    requests = LatestRequest(acts.session)
    requests.submit("first", "a task", print, on_slow=show_wait)
    qtbot.waitUntil(lambda: "Waiting for the network" in acts.session.state.message)
    requests._on_finished(1, None)
    assert acts.session.state.message == ""
    acts.session.notify("Saved.")
    requests.submit("second", "a task", print, on_slow=show_wait)
    qtbot.wait(50)
    requests._on_finished(1, None)
    assert acts.session.state.message == "Saved."
