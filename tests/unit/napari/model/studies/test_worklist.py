"""The list of a window, as one reader sees it."""

from __future__ import annotations

import pytest

pytest.importorskip("psygnal")

from lesionlens.napari.model.studies.worklist import WorklistSession
from lesionlens.site.database.records import ReadKey, StudyEntry, StudyState
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.worklist.read_session import ReadSession


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
