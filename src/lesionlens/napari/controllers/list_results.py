"""Results of analyses in the window, stored in the list of their study."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

from lesionlens.base.records.analysis import Analysis
from lesionlens.napari.model.studies.worklist import WorklistSession
from lesionlens.napari.preferences import Preferences
from lesionlens.napari.qt.jobs import problem_of
from lesionlens.napari.qt.threads import submit
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.worklist import background_analysis


class ListResults:
    """Stores results in a thread, and reports those that could not be stored."""

    def __init__(self, session: WorklistSession, pool: Executor) -> None:
        self._session, self._pool = session, pool
        self._unstored: list[tuple[str, Future[bool]]] = []
        """Names of studies whose results are being stored in the list."""

    def store(self, folder: Path, name: str, analysis: Analysis, preferences: Preferences) -> None:
        """Store an analysis of a study in the list's folder, without waiting for it."""

        def store() -> bool:
            choice = CohortChoice(preferences.engine)
            return background_analysis.store_result(folder, name, analysis, choice)

        self._unstored.append((name, submit(self._pool, store)))

    def report_unstored(self) -> None:
        """Report results that could not be stored in the list."""
        unstored, self._unstored = self._unstored, []
        for name, future in unstored:
            if not future.done():
                self._unstored.append((name, future))
            elif not future.cancelled() and (error := future.exception()) is not None:
                title = f"The result of {name!r} was not saved in the list"
                self._session.refused(replace(problem_of(error), title=title))
