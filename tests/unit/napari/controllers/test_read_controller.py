"""Which marks are taken: in the head, and with a rating where the protocol wants one."""

from __future__ import annotations

import numpy as np
import pytest
from tests.reviewed_head import LEFT, analysis, head  # noqa: F401  fixtures

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.napari.controllers.read_controller import ExpectedRead, ReadController
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.geometry.head import Head, HeadOfStudy
from lesionlens.site.database.records import ReadKey
from lesionlens.site.database.worklist_database import open_worklist_database


@pytest.fixture
def reading(analysis, tmp_path):  # noqa: F811
    session = ReviewSession()
    made = ReadController(session)
    turn = ExpectedRead(
        open_worklist_database(tmp_path), ReadKey("a", "A. Reader"), unaided_first=True, rated=True
    )
    made.expect(turn)
    session.open(analysis.study)
    yield made
    made.release()


def test_a_protocol_that_wants_ratings_takes_no_mark_without_one(reading):
    reading.mark(LEFT)
    assert reading.marks == ()
    assert "rating" in reading.session.state.message
    reading.confidence = 60
    reading.mark(LEFT)
    assert [mark.confidence for mark in reading.marks] == [60]


def test_a_mark_beside_the_head_is_not_taken(reading):
    reading.confidence, reading.in_head = 60, lambda _: False
    reading.mark(LEFT)
    assert reading.marks == ()
    assert "outside of the head" in reading.session.state.message


def test_dark_parts_within_the_head_belong_to_it_and_the_air_does_not():
    data = np.full((60, 60, 20), 3.0, np.float32)  # noise of the air
    data[10:50, 10:50, 2:18] = 100
    data[24:36, 24:36, 4:16] = 0  # as dark as the air
    head_there = Head.of(data, Grid(data.shape, np.diag([4.0, 4.0, 8.0, 1.0])))
    assert head_there.contains((120, 120, 80))
    assert head_there.contains((44, 120, 80))
    assert not head_there.contains((12, 120, 80))
    assert not head_there.contains((120, 120, 500))


def test_where_there_is_no_picture_nothing_is_refused():
    pictures = {}
    found = HeadOfStudy(lambda: pictures)
    assert found.contains((1e3, 0, 0))
    data = np.zeros((20, 20, 20), np.float32)
    data[5:15, 5:15, 5:15] = 1
    pictures[MrSequence.T2] = (data, Grid(data.shape, np.diag([4.0, 4.0, 4.0, 1.0])))
    assert found.contains((40, 40, 40))
    assert not found.contains((1e3, 0, 0))
