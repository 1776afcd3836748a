"""The package's modules, each parsed once for all tests of this folder."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.helpers.file_search import files_below

SOURCE = Path(__file__).resolve().parents[2] / "src" / "lesionlens"
MODULES = files_below(SOURCE, "*.py")


def name_of(path: Path) -> str:
    """Return a module's path below the package."""
    return path.relative_to(SOURCE).as_posix()


@cache
def text_of(path: Path) -> str:
    """Return a module's text."""
    return path.read_text(encoding="utf-8")


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return every node of a module's tree."""
    return tuple(ast.walk(ast.parse(text_of(path))))
