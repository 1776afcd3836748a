"""A list is extended and corrected by the source that it came from."""

from __future__ import annotations

from contextlib import closing

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.site.database.add_studies import extend
from lesionlens.site.database.descriptions import describe_studies
from lesionlens.site.database.worklist_database import open_worklist_database
from lesionlens.site.worklist.sources import studies_at


@pytest.fixture
def database(tmp_path):
    with closing(open_worklist_database(tmp_path / "list")) as opened:
        yield opened


def scanned(database, source):
    new = extend(database, studies_at(source, database.folder))
    describe_studies(database)
    return new, database.entries()


def test_a_corrected_table_corrects_the_list(database, tmp_path, make_study):
    """The rows kept the first table's patient, without a word."""
    place = make_study(name="one", sequences={"t1c"})
    table = tmp_path / "studies.csv"
    table.write_text(f"study,patient,date\n{place},P1,2026-01-05\n")
    assert scanned(database, table)[0] == 1
    table.write_text(f"study,patient,date\n{place},P2,2026-02-05\n")
    new, (entry,) = scanned(database, table)
    assert (new, entry.patient, entry.date, entry.sequences) == (0, "P2", "2026-02-05", ("t1c",))
    table.write_text(f"study\n{place}\n")
    _, (entry,) = scanned(database, table)
    assert (entry.patient, entry.date) == ("P2", "2026-02-05"), "a table without them names none"


def test_a_corrected_table_is_held_against_the_images(database, tmp_path, make_study):
    place, table = make_study(name="one", sequences={"t1c"}, dicom=True), tmp_path / "studies.csv"
    table.write_text(f"study,patient\n{place},WRONG\n")
    _, (wrong,) = scanned(database, table)
    assert any("in the list is not that of the images" in one for one in wrong.warnings)
    plain = tmp_path / "plain.csv"
    with closing(open_worklist_database(tmp_path / "other")) as other:
        plain.write_text(f"study\n{place}\n")
        _, (right,) = scanned(other, plain)
    table.write_text(f"study,patient\n{place},{right.patient}\n")
    _, (now,) = scanned(database, table)
    assert now.patient == right.patient
    assert not any("in the list is not that of the images" in one for one in now.warnings)


def test_another_study_of_a_listed_name_is_refused_by_name(database, tmp_path, make_study):
    """It was left out, and the list said that nothing was new."""
    first = make_study(name="site1/case", sequences={"t1c"})
    make_study(name="site2/case", sequences={"t1c"})
    make_study(name="site2/new", sequences={"t1c"})
    scanned(database, first.parent)
    with pytest.raises(UnusableInputError, match="'case', which the list has from another folder"):
        scanned(database, tmp_path / "site2")
    assert [entry.place for entry in database.entries()] == [str(first)]


@pytest.mark.parametrize("names", [("Case", "case"), ("M\u00fcller", "Mu\u0308ller")])
def test_a_name_that_some_disks_do_not_distinguish_is_another_study_s(
    database, tmp_path, make_study, names
):
    """Two scans gave two rows, whose results had one folder on Windows and macOS."""
    first = make_study(name=f"site1/{names[0]}", sequences={"t1c"})
    make_study(name=f"site2/{names[1]}", sequences={"t1c"})
    scanned(database, first.parent)
    with pytest.raises(UnusableInputError, match="which the list has from another folder"):
        scanned(database, tmp_path / "site2")
    assert [entry.place for entry in database.entries()] == [str(first)]
    assert scanned(database, first.parent)[0] == 0


def test_studies_that_were_moved_are_found_where_they_are(database, tmp_path, make_study):
    first = make_study(name="site1/case", sequences={"t1c"})
    scanned(database, first.parent)
    first.parent.rename(tmp_path / "moved")
    new, (entry,) = scanned(database, tmp_path / "moved")
    assert (new, entry.place, entry.sequences) == (0, str(tmp_path / "moved" / "case"), ("t1c",))
