"""Keys, shifts of dates and the map from which a pseudonym is traced back."""

from __future__ import annotations

import csv
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lesionlens.base.errors import UnusableInputError
from lesionlens.imaging.deidentification.clean import identifying_words, shifted_date
from lesionlens.imaging.deidentification.pseudonyms import (
    Pseudonyms,
    create_or_check_map,
    read_or_create_key,
)

KEY = b"k" * 32


@given(st.text(min_size=1, max_size=12), st.dates(date(1950, 1, 1), date(2030, 12, 31)))
def test_dates_go_back_by_one_to_3650_days(patient, day):
    days = Pseudonyms(KEY).date_shift_days(patient)
    assert 1 <= days <= 3650
    assert shifted_date(f"{day:%Y%m%d}", days) == f"{day - timedelta(days):%Y%m%d}"


def test_the_map_traces_back_each_patient_and_each_date(tmp_path):
    names, path = Pseudonyms(KEY), tmp_path / "map.csv"
    shifts = {patient: names.date_shift_days(patient) for patient in ("P1", "P2", "P3")}
    pseudonyms = {patient: names.patient(patient) for patient in shifts}
    assert len({*shifts.values()}) == len({*pseudonyms.values()}) == 3
    names.write_map(path)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    found = {(row["kind"], row["original"]): row["replacement"] for row in rows}
    for patient, days in shifts.items():
        assert found["patient", patient] == pseudonyms[patient]
        acquired = date(2026, 1, 5)
        shown = shifted_date("20260105", days)
        back = timedelta(int(found["days", patient]))  # as the map states it: what was added
        assert f"{acquired + back:%Y%m%d}" == shown


@pytest.mark.parametrize("others", [(), ("P8",)])
def test_a_map_that_was_cut_in_any_row_is_completed_by_the_next_run(tmp_path, others):
    """A cut replacement stood beside the whole one, as a second pseudonym of the same patient."""
    names, path = Pseudonyms(KEY), tmp_path / "map.csv"
    for patient in ("P1", "P2"):
        names.date_shift_days(patient)
    names.write_map(path)
    whole = path.read_text()
    again = Pseudonyms(KEY)
    for patient in (*others, "P1", "P2"):
        again.date_shift_days(patient)
    for cut in range(whole.index("\n"), len(whole) + 1):
        path.write_text(whole[:cut])
        again.write_map(path)
        rows = list(csv.reader(path.read_text().splitlines()))
        assert rows[0] == ["kind", "original", "replacement"]
        assert sorted(row[1] for row in rows[1:]) == sorted(["P1", "P2", *others])


def test_a_last_row_without_a_line_end_is_kept(tmp_path):
    """A text editor may save a map so."""
    path = tmp_path / "map.csv"
    path.write_text("kind,original,replacement\ndays,P1,-12")
    Pseudonyms(KEY).write_map(path)
    assert path.read_text().endswith("\ndays,P1,-12")
    other = Pseudonyms(KEY)
    other.date_shift_days("P2")
    other.write_map(path)
    assert path.read_text().splitlines()[1] == "days,P1,-12"


def test_what_is_no_uid_has_no_replacement():
    assert Pseudonyms(KEY).uid("") == ""


@pytest.mark.parametrize("digits", [30, 32])
def test_a_key_has_at_least_32_digits(tmp_path, digits):
    (tmp_path / "key").write_text("a" * digits)
    if digits < 32:
        with pytest.raises(UnusableInputError, match="at least 32 hexadecimal digits"):
            read_or_create_key(tmp_path / "key")
    else:
        assert read_or_create_key(tmp_path / "key") == b"\xaa" * 16


def test_a_sound_table_of_somebody_else_is_refused_and_stays(tmp_path):
    path = tmp_path / "budget.csv"
    path.write_text("item,cost,paid\nrent,100,yes\n")
    names = Pseudonyms(KEY)
    names.uid("1.2.3")
    for act in (create_or_check_map, names.write_map):
        with pytest.raises(UnusableInputError, match="not a table of pseudonyms"):
            act(path)
    assert path.read_text() == "item,cost,paid\nrent,100,yes\n"


def test_words_of_names_and_of_every_identifier_identify():
    image = Dataset()
    image.PatientName, image.PatientID = "Musterfrau^Erika", "ABCD1234"
    image.AccessionNumber, image.OtherPatientIDs = "ACC98765", ["OTHER111", "OTHER222"]
    image.PatientAddress, image.SeriesDescription = "Hauptgasse 5", "axial head"
    expected = "musterfrau erika abcd1234 acc98765 other111 other222 hauptgasse"
    assert identifying_words(image) == frozenset(expected.split())
