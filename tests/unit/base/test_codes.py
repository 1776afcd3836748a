"""Codes are what DICOM says they are, never typed from memory."""

from __future__ import annotations

import re

import pydicom.sr._concepts_dict as dictionary
from highdicom.sr import templates

from lesionlens.base import codes
from lesionlens.base.labels import Label

OWN = "99LESIONLENS"
TABLES = {name: table for name, table in vars(codes).items() if isinstance(table, dict)}
ALL = {name: code for name, code in vars(codes).items() if isinstance(code, codes.Code)} | {
    f"{name} {key}": code
    for name, table in TABLES.items()
    for key, code in table.items()
    if isinstance(code, codes.Code)
}


def meanings_of(code: codes.Code) -> set[str]:
    rows = [
        row[code.value] for row in dictionary.concepts[code.scheme].values() if code.value in row
    ]
    return {row[0].lower() for row in rows}


IN_NO_CONTEXT_GROUP = {"QUALITATIVE", "ENGLISH"}
"""Named by a template (PS3.16 TID 1500) and by RFC 5646: the dictionary of pydicom lacks them."""
STANDARD = [n for n, code in ALL.items() if code.scheme != OWN and n not in IN_NO_CONTEXT_GROUP]


def test_codes_of_templates_alone_are_those_that_others_write():
    assert codes.ENGLISH.value == "en"
    assert codes.ENGLISH.scheme == templates.DEFAULT_LANGUAGE.scheme_designator
    assert re.fullmatch(r"C\d{7}", codes.QUALITATIVE.value)
    assert codes.QUALITATIVE.scheme == "UMLS"


def test_standard_codes_mean_what_the_standard_says():
    meant = {name: meanings_of(ALL[name]) | {"right and left"} for name in STANDARD}  # so CID 244
    assert len(STANDARD) > 30
    assert {n: m for n, m in meant.items() if ALL[n].meaning.lower() not in m} == {}


def test_codes_of_our_own_fit_dicom_s_limits():
    own = {name: code for name, code in ALL.items() if code.scheme == OWN}
    assert len(own) > 30
    too_long = {n for n, c in own.items() if len(c.value) > 16 or len(c.meaning) > 64}
    assert too_long == set()


def test_every_label_but_background_has_exactly_one_code():
    assert set(codes.LABEL_TYPES) == set(Label) - {Label.BACKGROUND}
    assert len({code.value for code in codes.LABEL_TYPES.values()}) == len(codes.LABEL_TYPES)
