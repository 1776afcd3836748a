"""Advice that names an option or a command of the command line has other words for a window."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "lesionlens"
ROOMS = (
    "base", "reading", "preparation", "network", "inference", "explain", "findings", "review",
    "export", "followup", "pacs", "worklist", "_napari",
)  # fmt: skip
OPTION = re.compile(r"--[a-z]|`lesionlens |how_to_name\(|_CHOOSE\b|command line")
FILES = [path for room in ROOMS for path in sorted((SOURCE / room).rglob("*.py"))]


def calls_with_advice(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            words = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
            if "next_step" in words:
                yield node.lineno, words


def test_there_is_advice_to_check():
    found = [w for path in FILES for _, w in calls_with_advice(path)]
    assert sum(OPTION.search(words["next_step"]) is not None for words in found) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_window_names_no_option(path):
    for line, words in calls_with_advice(path):
        if OPTION.search(words["next_step"]):
            assert "in_window" in words, f"line {line}"
        assert OPTION.search(words.get("in_window", "")) is None, f"line {line}"
