"""The outcome of the last monitoring run, stored for a warning in the panel."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.base.files import user_folders
from lesionlens.base.files.atomic_file import write_atomically
from lesionlens.base.files.bounded_read import read_model
from lesionlens.base.files.file_model import FileModel
from lesionlens.base.provenance import utc_now
from lesionlens.base.text import encodable


class MonitorWarning(FileModel):
    """Violated stop rules.

    Parameters
    ----------
    time : str
        Time of the monitoring run: ISO 8601, UTC.
    stops : tuple of str
        Violated rules, in words.
    page : str
        Path of the page on this machine.
    """

    time: str
    stops: tuple[str, ...]
    page: str

    @property
    def text(self) -> str:
        """The warning in words; empty if no rule is violated."""
        if not self.stops:
            return ""
        day = self.time[:10] or "day not known"
        return f"Stop and look (monitor, {day}): {'; '.join(self.stops)}"


def _warning_file() -> Path:
    return user_folders.data() / "monitor.json"


def keep(stops: tuple[str, ...], page: Path) -> None:
    """Store the outcome in the user's data folder, replacing the previous one.

    Raises
    ------
    ResourceError
        The file cannot be written, so that the warning in the panel would be out of date.
    """
    now = utc_now()
    warning = MonitorWarning(time=now, stops=stops, page=encodable(str(page.resolve())))
    try:
        write_atomically(_warning_file(), warning.file_text())
    except OSError as error:
        raise ResourceError(
            found=f"that the warning for the panel could not be saved ({error.strerror or error})",
            expected="free space and write permission in your data folder",
            next_step="Free some space, or set HOME or XDG_DATA_HOME to a folder that can be "
            "written, and run it again; the page is written",
        ) from error


def current() -> MonitorWarning | None:
    """Return the last outcome; None if there is none.

    An unreadable file is reported as a violated rule.
    """
    path = _warning_file()
    try:
        return read_model(path, MonitorWarning)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ReadError):
        return MonitorWarning(time="", stops=("the last outcome cannot be read",), page="")
