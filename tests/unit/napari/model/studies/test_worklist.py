"""The list of a window, as one reader sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("psygnal")

from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.napari.model.studies.worklist import WorklistSession
from lesionlens.site.database.records import ReadKey, StudyEntry, StudyState
from lesionlens.site.database.worklist_database import (
    WorklistDatabase,
    open_worklist_database,
)
from lesionlens.site.worklist.protocol import FILE
from lesionlens.site.worklist.read_session import ReadSession

A_B_C = ("a", 0), ("b", 0), ("c", 0)


@pytest.fixture
def folder(tmp_path):
    """A list of three studies, of which the first has a result."""
    return make_list(tmp_path / "list")


def make_list(folder):
    folder.mkdir()
    database = open_worklist_database(folder)
    database.add_studies([StudyEntry(name, f"/{name}") for name in "abc"])
    database.update(replace(database.entry("a"), candidates=1))
    database.close()
    return folder


@pytest.fixture
def session():
    made = WorklistSession()
    yield made
    made.close()


def test_the_open_study_is_the_place_in_the_list_from_which_the_reader_goes_on(session, folder):
    session.open(folder, "A. Reader", unaided_first=False)
    assert [row.key for row in session.state.rows] == list(A_B_C)
    assert (session.neighbour(1).key, session.neighbour(-1).key) == (("a", 0), ("c", 0))
    second = session.row(("b", 0))
    session.set_opening_row(second)
    assert (session.state.focus, session.state.current) == (("b", 0), None)
    session.set_opening_row(None)
    assert session.state.focus is None
    session.set_open_row(second)
    assert session.state.focus == session.state.last_opened == ("b", 0)
    assert (session.neighbour(1).key, session.neighbour(-1).key) == (("c", 0), ("a", 0))
    assert session.neighbour(1, ("c", 0)) is None
    assert session.neighbour(-1, ("a", 0)) is None
    session.set_open_row(None)
    assert session.state.current is None
    assert session.neighbour(1).key == ("b", 0), "the one that was opened last"


def test_each_reader_goes_on_from_their_own_place(session, folder):
    session.open(folder, "A. Reader", unaided_first=False)
    session.set_open_row(session.row(("b", 0)))
    session.set_open_row(None)
    session.read_as("B. Reader", unaided_first=False)
    assert (session.state.last_opened, session.neighbour(1).key) == (None, ("a", 0))
    session.set_open_row(session.row(("c", 0)))
    for reader, key in (("A. Reader", ("b", 0)), ("B. Reader", ("c", 0)), ("", None)):
        again = WorklistSession()
        again.open(folder, reader, unaided_first=False)
        assert (again.state.last_opened, again.state.current) == (key, None)
        again.close()


def test_a_list_that_is_opened_again_keeps_its_place_and_another_one_has_none(
    session, folder, tmp_path
):
    session.open(folder, "A. Reader", unaided_first=False)
    session.set_open_row(session.row(("b", 0)))
    database = session.database
    session.open(folder, "A. Reader", unaided_first=False)
    assert session.database is database
    assert session.state.current == ("b", 0)
    session.open(make_list(tmp_path / "other"), "A. Reader", unaided_first=False)
    assert session.database is not database
    assert (session.state.current, session.state.last_opened) == (None, None)
    session.on_leave = lambda: True  # the window closes it later
    kept = session.database
    session.close()
    assert len(kept.entries()) == 3
    kept.close()


def test_a_list_that_this_reader_cannot_open_leaves_the_open_one_as_it_is(
    session, folder, tmp_path
):
    refused = make_list(tmp_path / "refused")
    (refused / FILE).write_text("title = 'x'\nseed = 1\nreaders = ['B']")
    session.open(folder, "A. Reader", unaided_first=False)
    before = session.state
    with pytest.raises(ReadError, match="not of 'A"):
        session.open(refused, "A. Reader", unaided_first=False)
    assert session.state is before
    assert [entry.name for entry in session.database.entries()] == list("abc")
    (folder / FILE).write_text("title = 'x'\nseed = 1\nreaders = ['B']")
    with pytest.raises(ReadError, match="not of 'A"):
        session.open(folder, "A. Reader", unaided_first=False)
    assert [entry.name for entry in session.database.entries()] == list("abc")


def test_a_study_is_not_begun_in_a_list_that_has_vanished(session, folder):
    session.open(folder, "A. Reader", unaided_first=False)
    row = session.row(("a", 0))
    session.check(row)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(ResourceError):
        session.check(row)


def test_who_names_themselves_to_sign_sees_the_row_as_signed_by_them(tmp_path):
    """The list was opened for nobody, and showed the signature as another reader's."""
    database = open_worklist_database(tmp_path)
    database.add_studies([StudyEntry("a", str(tmp_path), sequences=("t1c",))])
    session = WorklistSession()
    session.open(tmp_path, "", unaided_first=False)
    read = ReadSession(database, ReadKey("a", "A. Reader"), unaided_first=False)
    read.sign("nothing seen")
    session.refresh()
    assert session.state.rows[0].state is not StudyState.SIGNED
    session.name_reader("A. Reader")
    (row,) = session.state.rows
    assert row.state is StudyState.SIGNED
    assert row.other_states == ()
    session.name_reader("B. Reader")  # the first name stays
    assert session.reader == "A. Reader"
    session.close()
    database.close()


def test_another_name_in_the_preferences_reads_on_under_that_name(tmp_path):
    """Decisions of the second reader went into the log of the first."""
    database = open_worklist_database(tmp_path)
    database.add_studies([StudyEntry("a", str(tmp_path), sequences=("t1c",))])
    session = WorklistSession()
    session.open(tmp_path, "A. Reader", unaided_first=False)
    session.read_as("", unaided_first=False)
    assert session.key_of(session.state.rows[0]).reader == "A. Reader"
    session.read_as("B. Reader", unaided_first=True)
    assert session.key_of(session.state.rows[0]).reader == "B. Reader"
    assert session.unaided_first
    session.close()
    database.close()


def test_a_position_that_a_full_disk_refused_is_stored_when_the_list_changes(
    session, folder, monkeypatch
):
    """The list was said not to be writable, long after decisions had been stored in it."""

    def full(*_):
        raise ResourceError(found="a full disk", expected="space", next_step="Free some")

    session.open(folder, "A. Reader", unaided_first=False)
    with monkeypatch.context() as patched:
        patched.setattr(WorklistDatabase, "write_note", full)
        session.set_open_row(session.row(("b", 0)))
        session.database.add_studies([StudyEntry("d", "/d")])
        session.refresh()
        assert "a full disk" in session.state.unwritable
    tried = []

    def full_at_commit(database, name, value):
        tried.append(name)
        database._connection.execute("INSERT INTO notes VALUES ('x', '')")  # counts as a change
        database._connection.rollback()
        full()

    with monkeypatch.context() as patched:
        patched.setattr(WorklistDatabase, "write_note", full_at_commit)
        session.database.add_studies([StudyEntry("f", "/f")])
        session.refresh()
        session.refresh()
        assert tried == ["place A. Reader"], "its own failure was taken for a change of the list"
    session.database.add_studies([StudyEntry("e", "/e")])
    session.refresh()
    assert session.state.unwritable == ""
    assert session.database.read_note("place A. Reader") == ["b", 0]
