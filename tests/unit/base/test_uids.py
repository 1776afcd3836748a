"""One rule says what a UID is, wherever it becomes part of an address, a path or a file."""

from __future__ import annotations

import pytest

from lesionlens.base.uids import is_uid
from lesionlens.site.pacs.peer import StudyQuery


def test_a_uid_that_a_scanner_writes_with_leading_zeros_can_be_asked_for():
    """Such studies were missing in a search of the archive, without a word."""
    assert is_uid("1.2.840.113619.2.01.007")
    assert StudyQuery(study_uid="1.2.840.113619.2.01.007").study_uid


@pytest.mark.parametrize("text", ["12345678", "1.2.Doe", "1.2\n", "1..2", ".1", "1.٢", "1." * 40])
def test_a_text_that_could_hold_something_else_is_none(text):
    """A number alone may be that of a patient."""
    assert not is_uid(text)
