"""Modules and functions stay small enough to read at a sitting."""

from __future__ import annotations

import ast

from tests.architecture.sources import MODULES, SOURCE, name_of, nodes_of, text_of

MODULE_LINES, FUNCTION_LINES, LAYOUT_LINES = 500, 50, 80
LAYOUT = "napari/widgets"
"""Where a function that lays out a form may be longer."""


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and signature."""
    body = node.body
    documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    first = body[1] if documented and len(body) > 1 else body[0]
    return (node.end_lineno or 0) - first.lineno + 1


def test_modules_stay_small():
    lines = {name_of(path): len(text_of(path).splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}


def test_functions_stay_small():
    long = {}
    for path in MODULES:
        limit = LAYOUT_LINES if name_of(path).startswith(LAYOUT) else FUNCTION_LINES
        for node in nodes_of(path):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and code_lines(node) > limit:
                long[f"{name_of(path)}:{node.lineno} {node.name}"] = code_lines(node)
    assert long == {}


def test_only_the_facade_has_code_in_its_init():
    inits = [p for p in MODULES if p.name == "__init__.py" and p.parent != SOURCE]
    assert [name_of(path) for path in inits if text_of(path).strip()] == []
