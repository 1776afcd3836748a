"""The study that is read in advance, so that the next row of a list opens at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

from lesionlens.base.errors import LesionLensError
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.napari.controllers.opened_study import OpenedStudy, has_result, read_entry
from lesionlens.napari.qt.threads import submit
from lesionlens.results.review.reopen import is_result
from lesionlens.site.database.records import StudyEntry

_CANCEL_POLL_S = 0.1


class _PrefetchedStudy(NamedTuple):
    name: str
    """Name of the study in its list."""
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

    def read(self, entry: StudyEntry, result: Path) -> None:
        """Read a study, and its result if there is one."""
        opened = submit(self._pool, read_entry, entry, result, SILENT)
        self._prefetched = _PrefetchedStudy(entry.name, opened)

    def read_task(
        self,
        entry: StudyEntry,
        result: Path,
        on_images: Callable[[OpenedStudy], object],
        *,
        same_patient: bool = False,
    ) -> Callable[[RunContext], OpenedStudy]:
        """Return the task that reads a study, or returns it if it was read in advance.

        Parameters as for `read_entry`.
        """
        future = self.take(entry.name)

        def task(context: RunContext) -> OpenedStudy:
            if future is not None:
                while not futures.wait([future], _CANCEL_POLL_S).done:
                    context.check("reading the study")
                with contextlib.suppress(LesionLensError):
                    opened = future.result()
                    if opened.result is not None or not is_result(result):
                        return opened
            return read_entry(entry, result, context, on_images, same_patient=same_patient)

        return task

    def take(self, name: str) -> Future[OpenedStudy] | None:
        """Return the study if it is the named one; none is held afterwards."""
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is None or prefetched.name != name:
            return None
        return prefetched.opened

    def cancel(self) -> None:
        """Free the memory of the study, and do not read it if that has not begun."""
        if self._prefetched is not None:
            self._prefetched.opened.cancel()
            self._prefetched = None

    def lacks_result(self, folder: Path) -> bool:
        """Whether the study was read before its result arrived in the folder of the list."""
        if self._prefetched is None or not self._prefetched.opened.done():
            return False
        name, opened = self._prefetched
        if opened.cancelled() or opened.exception() is not None:
            return False
        return opened.result().result is None and has_result(folder / name)
