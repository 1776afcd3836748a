"""Codes are what DICOM says they are, never typed from memory."""

from __future__ import annotations

import re

import pydicom.sr._concepts_dict as dictionary
import pytest
from highdicom.sr import templates

from lesionlens.base import codes
from lesionlens.base.labels import Label

OWN = "99LESIONLENS"
NAMED = {name: code for name, code in vars(codes).items() if isinstance(code, codes.Code)}
ALL = NAMED | {f"label {label.value}": code for label, code in codes.LABEL_TYPES.items()}


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


@pytest.mark.parametrize("name", STANDARD)
def test_a_standard_code_means_what_the_standard_says(name):
    reported = meanings_of(ALL[name])
    assert any(ALL[name].meaning.lower() in meaning for meaning in reported), reported


@pytest.mark.parametrize("name", [n for n, code in ALL.items() if code.scheme == OWN])
def test_a_code_of_our_own_fits_dicom_s_limits(name):
    assert len(ALL[name].value) <= 16
    assert len(ALL[name].meaning) <= 64


def test_every_label_but_background_has_exactly_one_code():
    assert set(codes.LABEL_TYPES) == set(Label) - {Label.BACKGROUND}
    assert len({code.value for code in codes.LABEL_TYPES.values()}) == len(codes.LABEL_TYPES)
