"""What a docstring documents and points at is there: it is mended with the code it stands at."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.architecture.sources import MODULES, name_of, nodes_of, text_of

NEXT = re.compile(r"\n(?:Returns|Raises|Notes|Examples|Yields)\n-+")
POINTER = re.compile(
    r"(?<!`)`((?:[a-z_]+\.)+)(?!(?:csv|dcm|jsonl?|safetensors|sqlite|toml)`)(\w+)`(?!`)"
)


@cache
def names_of(path: Path) -> frozenset[str]:
    nodes = nodes_of(path)
    named = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    stored = {n.id for n in nodes if isinstance(n, ast.Name)}
    return frozenset(named | stored | {n.attr for n in nodes if isinstance(n, ast.Attribute)})


def documented(docstring: str) -> set[str]:
    section = NEXT.split(docstring.split("Parameters\n----------\n")[1])[0]
    heads = re.findall(r"^([\w*][\w, *]*?)(?: : .*)?$", section, re.MULTILINE)
    return {name.strip(" *") for head in heads for name in head.split(",")}


def declared(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    if isinstance(node, ast.ClassDef):
        made = [n for n in node.body if getattr(n, "name", "") == "__init__"]
        if not made:
            return {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
        node = made[0]
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {one.arg for one in every if one is not None}


def test_parameters_that_are_documented_exist():
    wrong = []
    for path in MODULES:
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                if "Parameters\n----------\n" in text and declared(node):
                    gone = documented(text) - declared(node)
                    wrong += [f"{name_of(path)}:{node.lineno} {one}" for one in sorted(gone)]
    assert not wrong, "\n".join(wrong)


def test_modules_that_are_pointed_at_hold_what_is_named():
    wrong = []
    for path in MODULES:
        for modules, name in POINTER.findall(text_of(path)):
            place = "/" + modules.rstrip(".").replace(".", "/")
            there = [p for p in MODULES if p.as_posix().endswith(f"{place}.py")]
            within = any(p.as_posix().endswith(f"{place}/{name}.py") for p in MODULES)
            if there and not within and not any(name in names_of(p) for p in there):
                wrong.append(f"{name_of(path)}: {modules}{name}")
    assert not wrong, "\n".join(wrong)
