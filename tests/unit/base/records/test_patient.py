"""Who is the same patient, who is another, and where nobody can tell."""

import pytest

from lesionlens.base.errors import PatientConflictError
from lesionlens.base.records.patient import (
    IdentityMatch,
    Patient,
    PatientField,
    conflict_among,
    in_words,
    settle,
)

FULL = Patient("P1", "HOSPITAL", "Müller^Anna^Maria", "1970-01-02", "F")


@pytest.mark.parametrize(
    "name",
    [
        "MÜLLER^ANNA^MARIA",
        "Müller^Anna^Maria^^",
        " müller ^ anna ^ maria ",
        "Mu\u0308ller^Anna^Maria",
        "Mueller^Anna^Maria",
        "Muller^Anna^Maria",
        "Müller^Anna^Maria^Dr.",
        "Müller^Anna",
        "Müller",
        "Anna Müller",
        "Anna^Müller^Maria",
        "Muller",
        "Anna Muller",
        "Müller^Anna^Maria=ミュラー^アンナ",
        "",
        "^^^^",
    ],
)
def test_the_same_name_in_other_spelling_is_no_conflict(name):
    other = Patient("P1", "HOSPITAL", name, "1970-01-02", "F")
    assert not FULL.compared(other).conflicts
    assert not other.compared(FULL).conflicts


@pytest.mark.parametrize(
    "name",
    [
        "Müller^Hanna^Maria",
        "Möller^Anna^Maria",
        "Müller^Anna^Luise",
        "Meier",
        "Hanna Müller",
        "Müller^Anna^Maria^^Jr",
    ],
)
def test_another_name_is_a_conflict_whatever_else_agrees(name):
    first = Patient("P1", "HOSPITAL", "Müller^Anna^Maria^^Sr", "1970-01-02", "F")
    other = Patient("P1", "HOSPITAL", name, "1970-01-02", "F")
    assert first.compared(other).conflicts == (PatientField.NAME,)
    assert other.compared(first).conflicts == (PatientField.NAME,)


def test_other_alphabets_keep_their_marks_and_are_compared_each():
    one = Patient("P1", name="Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert not one.compared(Patient("P1", name="YAMADA^TAROU=山田^太郎")).conflicts
    assert in_words(one.compared(Patient("P1", name="=山田^次郎")).conflicts) == "name"
    assert in_words(Patient(name="がく").compared(Patient(name="かく")).conflicts) == "name"


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        (Patient("P2", "HOSPITAL", "Müller^Anna^Maria", "1970-01-02", "F"), "patient ID"),
        (Patient("P1", "PRACTICE", "Müller^Anna^Maria", "1970-01-02", "F"), "issuer"),
        (Patient("P1", "hospital", "Müller^Anna^Maria", "1971-01-02", "F"), "birth date"),
        (Patient("P1", "HOSPITAL", "Müller^Anna^Maria", "1970-01-02", "M"), "sex"),
        (Patient("p1", "HOSPITAL", "Roe^R", "1970-01-02", "O"), "patient ID, name and sex"),
    ],
)
def test_each_attribute_tells_patients_apart(other, fields):
    for compared in (FULL.compared(other), other.compared(FULL)):
        assert compared.agreement is IdentityMatch.CONFLICT
        assert in_words(compared.conflicts).startswith(fields)


@pytest.mark.parametrize(
    ("other", "agreement"),
    [
        (Patient("P1"), IdentityMatch.SAME),
        (Patient(name="Mueller^Anna", birth_date="1970-01-02"), IdentityMatch.SAME),
        (Patient(name="Müller^Anna"), IdentityMatch.UNKNOWN),
        (Patient(birth_date="1970-01-02"), IdentityMatch.UNKNOWN),
        (Patient(name="^^^^", birth_date="1970-01-02"), IdentityMatch.UNKNOWN),
        (Patient(sex="F"), IdentityMatch.UNKNOWN),
        (Patient(), IdentityMatch.UNKNOWN),
    ],
)
def test_what_is_missing_contradicts_nothing_and_proves_nothing(other, agreement):
    assert FULL.compared(other).agreement is agreement
    assert other.compared(FULL).agreement is agreement


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ({"PatientID": " P1\0", "PatientSex": "f "}, Patient("P1", sex="F")),
        ({"PatientBirthDate": "1970.01.02"}, Patient(birth_date="1970-01-02")),
        ({"PatientBirthDate": "00000000", "PatientSex": "?"}, Patient()),
        ({"PatientBirthDate": "19701345"}, Patient()),
        ({"PatientBirthDate": None, "PatientName": "^^"}, Patient(name="^^")),
        ({"PatientID": "P1", "IssuerOfPatientID": " H "}, Patient("P1", "H")),
    ],
)
def test_padding_and_what_is_no_value_say_nothing(raw, read):
    assert Patient.of(raw) == read


def test_an_image_that_does_not_say_whose_it_is_stands_out_among_those_that_do():
    assert conflict_among([FULL, FULL]) == ()
    assert conflict_among([Patient(), Patient()]) == ()
    assert PatientField.ID in conflict_among([FULL, Patient(sex="F")])
    assert conflict_among([FULL, Patient(sex="F")], gaps=False) == ()
    assert conflict_among([FULL, Patient(), Patient("P2")]) == (PatientField.ID,)
    assert conflict_among([FULL, Patient("P1")]) == ()


def test_an_image_without_the_id_or_with_nothing_that_tells_stands_out_too():
    without_id = Patient("", FULL.issuer, FULL.name, FULL.birth_date, FULL.sex)
    assert FULL.compared(without_id).agreement is IdentityMatch.SAME
    assert conflict_among([FULL, without_id]) == (PatientField.ID,)
    assert conflict_among([Patient(name="Roe^Jane"), Patient(birth_date="1970-01-02")]) == (
        PatientField.NAME,
        PatientField.BIRTH_DATE,
    )


def test_a_conflict_is_refused_by_fields_or_confirmed_and_never_shows_a_value():
    fields = FULL.compared(Patient("P9", name="Roe^Jane")).conflicts
    with pytest.raises(PatientConflictError) as caught:
        settle(fields, "two files", confirmed=False)
    assert caught.value.exit_status == 2
    assert caught.value.fields == ("patient ID", "name")
    notice = settle(fields, "two files", confirmed=True)
    assert "Patient ID and name differ in two files" in notice
    assert not any(word in f"{caught.value} {notice}" for word in ("P9", "Roe", "Anna", "1970"))
    assert settle((), "two files", confirmed=False) == ""
