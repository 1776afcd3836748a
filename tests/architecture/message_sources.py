"""Every message that a report can hold, found in the source: checks, steps, notices, evidence.

An expression is followed to its texts: through names, calls, lists, conditions and joins. A text
is a template: `{}` stands for what is only known when it runs. The texts of a placeholder, where
they are prose, are messages of their own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from tests.architecture.sources import MODULES, name_of, nodes_of

from lesionlens.base.labels import RESEARCH_USE_NOTICE

WINGS = ("base/", "imaging/", "engines/", "analysis/", "results/")
ELSEWHERE = ("imaging/deidentification/", "analysis/evaluation/", "engines/testing/")
"""Their messages stand in no report."""
LISTS = {"notices", "remarks", "notice", "problems", "told"}
"""Names of lists, attributes and arguments that hold messages."""
ARGUMENTS = {
    "QualityCheck": {2: "message"},
    "passed_check": {1: "message"},
    "undecided_check": {1: "message"},
    "failed_check": {1: "message"},
    "add_step": {2: "message"},
    "Guess": {1: "evidence"},
    "BrainMask": {2: "method", 3: "doubtful"},
    "stage": {0: "name"},
}
"""Which argument of a record is a message: its position and name."""
KEYWORDS = {"notices", "detected_by", "evidence", "method", "layers"}
REFUSING = (".nifti.header", "base.geometry")
"""Modules whose refusals become the reason why a file was left out."""
REASONS = {"_notices", "_problem", "geometry_problem", "_planes", "_volumes", "_guess", "_stages"}
"""Functions whose texts become messages by way of a record, a counter or a list."""
NAMED = {
    "attention.names",
    "engine.METHODS",
    "from_mask.Meaning",
    "attention.METHOD",
    "attention.REFINED_METHOD",
    "patient._DISPLAY_NAMES",
    "study.StepName",
}
"""Sets and constants, by module, whose texts become messages by way of a record."""
PROPER = {"Apple GPU", "Nelder-Mead", "cpu ({} thread{}{})", RESEARCH_USE_NOTICE}
"""Names of devices and methods, the same in every language, and what has a key of its own."""
KEYWORD = re.compile(r"[A-Z]+[a-z]+[A-Z]\w*")
"""The name of a DICOM attribute."""
DEEPEST = 14


class _Module:
    """One module: the nodes of its tree, with parents, and its names."""

    def __init__(self, name: str, nodes: tuple[ast.AST, ...]) -> None:
        self.name, self.nodes = name, nodes
        self.parents = {c: n for n in self.nodes for c in ast.iter_child_nodes(n)}
        self.names: dict[str, ast.AST | tuple[str, str]] = {}
        for node in ast.iter_child_nodes(nodes[0]):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                self.names[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for one in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(one, ast.Name):
                        self.names[one.id] = node.value
            elif isinstance(node, ast.ImportFrom):
                for one in node.names:
                    self.names[one.asname or one.name] = (node.module or "", one.name)

    def around(self, node: ast.AST, kind: type[ast.AST]) -> ast.AST | None:
        """Return the innermost function or class around a node."""
        found = self.parents.get(node)
        while found is not None and not isinstance(found, kind):
            found = self.parents.get(found)
        return found


@cache
def _modules() -> dict[str, _Module]:
    made = {}
    for path in MODULES:
        dotted = "lesionlens." + name_of(path).removesuffix(".py").replace("/", ".")
        made[dotted] = _Module(dotted, nodes_of(path))
    return made


@cache
def messages() -> dict[str, str]:
    """Return every message's template, and the module and line where it was found."""
    search = _Search()
    for module in _modules().values():
        place = module.name.removeprefix("lesionlens.").replace(".", "/")
        if place.startswith(WINGS) and not place.startswith(ELSEWHERE):
            for node in module.nodes:
                for expression in _sinks(node, module):
                    search.report(module, search.texts(module, expression), node)
    return {t: place for t, place in search.found.items() if t not in PROPER}


def check_names() -> set[str]:
    """Return the names of all quality checks."""
    return {
        str(node.args[0].value)
        for module in _modules().values()
        for node in module.nodes
        if isinstance(node, ast.Call)
        and _called(node) in ("QualityCheck", "passed_check", "undecided_check", "failed_check")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def _is_list(node: ast.AST) -> bool:
    return getattr(node, "id", getattr(node, "attr", "")) in LISTS


def _is_named(module: _Module, name: str) -> bool:
    return f"{module.name.rpartition('.')[2]}.{name}" in NAMED


def _sinks(node: ast.AST, module: _Module) -> Iterator[ast.AST]:
    """Yield the expressions of a node that become messages."""
    if isinstance(node, ast.Call):
        yield from _of_arguments(node, module)
    elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (sink for target in targets for sink in _of_target(target, node.value, module))
    elif isinstance(node, ast.ClassDef) and _is_named(module, node.name):
        yield from (b.value for b in node.body if isinstance(b, ast.Assign))
    elif isinstance(node, ast.FunctionDef) and (node.name in REASONS or _returns_notices(node)):
        yield node


def _of_arguments(node: ast.Call, module: _Module) -> Iterator[ast.AST]:
    for place, name in ARGUMENTS.get(_called(node), {}).items():
        yield from node.args[place : place + 1]
        yield from (k.value for k in node.keywords if k.arg == name)
    keywords = KEYWORDS | ({"found"} if module.name.endswith(REFUSING) else set())
    yield from (k.value for k in node.keywords if k.arg in keywords)
    adds = isinstance(node.func, ast.Attribute) and node.func.attr in ("append", "extend")
    if adds and _is_list(node.func.value):
        yield from node.args


def _of_target(target: ast.expr, value: ast.expr, module: _Module) -> Iterator[ast.AST]:
    if _is_list(target) or _is_named(module, getattr(target, "id", "")):
        yield value
    elif isinstance(target, ast.Subscript) and _is_list(target.value):
        yield target.slice
    elif isinstance(target, ast.Tuple):
        yield from (one for one in target.elts if _is_list(one))


def _returns_notices(node: ast.FunctionDef) -> bool:
    """Return whether a function's docstring says that it returns a notice."""
    first = (ast.get_docstring(node) or "").split("\n\n", 1)[0].lower()
    return "notice" in first.replace(".", "").split()


class _Search:
    """Follows expressions to their texts."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._open: set[ast.AST] = set()
        self._calls: dict[str, list[tuple[_Module, ast.Call]]] = {}
        for module in _modules().values():
            for node in module.nodes:
                if isinstance(node, ast.Call):
                    self._calls.setdefault(_called(node), []).append((module, node))

    def report(self, module: _Module, texts: Iterable[str], node: ast.AST) -> None:
        """Keep the texts that are prose."""
        for text in texts:
            letters = sum(c.isalpha() for c in text.replace("{}", ""))
            if letters > 3 and not KEYWORD.fullmatch(text):
                self.found.setdefault(text, f"{module.name}:{getattr(node, 'lineno', 0)}")

    def texts(self, module: _Module, node: ast.AST | None) -> list[str]:
        """Return the texts that an expression can be."""
        if node is None or node in self._open or len(self._open) > DEEPEST:
            return []
        self._open.add(node)
        try:
            return self._texts(module, node)
        finally:
            self._open.discard(node)

    def _texts(self, module: _Module, node: ast.AST) -> list[str]:
        kinds: dict[type[ast.AST], Callable[[_Module, Any], list[str]]] = {
            ast.JoinedStr: self._of_template,
            ast.BinOp: self._of_sum,
            ast.Name: self._of_name,
            ast.Call: self._of_call,
            ast.FunctionDef: self._of_function,
            ast.Attribute: self._of_attribute,
        }
        if isinstance(node, ast.Constant):
            return [node.value] if isinstance(node.value, str) else []
        if type(node) in kinds:
            return kinds[type(node)](module, node)
        return [t for part in _parts(node) for t in self.texts(module, part)]

    def _of_sum(self, module: _Module, node: ast.BinOp) -> list[str]:
        """Return two texts as one, or the texts of two lists."""
        if isinstance(node.op, ast.Mult):
            return self.texts(module, node.left)
        if not isinstance(node.op, ast.Add):
            return []
        left, right = self.texts(module, node.left), self.texts(module, node.right)
        if left and right and not isinstance(node.left, ast.Tuple | ast.List | ast.ListComp):
            return [one + other for one in left for other in right]
        return left + right

    def _of_function(self, module: _Module, node: ast.FunctionDef) -> list[str]:
        returned = [
            n.value
            for n in ast.walk(node)
            if isinstance(n, ast.Return | ast.Yield | ast.YieldFrom)
            and module.around(n, ast.FunctionDef) is node
        ]
        return [t for value in returned for t in self.texts(module, value)]

    def _of_template(self, module: _Module, node: ast.JoinedStr) -> list[str]:
        made = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                made += str(part.value)
            elif isinstance(part, ast.FormattedValue):
                made += "{}"
                inner = self.texts(module, part.value)
                self.report(module, (t for t in inner if " " in t), part.value)
        return [made]

    def _of_call(self, module: _Module, node: ast.Call) -> list[str]:
        name, owner = _called(node), None
        if isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if name in ("join", "fromkeys"):
                return [t for a in node.args for t in self.texts(module, a)]
            if name in ("get", "rstrip", "removesuffix"):
                return self.texts(module, owner)
        elif name in ("tuple", "list", "sorted", "set", "str", "next"):
            return [t for a in node.args for t in self.texts(module, a)]
        found = self._function(module, node, name, owner)
        return [] if found is None else self.texts(*found)

    def _function(
        self, module: _Module, node: ast.Call, name: str, owner: ast.expr | None
    ) -> tuple[_Module, ast.AST] | None:
        """Return the function that a call calls, if it is in the package."""
        if owner is None:
            return self._global(module, name)
        if not isinstance(owner, ast.Name):
            return None
        if owner.id == "self":
            around = module.around(node, ast.ClassDef)
            body = around.body if isinstance(around, ast.ClassDef) else []
            found = (b for b in body if isinstance(b, ast.FunctionDef) and b.name == name)
            return next(((module, b) for b in found), None)
        imported = module.names.get(owner.id)
        if isinstance(imported, tuple):
            other = _modules().get(".".join(imported))
            return None if other is None else self._global(other, name)
        return None

    def _global(self, module: _Module, name: str) -> tuple[_Module, ast.AST] | None:
        found = module.names.get(name)
        if isinstance(found, tuple):
            other = _modules().get(found[0]) or _modules().get(f"{found[0]}.__init__")
            return None if other is None else self._global(other, found[1])
        return None if found is None or isinstance(found, ast.ClassDef) else (module, found)

    def _of_attribute(self, module: _Module, node: ast.Attribute) -> list[str]:
        """Follow a constant of another module, or a `text` that this module defines."""
        if isinstance(node.value, ast.Name):
            imported = module.names.get(node.value.id)
            other = _modules().get(".".join(imported)) if isinstance(imported, tuple) else None
            if other is not None:
                found = self._global(other, node.attr)
                return [] if found is None else self.texts(*found)
        if node.attr != "text":
            return []
        own = (n for n in module.nodes if isinstance(n, ast.FunctionDef))
        return [t for one in own if one.name == "text" for t in self.texts(module, one)]

    def _of_name(self, module: _Module, node: ast.Name) -> list[str]:
        around = module.around(node, ast.FunctionDef)
        while isinstance(around, ast.FunctionDef):
            bound = [t for v in _bindings(around, node.id) for t in self._bound(module, *v)]
            if bound or any(True for _ in _bindings(around, node.id)):
                return bound
            arguments = [*around.args.args, *around.args.kwonlyargs]
            if node.id in [a.arg for a in arguments]:
                return self._of_argument(module, around, node.id)
            around = module.around(around, ast.FunctionDef)
        found = self._global(module, node.id)
        if found is None or isinstance(found[1], ast.FunctionDef):
            return []
        return self.texts(*found)

    def _bound(self, module: _Module, value: ast.AST, place: int | None) -> list[str]:
        """Return the texts of a value, or of one place of what is unpacked from it."""
        if place is None:
            return self.texts(module, value)
        if isinstance(value, ast.Tuple):
            return self.texts(module, value.elts[place]) if place < len(value.elts) else []
        if isinstance(value, ast.Call):
            owner = value.func.value if isinstance(value.func, ast.Attribute) else None
            found = self._function(module, value, _called(value), owner)
            if found is not None and isinstance(found[1], ast.FunctionDef):
                returned = (n for n in ast.walk(found[1]) if isinstance(n, ast.Return))
                pairs = [n.value for n in returned if isinstance(n.value, ast.Tuple)]
                return [t for one in pairs for t in self._bound(found[0], one, place)]
        return []

    def _of_argument(self, module: _Module, function: ast.FunctionDef, name: str) -> list[str]:
        """Return the texts that callers in the package hand to an argument."""
        places = [a.arg for a in function.args.args]
        shift = 1 if places[:1] == ["self"] else 0
        made: list[str] = []
        for other, call in self._calls.get(function.name, []):
            if other is not module and self._global(other, function.name) is None:
                continue
            made += [t for k in call.keywords if k.arg == name for t in self.texts(other, k.value)]
            place = places.index(name) - shift if name in places else len(call.args)
            if place < len(call.args):
                made += self.texts(other, call.args[place])
        return made


def _parts(node: ast.AST) -> Iterator[ast.AST | None]:
    """Yield the parts of an expression whose texts are its own."""
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.BoolOp | ast.Dict):
        yield from node.values
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        yield from node.elts
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
        yield node.elt
    elif isinstance(
        node, ast.DictComp | ast.Starred | ast.NamedExpr | ast.Subscript | ast.Yield | ast.YieldFrom
    ):
        yield node.value


def _bindings(function: ast.FunctionDef, name: str) -> Iterator[tuple[ast.AST, int | None]]:
    """Yield the values that a name gets in a function, with the place within an unpacked one."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _unpacked(target, name, node.value)
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value:
            yield from _unpacked(node.target, name, node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            for target in ast.walk(node.target):
                if isinstance(target, ast.Name) and target.id == name:
                    yield node.iter, None
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("append", "extend")
            and getattr(node.func.value, "id", "") == name
        ):
            yield from ((one, None) for one in node.args)


def _unpacked(target: ast.AST, name: str, value: ast.AST) -> Iterator[tuple[ast.AST, int | None]]:
    if isinstance(target, ast.Name) and target.id == name:
        yield value, None
    elif isinstance(target, ast.Tuple):
        yield from (
            (value, place)
            for place, one in enumerate(target.elts)
            if isinstance(one, ast.Name) and one.id == name
        )
