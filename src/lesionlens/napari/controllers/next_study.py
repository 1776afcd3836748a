"""The study that is read in advance, so that the next row of a list opens at once."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from pathlib import Path

from lesionlens.base.run_context import SILENT
from lesionlens.imaging.preparation.draft import PrepareOptions
from lesionlens.napari.controllers.opened_study import OpenedStudy, has_result, read_entry
from lesionlens.napari.qt.threads import submit
from lesionlens.site.database.records import StudyEntry


class NextStudy:
    """At most one study that is read in advance, in a thread of `pool`."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._prefetched: tuple[str, Future[OpenedStudy]] | None = None
        """Name of the study in its list."""
        self._options = PrepareOptions()
        """By which it is prepared."""

    @property
    def is_held(self) -> bool:
        """Whether a study was, or is being, read in advance."""
        return self._prefetched is not None

    def read(self, entry: StudyEntry, result: Path, options: PrepareOptions) -> None:
        """Read a study, and its result if there is one."""
        future = submit(self._pool, read_entry, entry, result, options, SILENT)
        self._prefetched, self._options = (entry.name, future), options

    def take(self, name: str, options: PrepareOptions) -> Future[OpenedStudy] | None:
        """Return the named study if it was, or is being, read so in advance; none is held then."""
        prefetched, self._prefetched = self._prefetched, None
        is_same = prefetched is not None and (prefetched[0], self._options) == (name, options)
        return prefetched[1] if prefetched is not None and is_same else None

    def cancel(self) -> None:
        """Free the memory of the study, and do not read it if that has not begun."""
        if self._prefetched is not None:
            self._prefetched[1].cancel()
            self._prefetched = None

    def forget(self) -> None:
        """Free the memory of the study once it is read."""
        self._prefetched = None

    def lacks_result(self, folder: Path) -> bool:
        """Whether the study was read before its result arrived in the folder of the list."""
        if self._prefetched is None or not self._prefetched[1].done():
            return False
        name, future = self._prefetched
        if future.cancelled() or future.exception() is not None:
            return False
        return future.result().result is None and has_result(folder / name)
