"""Measured tables in a hand-written page: the text between two markers is replaced."""

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
    counts = (page.count(begin), page.count(end))
    block = f"{begin}\n{text.strip()}\n{end}"
    if counts == (0, 0):
        return f"{page.rstrip()}\n\n{block}\n"
    before, _, remainder = page.partition(begin)
    _, end_marker, after = remainder.partition(end)
    if counts != (1, 1) or not end_marker:
        raise UnusableInputError(
            found=f"{counts[0]} times {begin} and {counts[1]} times {end}",
            expected="each once, in this order, or neither",
            next_step="Mend the markers in the page, or delete them",
        )
    return f"{before}{block}{after}"


def put_between(file: Path, name: str, text: str) -> None:
    """Write a text between the markers of a page, which is made where it is not there."""
    page = file.read_text("utf-8") if file.is_file() else ""
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(between(page, name, text).lstrip("\n"), "utf-8")
    temporary.replace(file)
