"""A CSV table of studies, as an alternative to a folder for `batch` and `worklist scan`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import DEVICES, absolute, read_rows
from lesionlens.base.text import case_folded, counted, iso_date
from lesionlens.site.database.records import StudyEntry

COLUMNS = ("study", "name", "patient", "date")
"""`study` is required: a path, absolute or relative to the table's folder."""
_UNSAFE = re.compile(r"[^\w.-]+")
_EIGHT_DIGITS = re.compile(r"\d{8}")
_SAVE_ADVICE = "Save it again as CSV in UTF-8, with commas and these headings in the first line"


def read_table(table: Path) -> tuple[StudyEntry, ...]:
    """Return the studies of a table, in its order, with absolute paths.

    A study without a name is named after its folder, or after the link to it.

    Raises
    ------
    UnusableInputError
        The file is not such a table, or two studies have the same name.
    """
    try:
        rows = read_rows(table)
    except (OSError, ValueError) as error:
        reason = "its text is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise _table_error(table, f"a file that cannot be read as a table ({reason})") from error
    if not rows or "study" not in rows[0]:
        raise _table_error(table, f"no column `study` in {counted(len(rows), 'row')}")
    entries: list[StudyEntry] = []
    for row in rows:
        cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
        if not cells["study"]:
            advice = "Enter the path of a study's folder or file in each row"
            where = f"after that of {entries[-1].name!r}" if entries else "below the headings"
            raise _table_error(table, f"no path in the row {where}", advice)
        if _EIGHT_DIGITS.fullmatch(cells["date"].replace("-", "")) and not iso_date(cells["date"]):
            found = f"no such day as {cells['date']!r}, the date of {cells['study']!r}"
            raise _table_error(table, found, "Correct it, or leave it empty")
        path = absolute(table.parent / cells["study"])
        name = _folder_name(cells["name"] or path.name)
        entries.append(StudyEntry(name, str(path), cells["patient"], cells["date"]))
    refuse_equal_names((entry.name for entry in entries), "Add a column `name`")
    return tuple(entries)


def ignored_column_notes(studies: Path) -> tuple[str, ...]:
    """Return a note on the columns of a table that are ignored, such as a misspelt one.

    Empty if `studies` is not a table of studies.
    """
    rows = read_rows(studies) if studies.is_file() else []
    unread = [name for name in (rows[0] if rows else ()) if name and name not in COLUMNS]
    if not unread:
        return ()
    return (
        f"Columns of {studies.name} that are not read: {', '.join(unread)}. Those that are: "
        f"{', '.join(COLUMNS)}",
    )


def refuse_equal_names(names: Iterable[str], next_step: str) -> None:
    """Refuse names that are equal on Windows or macOS, where two studies would share a folder.

    Raises
    ------
    UnusableInputError
        Two names differ only in case or Unicode form, or not at all.
    """
    counts = Counter(map(case_folded, names))
    duplicate = next((name for name, count in counts.items() if count > 1), None)
    if duplicate is not None:
        raise UnusableInputError(
            found=f"two studies named {duplicate!r}",
            expected="different names, also without regard to case, because they name the result "
            "folders",
            next_step=next_step,
        )


def _folder_name(name: str) -> str:
    """Return a valid folder name on every system, accents composed.

    Examples
    --------
    >>> _folder_name("../a b/c"), _folder_name("..."), _folder_name("a."), _folder_name("aux")
    ('_.._a_b_c', 'study', 'a', '_aux')
    """
    safe_name = _UNSAFE.sub("_", normalize("NFC", name)).rstrip(".")
    if not safe_name.strip("._"):
        return "study"
    is_hidden = safe_name.startswith(".")  # no command looks for results in hidden folders
    return f"_{safe_name}" if is_hidden or DEVICES.fullmatch(safe_name) else safe_name


def _table_error(table: Path, found: str, next_step: str = _SAVE_ADVICE) -> UnusableInputError:
    return UnusableInputError(
        found=f"{found}: {table.name!r}",
        expected="a CSV table in UTF-8, separated by commas, with the columns "
        f"{', '.join(COLUMNS)}; study is required",
        next_step=next_step,
    )
