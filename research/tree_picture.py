"""Write the tree of the package at two commits as Markdown: `research/tree_picture.py OLD NEW`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from pathlib import PurePosixPath

ROOT = PurePosixPath("src/lesionlens")
HEAD = """# The package, before and now

Written by `research/tree_picture.py`: modules and lines of Python, blank ones and docstrings among
them. A room is a folder within an entry at the top.
"""


def git(*words: str) -> str:
    """Return what a git command prints."""
    return subprocess.run(("git", *words), check=True, capture_output=True, text=True).stdout


def modules(commit: str) -> dict[PurePosixPath, int]:
    """Return the lines of each module below `ROOT` at a commit; empty files are no modules."""
    counted = git("grep", "-c", "", commit, "--", f"{ROOT}/**.py", f"{ROOT}/*.py").splitlines()
    rows = (row.removeprefix(f"{commit}:").rpartition(":") for row in counted)
    return {PurePosixPath(name).relative_to(ROOT): int(lines) for name, _, lines in rows}


def drawing(found: dict[PurePosixPath, int]) -> str:
    """Return the entries at the top with their rooms, modules and lines, as a tree."""
    lines, count = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for path, size in found.items():
        parts = path.parts if len(path.parts) == 1 else path.parts[:-1]
        for depth in {1, min(2, len(parts))}:
            lines[parts[:depth]] += size
            count[parts[:depth]] += 1
    tops = sorted(key for key in lines if len(key) == 1)
    rows = [f"lesionlens/  {len(found)} modules, {sum(found.values()):,} lines"]
    for top in tops:
        last = top == tops[-1]
        rows.append(_row("└─ " if last else "├─ ", top, count, lines))
        rooms = sorted(key for key in lines if len(key) == 2 and key[0] == top[0])
        for room in rooms:
            lead = ("   " if last else "│  ") + ("└─ " if room == rooms[-1] else "├─ ")
            rows.append(_row(lead, room, count, lines))
    return "\n".join(rows)


def _row(
    lead: str,
    key: tuple[str, ...],
    count: Counter[tuple[str, ...]],
    lines: Counter[tuple[str, ...]],
) -> str:
    name = key[-1] if key[-1].endswith(".py") else f"{key[-1]}/"
    return f"{lead + name:<28}{count[key]:>4}{lines[key]:>8,}"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old")
    parser.add_argument("new")
    wanted = parser.parse_args()
    pages = [HEAD]
    for title, commit in (("Before", wanted.old), ("Now", wanted.new)):
        found = modules(commit)
        tops = {path.parts[0] for path in found if not path.name.startswith("__") or path.parts[1:]}
        folders = {path.parent for path in found if len(path.parts) > 2}
        short = git("rev-parse", "--short=8", commit).strip()
        day = git("show", "-s", "--format=%as", commit).strip()
        pages.append(
            f"## {title}: {short} ({day})\n\n{len(tops)} entries at the top, {len(folders)} rooms "
            f"within them, {len(found)} modules, {sum(found.values()):,} lines.\n\n"
            f"```text\n{drawing(found)}\n```\n"
        )
    sys.stdout.write("\n".join(pages))


if __name__ == "__main__":
    main()
