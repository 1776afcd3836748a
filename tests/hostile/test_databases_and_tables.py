"""Damaged databases and tables, and those beyond all bounds: refused by name, and left there."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lesionlens.analysis.evaluation.bounds import group_cases
from lesionlens.analysis.evaluation.cases import PATIENTS_NAME, patients_table
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base import files, sqlite
from lesionlens.base.errors import LesionLensError
from lesionlens.base.files import JSON_BYTES
from lesionlens.site.cohort.study_table import read_table
from lesionlens.site.database import worklist_database
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.worklist.sources import studies_at


def _grouped(place: Path) -> None:
    group_cases([CaseScore("a", healthy=False)], "scanner", place.parent, place.parent)


TABLES = {
    "list": (
        "list.csv",
        "study\n.\n",
        lambda place: studies_at(place, place.parent.parent / "out"),
    ),
    "patients": (PATIENTS_NAME, "case\tpatient\na\tA\n", lambda p: patients_table(p.parent)),
    "groups": ("cases.csv", "case,scanner\na,A\n", _grouped),
}
HOSTILE = {
    "large": lambda whole: whole + b"\n" * (JSON_BYTES + 1),
    "not UTF-8": lambda whole: whole + b"\xe9\n",
    "many rows": lambda whole: whole + whole.splitlines(keepends=True)[-1] * 20,
    "one endless field": lambda whole: whole + b'"' + b"a" * 200_000,
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_table_is_refused_by_name(tmp_path, monkeypatch, name, kind):
    file, text, read = TABLES[name]
    place = tmp_path / file
    place.write_text(text)
    read(place)
    monkeypatch.setattr(files, "MAX_ROWS", 10)
    content = HOSTILE[kind](text.encode())
    place.write_bytes(content)
    with pytest.raises(LesionLensError, match=file):
        read(place)
    assert place.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("study,patient,patient\ns,A,B\n", "two columns 'patient'"),
        ("study,Study\ns,t\n", "two columns 'study'"),
        ("study,name\nDoe, Jane/1,one\n", "more cells in line 2"),
        ("study,name\ns\0,one\n", "a NUL character"),
        (
            "study,date\ns,2024-02-28\nt,2024-02-31\n",
            "no such day as '2024-02-31', the date of 't'",
        ),
        ("study,date\ns,20241301\n", "no such day as '20241301', the date of 's'"),
    ],
)
def test_cells_that_could_be_of_several_columns_are_refused(tmp_path, text, why):
    place = tmp_path / "list.csv"
    place.write_text(text)
    with pytest.raises(LesionLensError, match=why):
        read_table(place)


def test_headings_and_line_ends_are_read_as_they_are_meant(tmp_path):
    place = tmp_path / "list.csv"
    place.write_text(
        "Study, Name,patient ,,\r\ns,a\u2028b,A,,\r\nt,c\x0cd,B,,\r\n", "utf-8", newline=""
    )
    found = [(row.name, Path(row.place).name, row.patient) for row in read_table(place)]
    assert found == [("a_b", "s", "A"), ("c_d", "t", "B")]


def _worklist(folder: Path) -> object:
    with closing(worklist_database.open_worklist_database(folder)) as one:
        return one.entries(), one.reads(), one.read_note("order"), one.version


def _batch(folder: Path) -> object:
    with closing(worklist_database.open_worklist_database(folder, readers=False)) as one:
        return one.outcome("a")


def _make_worklist(folder: Path) -> None:
    with closing(worklist_database.open_worklist_database(folder)) as one:
        one.add_studies([StudyEntry(f"s{n}", "/a") for n in range(400)])
        one.write_note("order", [1])


DATABASES = {
    "worklist": (
        worklist_database.NAME, _make_worklist, _worklist, "UPDATE notes SET value = 'NaN'"),
    "batch": (
        worklist_database.NAME, _batch, _batch,
        "INSERT INTO outcomes VALUES ('a', '', 'unheard of', 0, '', 0, 0, '', 0, '')",
    ),
}  # fmt: skip


def _rewritten(place: Path, change: str) -> None:
    with closing(sqlite3.connect(place)) as connection:
        connection.execute(change)
        connection.commit()


DAMAGE = {
    "no database": lambda place, _: place.write_bytes(b"no database" * 200),
    "cut short": lambda place, _: os.truncate(place, place.stat().st_size // 2),
    "pages of noise": lambda place, _: _noise(place),
    "another value": _rewritten,
    "another program's": lambda place, _: (place.unlink(), _rewritten(place, "CREATE TABLE t (a)")),
    "a pipe": lambda place, _: (place.unlink(), os.mkfifo(place)),
    "a folder": lambda place, _: (place.unlink(), place.mkdir()),
}


def _noise(place: Path) -> None:
    content = bytearray(place.read_bytes())
    content[4096:] = bytes(range(256)) * ((len(content) - 4096) // 256)
    place.write_bytes(content)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", DATABASES)
def test_a_damaged_database_is_refused_in_words(tmp_path, name, kind):
    file, make, read, change = DATABASES[name]
    make(tmp_path)
    read(tmp_path)
    DAMAGE[kind](tmp_path / file, change)
    with pytest.raises(LesionLensError) as refusal:
        read(tmp_path)
    assert file in refusal.value.found
    assert (tmp_path / file).exists()


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_beyond_all_bounds_is_refused(tmp_path, monkeypatch, name):
    _, make, read, _ = DATABASES[name]
    make(tmp_path)
    monkeypatch.setattr(sqlite, "MAX_BYTES", 1000)
    with pytest.raises(LesionLensError, match=r"sqlite|lock"):
        read(tmp_path)


def test_no_name_of_a_table_hides_its_result(tmp_path):
    """Other commands look for results in no hidden folder: they found none."""
    place = tmp_path / "studies.csv"
    place.write_text("study,name\na,.a\nb,../b\n", "utf-8")
    assert [row.name for row in read_table(place)] == ["_.a", "_.._b"]
