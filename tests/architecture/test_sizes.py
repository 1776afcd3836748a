"""Modules and functions stay small enough to read at a sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "lesionlens"
MODULES = sorted(SOURCE.rglob("*.py"))
MODULE_LINES, FUNCTION_LINES, LAYOUT_LINES = 400, 50, 80
LAYOUT = ("_napari/widgets",)
"""Where a function that lays out a form may be longer."""


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and signature."""
    body = node.body
    documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    first = body[1] if documented and len(body) > 1 else body[0]
    return (node.end_lineno or 0) - first.lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_stays_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_stay_small(path):
    limit = LAYOUT_LINES if name_of(path).startswith(LAYOUT) else FUNCTION_LINES
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: code_lines(f) for f in functions if code_lines(f) > limit}
    assert not long


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name_of)
def test_only_the_facade_has_code_in_its_init(path):
    if path.parent == SOURCE:
        return
    assert path.read_text(encoding="utf-8").strip() == ""
