"""The study that is read in advance, so that the next row of a list opens at once."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

from lesionlens.base.run_context import SILENT
from lesionlens.imaging.preparation.draft import PrepareOptions
from lesionlens.napari.controllers.opened_study import OpenedStudy, has_result, read_entry
from lesionlens.napari.qt.threads import submit
from lesionlens.site.database.records import StudyEntry


class _PrefetchedStudy(NamedTuple):
    name: str
    """Name of the study in its list."""
    options: PrepareOptions
    """Options with which it is prepared."""
    opened: Future[OpenedStudy]


class NextStudy:
    """At most one study that is read in advance, in a thread of `pool`."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._prefetched: _PrefetchedStudy | None = None

    @property
    def is_held(self) -> bool:
        """Whether a study was, or is being, read in advance."""
        return self._prefetched is not None

    def read(self, entry: StudyEntry, result: Path, options: PrepareOptions) -> None:
        """Read a study, and its result if there is one."""
        opened = submit(self._pool, read_entry, entry, result, options, SILENT)
        self._prefetched = _PrefetchedStudy(entry.name, options, opened)

    def take(self, name: str, options: PrepareOptions) -> Future[OpenedStudy] | None:
        """Return the study if it is the named one with these options; none is held afterwards."""
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is None or (prefetched.name, prefetched.options) != (name, options):
            return None
        return prefetched.opened

    def cancel(self) -> None:
        """Free the memory of the study, and do not read it if that has not begun."""
        if self._prefetched is not None:
            self._prefetched.opened.cancel()
            self._prefetched = None

    def forget(self) -> None:
        """Free the memory of the study once it is read."""
        self._prefetched = None

    def lacks_result(self, folder: Path) -> bool:
        """Whether the study was read before its result arrived in the folder of the list."""
        if self._prefetched is None or not self._prefetched.opened.done():
            return False
        name, _, opened = self._prefetched
        if opened.cancelled() or opened.exception() is not None:
            return False
        return opened.result().result is None and has_result(folder / name)
