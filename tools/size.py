"""Print how large the project is, and fail where it exceeds `[tool.lesionlens.size]`.

Counts every text file under the folders below, blank lines and docstrings too. The limits in
`pyproject.toml` only go down: `--lower` writes today's figures there.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".j2", ".toml", ".json", ".yaml", ".tsv"}
PLACES = ("src", "tests", "training", "examples", "tools")
LONG, TOO_LONG = 800, 1_200
"""Lines of a module from which a warning is printed; and which none may have."""


def files(place: Path) -> Iterator[Path]:
    """Yield the text files of a folder; a link counts where its target lies."""
    for path in sorted(place.rglob("*")):
        if path.suffix in SUFFIXES and path.is_file() and not path.is_symlink():
            yield path


def lines(paths: Iterable[Path]) -> int:
    """Return the number of lines of files."""
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def code_lines(path: Path) -> int:
    """Return the lines of a module without blank lines, comments and docstrings."""
    source = path.read_text("utf-8")
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    rows = enumerate(source.splitlines(), 1)
    return sum(n not in prose and bool(row.strip()) and row.strip()[0] != "#" for n, row in rows)


def words() -> int:
    """Return the number of words of the pages."""
    pages = [*(TOP / "docs").rglob("*.md"), *TOP.glob("*.md")]
    return sum(len(page.read_text("utf-8").split()) for page in pages)


def measured() -> dict[str, int]:
    """Return the figures that are limited, and print all of them."""
    package = TOP / "src" / "lesionlens"
    modules = sorted(package.rglob("*.py"))
    print(f"{'package':<14}{'lines':>9}{'code':>9}{'modules':>9}")
    for wing in sorted({path.relative_to(package).parts[0] for path in modules}):
        inside = [path for path in modules if path.relative_to(package).parts[0] == wing]
        code = sum(map(code_lines, inside))
        print(f"{wing:<14}{lines(inside):>9,}{code:>9,}{len(inside):>9,}")
    figures = {place: lines(files(TOP / place)) for place in PLACES if (TOP / place).is_dir()}
    figures |= {"code": sum(map(code_lines, modules)), "modules": len(modules), "words": words()}
    print(*(f"{name}: {figure:,}" for name, figure in figures.items()), sep="\n")
    return figures


def long_modules() -> list[Path]:
    """Return the modules that are too long; those that are long are printed."""
    found = []
    for place in PLACES:
        for path in (TOP / place).rglob("*.py") if place != "tests" else ():
            count = lines([path])
            if count > LONG:
                print(f"{path.relative_to(TOP)} has {count} lines (warning above {LONG})")
            if count > TOO_LONG:
                found.append(path)
    return found


def main() -> int:
    """Return 1 where a figure exceeds its limit."""
    settings = TOP / "pyproject.toml"
    figures = measured()
    if "--lower" in sys.argv:
        text = settings.read_text("utf-8")
        for name, figure in figures.items():
            text = re.sub(
                rf"(?m)^{name} = (\d+)$",
                lambda now, to=figure, key=name: f"{key} = {min(to, int(now[1]))}",
                text,
            )
        settings.write_text(text, "utf-8")
    limits = tomllib.loads(settings.read_text("utf-8"))["tool"]["lesionlens"]["size"]
    above = [name for name, figure in figures.items() if figure > limits[name]]
    for name in above:
        print(f"size: {name} is {figures[name]:,}; at most {limits[name]:,}", file=sys.stderr)
    too_long = long_modules()
    for path in too_long:
        print(f"size: {path.relative_to(TOP)} is above {TOO_LONG} lines", file=sys.stderr)
    return 1 if above or too_long else 0


if __name__ == "__main__":
    sys.exit(main())
