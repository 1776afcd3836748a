"""The conformance statement is what the code does."""

import re
from pathlib import Path

from tools import conformance

from lesionlens.results.export.dicom.ko import rejection_of

ROOT = Path(__file__).parents[4]


def test_the_conformance_statement_is_that_of_the_code():
    made = conformance.pages()
    for name, text in made.items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == text


def test_the_statement_names_the_series_that_are_written(make, read_objects):
    text = (ROOT / "docs" / "reference" / "conformance_attributes.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| (97\d\d) \| (.+) \|$", text, re.MULTILINE))
    written = read_objects(make(dicom=True))
    for one in (*written.values(), rejection_of([*written.values()])):
        words = stated[str(one.SeriesNumber)].replace("STATE", "not reviewed")
        assert one.SeriesDescription == words
