"""Measured tables in a hand-written Markdown page, each between two markers."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.errors import UnusableInputError


def with_block(page: str, name: str, text: str) -> str:
    """Return a Markdown page in which the text between the markers of a name is replaced.

    A page without these markers gets them at its end.

    Examples
    --------
    >>> print(with_block("# Page", "bench", "| 1 |"))
    # Page
    <BLANKLINE>
    <!-- bench: begin -->
    | 1 |
    <!-- bench: end -->
    <BLANKLINE>
    >>> with_block(with_block("# Page", "bench", "old"), "bench", "new").count("old")
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
            next_step="Correct the markers in the page, or delete them",
        )
    return f"{before}{block}{after}"


def write_block(file: Path, name: str, text: str) -> None:
    """Replace the text between the markers of a page; a missing page is created."""
    page = file.read_text("utf-8") if file.is_file() else ""
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(with_block(page, name, text).lstrip("\n"), "utf-8")
    temporary.replace(file)
