"""Every script in research/ still finds what it names: it runs rarely, so renames pass it by."""

from __future__ import annotations

import ast
import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPTS = {
    ".".join(file.relative_to(REPOSITORY).with_suffix("").parts): file
    for file in sorted((REPOSITORY / "research").rglob("*.py"))
    if file.name != "__init__.py"
}


@pytest.fixture(scope="module")
def failures():
    """What kept a script from being imported, and the module that it lacks."""
    found, loaded = {}, {*sys.modules}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, file in SCRIPTS.items():
            try:
                assert Path(importlib.import_module(name).__file__) == file
            except Exception as failed:  # noqa: BLE001
                lacks = failed.name if isinstance(failed, ModuleNotFoundError) else None
                found[name] = f"{type(failed).__name__}: {failed}", lacks
    for name in SCRIPTS.keys() & {*sys.modules} - loaded:
        del sys.modules[name]
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_imported(name, failures):
    words, lacks = failures.get(name, ("", None))
    if lacks and lacks.split(".")[0] not in {"lesionlens", "research", "tests"}:
        pytest.skip(f"{lacks} is not installed")
    assert not words


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_what_a_script_takes_from_the_package_is_there(script):
    """Also inside functions, and in programs that it starts, which no import of it reaches."""
    missing = [name for tree in programs(script.read_text()) for name in missing_in(tree)]
    assert not missing


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_that_can_be_run_reads_its_command_line(script):
    """So that --help prints what it does, and does not do it."""
    text = script.read_text()
    assert "__main__" not in text or ".parse_args(" in text or "typer.run(" in text


def test_a_name_that_is_gone_is_found():
    text = (
        "from lesionlens.network.synth import tumour\n"
        "def late():\n    from lesionlens.base.grid import Gird\n    return tumour.plan_leisons\n"
        "patch.object(tumour, 'misure', None)\n"
        "CHILD = 'from lesionlens.base import lables'\n"
    )
    assert [name for tree in programs(text) for name in missing_in(tree)] == [
        "lesionlens.base.grid.Gird",
        "tumour.misure",
        "tumour.plan_leisons",
        "lesionlens.base.lables",
    ]


def programs(text: str) -> Iterator[ast.Module]:
    """Yield a script's tree and those of the programs that its strings hold."""
    tree = ast.parse(text)
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and "from lesionlens" in str(node.value):
            try:
                yield ast.parse(str(node.value))
            except SyntaxError:
                continue  # prose, or a part of a program


def missing_in(tree: ast.Module) -> list[str]:
    """Return the names of the package that a program asks for and that are not there."""
    missing, modules = [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lesionlens"):
            for alias in node.names:
                found = taken(node.module or "", alias.name)
                if found is None:
                    missing.append(f"{node.module}.{alias.name}")
                elif isinstance(found, ModuleType):
                    modules[alias.asname or alias.name] = found
    for owner, name in (used for node in ast.walk(tree) for used in uses_of(node)):
        of = modules.get(owner)
        if of is not None and taken(of.__name__, name) is None:
            missing.append(f"{owner}.{name}")
    return missing


def uses_of(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what a node takes: `owner.name`, or `"name"` of `patch.object(owner, "name")`."""
    match node:
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            yield owner, name
        case ast.Call(
            func=ast.Attribute(attr="object"), args=[ast.Name(id=owner), ast.Constant(name), *_]
        ):
            yield owner, str(name)


def taken(module: str, name: str) -> object | None:
    """Return what `from module import name` would give, or None."""
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        pass
    try:
        return importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return None
