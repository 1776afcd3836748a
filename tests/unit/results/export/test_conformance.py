"""The conformance statement is what the code does."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_the_conformance_statement_is_that_of_the_code():
    made = runpy.run_path(str(ROOT / "research" / "make_conformance.py"))["pages"]()
    for name, text in made.items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == text
