"""Measured tables in a hand-written page: what stands between two markers is replaced."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.errors import UnusableInputError


def between(page: str, name: str, text: str) -> str:
    """Return a Markdown page with a text between the markers of a name.

    Where the markers are not there, they come to the end of the page.

    Examples
    --------
    >>> print(between("# Page", "bench", "| 1 |"))
    # Page
    <BLANKLINE>
    <!-- bench: begin -->
    | 1 |
    <!-- bench: end -->
    <BLANKLINE>
    >>> between(between("# Page", "bench", "old"), "bench", "new").count("old")
    0

    Raises
    ------
    UnusableInputError
        One of the markers is missing, or there are several.
    """
    begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
    found = (page.count(begin), page.count(end))
    block = f"{begin}\n{text.strip()}\n{end}"
    if found == (0, 0):
        return f"{page.rstrip()}\n\n{block}\n"
    before, _, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if found != (1, 1) or not closed:
        raise UnusableInputError(
            found=f"{found[0]} times {begin} and {found[1]} times {end}",
            expected="each once, in this order, or neither",
            next_step="Mend the markers in the page, or delete them",
        )
    return f"{before}{block}{after}"


def put_between(file: Path, name: str, text: str) -> None:
    """Write a text between the markers of a page, which is made where it is not there."""
    page = file.read_text("utf-8") if file.is_file() else ""
    aside = file.with_name(f".{file.name}.new")
    aside.write_text(between(page, name, text).lstrip("\n"), "utf-8")
    aside.replace(file)
