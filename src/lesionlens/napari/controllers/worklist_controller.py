"""Worklist of a window: opening studies, reading the next one in advance, analysing ahead."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer

from lesionlens.base.errors import CancelledError, LesionLensError
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.controllers.expected_read import ExpectedRead
from lesionlens.napari.controllers.opened_study import OpenedStudy, read_entry, reopened
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.model.state.state import Problem, Request, State
from lesionlens.napari.model.studies import recent
from lesionlens.napari.model.studies.worklist import WorklistSession
from lesionlens.napari.preferences import read_preferences
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.results.review.reopen import is_result
from lesionlens.site.database.describing import describe_all
from lesionlens.site.database.records import WorklistRow
from lesionlens.site.database.worklist_database import (
    WorklistDatabase,
    is_list,
    open_worklist_database,
)
from lesionlens.site.pacs.peer import FoundStudy
from lesionlens.site.pacs.server import Server
from lesionlens.site.worklist.ahead import ARCHIVE
from lesionlens.site.worklist.extend import extend
from lesionlens.site.worklist.sources import archived, studies_at
from lesionlens.site.worklist.table import WrittenTables, tables_of

_POLL_MS = 1000
_NO_RESULT = (
    "This study was analysed, but its result is no longer in the list's folder: bring the folder "
    "{!r} back, or analyse the study again."
)
_OPENING = "opening a row"
"""Cause of a refusal that ends as soon as a row may be opened."""
_FREED_MS = 900
"""After this time the memory of the study before is free, so that a third one can be read."""


class WorklistController:
    """Opens studies of a list, and analyses the others ahead in a separate process.

    Parameters
    ----------
    show : callable
        Adds layer data to the viewer.
    """

    def __init__(
        self,
        session: WorklistSession,
        actions: Actions,
        show: Callable[[Any], object],
        parent: QObject,
    ) -> None:
        self.session, self.actions, self._show = session, actions, show
        self.jobs = Jobs(session, parent)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lesionlens-next")
        self._next: tuple[str, Future[OpenedStudy]] | None = None
        self._opening: WorklistRow | None = None
        self._shown: tuple[Study, WorklistRow] | None = None
        self._wanted: WorklistRow | None = None
        self._towards = 0
        self._passed: tuple[WorklistRow, int] | None = None
        """A study that could not be opened, and the step that led there: the next goes past it."""
        self._without_result: Study | None = None
        """Study whose new result was cancelled or is unreadable, so that it is not tried again."""
        self._process: subprocess.Popen[bytes] | None = None
        self._poll = QTimer(parent)
        self._poll.setInterval(_POLL_MS)
        self._poll.timeout.connect(self._poll_database)
        actions.worklist = self
        actions.session.changed.connect(self._on_study)
        session.left = self._leave_list

    def _on_study(self, old: State, new: State) -> None:
        """Update the open study of the list; nothing is read in advance during an analysis."""
        before, now = old.analysing, new.analysing
        if now and not before and self._next is not None:
            self._next[1].cancel()
            self._next = None  # the analysis needs its memory
        elif before and not now:
            when_idle(self.read_next, _FREED_MS)
        if new.study is not old.study:
            ours = self._shown is not None and self._shown[0] is new.study
            self.session.at(self._shown[1] if ours and self._shown is not None else None)

    def release(self) -> None:
        """Close the list; the analysis ahead ends after its current step."""
        self._poll.stop()
        self.stop_ahead()
        self.jobs.abandon()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._next = None
        self.actions.session.changed.disconnect(self._on_study)
        if self.actions.worklist is self:
            self.actions.worklist = None
        self.session.close()

    def _leave_list(self) -> bool:
        """Close the study opened from the list while its read can still be stored.

        A study of the same name in another list is a different study. Returns whether an outline is
        still being kept, so that the read closes the list's database when it ends.
        """
        self._next = self._shown = self._passed = None
        database, reads = self.session.database, self.actions.read_controller
        if database is None or not reads.reads_in(database):
            return False
        self.actions.close()
        if going_on := reads.reads_in(database):
            reads.closed_list = database
        return going_on

    # --- the list -------------------------------------------------------------------------

    def open(self, folder: Path) -> bool:
        """Open an existing list for the reader set in the preferences."""
        if not is_list(folder):
            self.session.failed(
                Problem(
                    "There is no list",
                    found=f"no list of studies in {folder.name!r}",
                    expected="the folder of a list",
                    next_step="Choose that folder, or make one: List ▾, New list",
                )
            )
            return False
        return self.actions.leave_study(lambda: self._open(folder))

    def open_last(self) -> None:
        """Open the list of the last session, unless a list is open."""
        last = recent.recall(recent.LISTS)
        if last and self.session.state.folder is None:
            self.open(last[0])

    def _open(self, folder: Path) -> bool:
        if self._opening is not None:
            self.session.ended("A study is being opened. Wait for it or cancel it, then continue.")
            return False
        preferences = read_preferences()
        try:
            self.session.open(
                folder, preferences.reader_name or "", unaided_first=preferences.unaided_first
            )
        except LesionLensError as refusal:
            self.session.failed(problem_of(refusal))
            return False
        self._poll.start()
        recent.remember(recent.LISTS, folder)
        return True

    def scan(self, source: Path, folder: Path) -> bool:
        """Create or extend a list from a folder, BIDS dataset or CSV, and open it."""
        return self._list(folder, lambda database: extend(database, studies_at(source, folder)))

    def list_archived(self, studies: tuple[FoundStudy, ...], archive: Server, folder: Path) -> bool:
        """Create or extend a list from studies of an archive; nothing is fetched yet."""

        def add(database: WorklistDatabase) -> int:
            new = extend(database, map(archived, studies))
            database.write_note(ARCHIVE, archive.note())
            return new

        return self._list(folder, add)

    def write_tables(self, out: Path) -> bool:
        """Write the tables of all reads of this list into a folder."""
        folder = self.session.state.folder
        if folder is None:
            return False

        def task(context: RunContext) -> WrittenTables:
            return tables_of(folder, out, context=context)

        def done(written: WrittenTables) -> str:
            names = f"{written.reads.name} and {written.marks.name}"
            return f"{written.progress_text}. {names} in {out.name}."

        return self.jobs.start("Writing the tables", task, done)

    def _list(self, folder: Path, add: Callable[[WorklistDatabase], int]) -> bool:
        def task(context: RunContext) -> int:
            database = open_worklist_database(folder)
            try:
                new = add(database)
                describe_all(database, context=context)
            finally:
                database.close()
            return new

        def done(new: int) -> str | None:
            return f"{new} new studies." if self.open(folder) else None

        return self.jobs.start("Scanning the studies", task, done)

    # --- from study to study --------------------------------------------------------------

    def step(self, by: int) -> bool:
        """Open the study that many rows further on."""
        going = self._wanted or self._opening or self._refused_on_the_way(by)
        row = self.session.neighbour(by, None if going is None else going.key)
        if row is None:
            end = "last" if by > 0 else "first"
            self.actions.session.decline(f"This is the {end} study of the filtered list.")
            return False
        return self.open_row(row, towards=by)

    def _refused_on_the_way(self, by: int) -> WorklistRow | None:
        """Return the listed study that was refused by a step the same way, or None."""
        if self._passed is None or self._passed[1] * by <= 0:
            return None
        key = self._passed[0].key
        return next((row for row in self.session.state.rows if row.key == key), None)

    def name_reader(self, reader: str) -> None:
        """Set the reader's name if there was none."""
        self.session.name_reader(reader)

    def open_row(self, row: WorklistRow, towards: int = 0) -> bool:
        """Open the study of a row, and its result if there is one; unfinished work is stored first.

        The open study is set aside at once. `towards` is the step that led to the row, 0 for a
        row that was chosen.
        """
        self._towards = towards
        return self.actions.leave_study(lambda: self._open_row(row))

    def _open_row(self, row: WorklistRow) -> bool:
        if not self._may_open(row):
            return False
        preferences = read_preferences()
        self.session.read_as(preferences.reader_name or "", unaided_first=preferences.unaided_first)
        if self._opening is not None:
            self._wanted = row
            self.session.choose(row)
            self.actions.session.set_aside()
            self.actions.jobs.stop()
            return True
        if self.actions.jobs.running:
            self.actions.session.decline(self.actions.jobs.busy_reason)
            return False

        self._opening = row
        self.session.choose(row)
        self.actions.session.set_aside()
        words = f"Opening {row.entry.name}"
        return self.actions.jobs.start(
            words,
            self._reader_of(row),
            partial(self._show_result, row),
            self._refuse,
            partial(self._show_pictures, row),
        )

    def _show_pictures(self, row: WorklistRow, found: OpenedStudy) -> None:
        """Show the images while the result is read, unless another study was requested."""
        if self._wanted is None:
            self._show_opened(row, found)

    def _show_result(self, row: WorklistRow, found: OpenedStudy) -> None:
        if self._open_wanted():
            return
        if self._shown is None or self._shown[0] is not found.study:
            self._show_opened(row, found)
        if found.result is not None and self.actions.session.state.study is found.study:
            self.actions.show_result(found.result, found.overlays)
        elif found.result is None and self._was_analysed(row):
            self.actions.session.decline(_NO_RESULT.format(row.entry.name))
        self.session.analyse_from(row)
        when_idle(self.read_next, _FREED_MS)

    def _was_analysed(self, row: WorklistRow) -> bool:
        """Whether the list has an outcome of a study, also where the reader must not see it yet."""
        listed = None if self.session.database is None else self.session.database.entry(row.key[0])
        return listed is not None and listed.candidates is not None

    def _refuse(self, error: BaseException) -> None:
        refused = self._opening
        if self._open_wanted():
            return
        self.actions.session.bring_back()  # if no image was shown
        if not isinstance(error, CancelledError):
            self._passed = None if refused is None else (refused, self._towards)
            self.actions.session.failed(problem_of(error))

    def _may_open(self, row: WorklistRow) -> bool:
        if self.session.database is None:
            return False
        try:
            self.session.check(row)
        except LesionLensError as refusal:
            self._passed = (row, self._towards)
            self.session.failed(replace(problem_of(refusal), cause=_OPENING))
            return False
        self.session.clear_problem(_OPENING)
        return True

    def _reader_of(self, row: WorklistRow) -> Callable[[RunContext], OpenedStudy]:
        """Return the task that reads a study, or takes it if it was read in advance."""
        entry, result = row.entry, self._result_of(row)
        options = read_preferences().preparation
        before, self._next = self._next, None
        ready = before[1] if before is not None and before[0] == entry.name else None

        def task(context: RunContext) -> OpenedStudy:
            if ready is not None:
                with contextlib.suppress(LesionLensError):
                    found = ready.result()
                    if found.result is not None or not is_result(result):
                        return found
            return read_entry(entry, result, options, context, self.actions.jobs.emit_partial)

        return task

    def _show_opened(self, row: WorklistRow, found: OpenedStudy) -> None:
        database = self.session.database
        if database is None:
            return
        first = self.session.unaided_first and not row.session
        self.actions.read_controller.expect(
            ExpectedRead(database, self.session.key_of(row), first, self.session.rated)
        )
        self._shown, self._passed = (found.study, row), None
        entry = row.entry
        listed = StudyIdentity(entry.name, number=entry.patient, date=entry.date)
        self.actions.session.open(found.study, Request((found.place,)), listed)
        for layer in found.layers:
            self._show(layer)

    def _result_of(self, row: WorklistRow) -> Path:
        folder = self.session.state.folder
        return (Path() if folder is None else folder) / row.entry.name

    def _open_wanted(self) -> bool:
        """Open the study that was requested while another one was being opened."""
        self._opening, wanted = None, self._wanted
        self._wanted = None
        self.session.choose(wanted)
        return wanted is not None and self.open_row(wanted, self._towards)

    def read_next(self) -> None:
        """Read the next study in advance."""
        busy = self._opening is not None or self.actions.session.state.analysing
        if self.session.database is None or busy or self._next is not None:
            return
        row = None if self.session.state.current is None else self.session.neighbour(1)
        if row is None or not row.entry.place:
            return
        options, result = read_preferences().preparation, self._result_of(row)
        future = self._pool.submit(read_entry, row.entry, result, options, SILENT)
        self._next = (row.entry.name, future)

    # --- analysed ahead -------------------------------------------------------------------

    def toggle_ahead(self) -> None:
        """Start a process that analyses the list and ends with this window, or stop it."""
        folder = self.session.state.folder
        if self.session.state.ahead:
            self.stop_ahead()
            return
        if folder is None or self._process is not None:
            return
        preferences = read_preferences()
        command = [
            sys.executable, "-m", "lesionlens", "worklist", "ahead", str(folder), "--while-open",
            *preferences.engine_arguments(), "--brain-extraction", preferences.brain_extraction,
        ]  # fmt: skip
        command += ["--bias-correction"] * preferences.bias_correction
        self._process = subprocess.Popen(  # noqa: S603  LesionLens itself
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.session.ahead(True)

    def stop_ahead(self) -> None:
        """Stop the analysis ahead; finished results are kept."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0)
        self.session.ahead(False)

    def _poll_database(self) -> None:
        """Update the list; a new result of the open study is shown at once."""
        process = self._process
        if process is not None and process.poll() is not None:
            self._process = None
            self.session.ahead(False)
            if process.returncode not in (0, 2):
                self.session.ended(
                    "Analysing ahead stopped early: see the warnings, then start it again."
                )
        self.session.refresh()
        self._read_next_again()
        self._show_new_result()

    def _read_next_again(self) -> None:
        """Read the next study again if its result arrived afterwards."""
        if self._next is None or not self._next[1].done() or self._opening is not None:
            return
        name, future = self._next
        folder = self.session.state.folder
        if folder is None or future.cancelled() or future.exception() is not None:
            return
        if future.result().result is None and is_result(folder / name):
            self.read_next()

    def _show_new_result(self) -> None:
        row, folder = self.session.row(self.session.state.current), self.session.state.folder
        state = self.actions.session.state
        idle = not self.actions.jobs.running and self.actions.read_controller.held is None
        if row is None or folder is None or state.study is None or state.analysis is not None:
            return
        result, study = folder / row.entry.name, state.study
        read_session = self.actions.read_controller.read_session
        if not idle or read_session is None or read_session.key.study != row.entry.name:
            return
        if study is self._without_result or not read_session.key.arm.aided:
            return
        if not is_result(result):
            return
        options = read_preferences().preparation

        def task(context: RunContext) -> tuple[Any, Any]:
            return reopened(study, result, options, context)

        def done(found: tuple[Any, Any]) -> None:
            if not self._open_wanted() and self.actions.session.state.study is study:
                self.actions.show_result(*found)

        def refused(error: BaseException) -> None:
            if self._wanted is None:
                self._without_result = study
            self._refuse(error)

        self._opening = row  # so that the reader can go on to another study
        self.actions.jobs.start("Opening the result", task, done, refused)
