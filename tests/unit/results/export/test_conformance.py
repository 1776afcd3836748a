"""docs/reference/conformance.md is what the code does."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_the_conformance_statement_is_that_of_the_code():
    made = runpy.run_path(str(ROOT / "research" / "make_conformance.py"))["text"]()
    assert (ROOT / "docs" / "reference" / "conformance.md").read_text(encoding="utf-8") == made
