"""Worklist of a window: opens its list, and its studies one after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Layer
from qtpy.QtCore import QObject, QTimer

from lesionlens.base.errors import CancelledError, LesionLensError, PatientConflictError
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import counted
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.controllers.ahead_process import AheadProcess
from lesionlens.napari.controllers.current_read import ExpectedRead
from lesionlens.napari.controllers.list_results import ListResults
from lesionlens.napari.controllers.next_study import NextStudy
from lesionlens.napari.controllers.opened_study import (
    OpenedStudy,
    has_result,
    problem_of_archived,
    reopen_result,
)
from lesionlens.napari.controllers.opener import CONFIRM_PATIENT
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.model.state.state import Problem, Request, State
from lesionlens.napari.model.studies import recent_paths
from lesionlens.napari.model.studies.worklist import WorklistSession, passed_over_text
from lesionlens.napari.preferences import Preferences, read_preferences
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.site.database.add_studies import extend
from lesionlens.site.database.descriptions import describe_studies
from lesionlens.site.database.records import WorklistRow
from lesionlens.site.database.worklist_database import (
    WorklistDatabase,
    is_worklist_folder,
    open_worklist_database,
)
from lesionlens.site.pacs.peer import FoundStudy
from lesionlens.site.pacs.server import Server
from lesionlens.site.worklist.background_analysis import record_archive
from lesionlens.site.worklist.sources import archived, is_to_fetch, studies_at
from lesionlens.site.worklist.table import ReaderStudyTables, tables_of

if TYPE_CHECKING:
    from lesionlens.napari.model.overlays.maps import Overlays
    from lesionlens.results.result import Result

_POLL_MS = 1000
_NO_RESULT = (
    "This study was analysed, but its result is no longer in the list's folder: restore the "
    "folder {!r}, or analyse the study again."
)
_LIST_CHANGED = "Another list is open now: the study was not opened."
_OPENING = "opening a row"
"""Cause of a refusal that ends as soon as a row may be opened."""
_MEMORY_RELEASE_MS = 900
"""Delay until the memory of the previous study is free, so that a third one can be read."""


class WorklistController:
    """Opens studies of a list, and analyses the others ahead in a separate process."""

    def __init__(self, session: WorklistSession, actions: Actions, parent: QObject) -> None:
        self.session, self.actions = session, actions
        self.jobs = Jobs(session, parent)
        self._pool = futures.ThreadPoolExecutor(1, thread_name_prefix="lesionlens-next")
        self._next_study = NextStudy(self._pool)
        self._results = ListResults(session, self._pool)
        self.ahead = AheadProcess(session)
        self._opening: WorklistRow | None = None
        """Row being opened."""
        self._requested: WorklistRow | None = None
        """Row to open next, which was requested while another one was being opened."""
        self._passed: list[WorklistRow] = []
        """Rows that the reader stepped over before they were shown."""
        self._current: tuple[Study, WorklistRow] | None = None
        """Study opened last from the list, and its row."""
        self._step = 0
        """Step that led to the row being opened; 0 if it was chosen."""
        self._refused: tuple[WorklistRow, int] | None = None
        """Row that could not be opened, and the step that led to it; the next step skips it."""
        self._unreadable_study: Study | None = None
        """Study whose new result was cancelled or is unreadable; it is not opened again."""
        self._poll = QTimer(parent)
        self._poll.setInterval(_POLL_MS)
        self._poll.timeout.connect(self._poll_database)
        actions.worklist = self
        actions.session.changed.connect(self._on_study)
        session.on_leave = self._leave_list

    def _on_study(self, old: State, new: State) -> None:
        """Update the open study of the list; nothing is read in advance during an analysis."""
        was_analysing, is_analysing = old.analysing, new.analysing
        if is_analysing and not was_analysing:
            self._next_study.cancel()  # the analysis needs its memory
        elif was_analysing and not is_analysing:
            when_idle(self.read_next, _MEMORY_RELEASE_MS)
        if new.study is not old.study:
            self._keep_row(new)
            self.session.set_open_row(self._row_of(new.study))

    def _keep_row(self, state: State) -> None:
        """Keep the row of a study that was opened again with other series.

        A result that the list has is of the previous ones, and is not opened.
        """
        replaced_study = None if state.request is None else state.request.in_place_of
        row = None if replaced_study is None else self._row_of(replaced_study)
        if state.study is not None and row is not None:
            self._current = (state.study, row)
            if has_result(self._result_of(row)):
                self._unreadable_study = state.study

    def _row_of(self, study: Study | None) -> WorklistRow | None:
        """Return the row from which a study was opened; None if it is not of the list."""
        return self._current[1] if self._current is not None and self._current[0] is study else None

    def release(self) -> None:
        """Close the list; the analysis ahead ends after its current step."""
        self._poll.stop()
        self.ahead.stop()
        self.jobs.abandon()
        self._next_study.cancel()
        self._pool.shutdown(wait=False)  # results that wait are stored
        self.actions.session.changed.disconnect(self._on_study)
        if self.actions.worklist is self:
            self.actions.worklist = None
        self.session.close()

    def _leave_list(self) -> bool:
        """Close the study opened from the list while its read can still be stored.

        A study of the same name in another list is a different study. Returns whether an outline is
        still being stored; the list's database is then closed at the end of the read.
        """
        self._next_study.cancel()
        self._stop_opening()
        self._current, self._refused, self._passed = None, None, []
        database, read_controller = self.session.database, self.actions.read_controller
        if database is None or not read_controller.reads_in(database):
            return False
        self.actions.close()
        if still_reading := read_controller.reads_in(database):
            read_controller.closed_list = database
        return still_reading

    def _stop_opening(self) -> None:
        """Stop opening a row; a study of the list that was set aside for it is not restored."""
        if self._opening is None:
            return
        self._requested = None
        self.actions.jobs.stop()
        if self._row_of(self.actions.session.suspended_study) is not None:
            self.actions.session.close()

    # --- the list -------------------------------------------------------------------------

    def open(self, folder: Path) -> bool:
        """Open an existing list for the reader set in the preferences."""
        if not is_worklist_folder(folder):
            self.session.refused(
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
        recent_lists = recent_paths.recall(recent_paths.LISTS)
        if recent_lists and self.session.state.folder is None:
            self.open(recent_lists[0])

    def _open(self, folder: Path) -> bool:
        if self._opening is not None:
            reason = "A study is being opened. Wait for it or cancel it, then continue."
            self.session.decline(reason)  # a scan may be running
            return False
        preferences = read_preferences()
        if folder != self.session.state.folder:
            self.ahead.stop()
        try:
            self.session.open(
                folder, preferences.reader_name or "", unaided_first=preferences.unaided_first
            )
        except LesionLensError as error:
            self.session.refused(problem_of(error))
            return False
        self._poll.start()
        recent_paths.remember(recent_paths.LISTS, folder)
        return True

    def scan(self, source: Path, folder: Path) -> bool:
        """Create or extend a list from a folder, BIDS dataset or CSV, and open it."""
        return self._extend_list(
            folder, lambda database: extend(database, studies_at(source, folder))
        )

    def list_archived(self, studies: tuple[FoundStudy, ...], archive: Server, folder: Path) -> bool:
        """Create or extend a list from studies of an archive; nothing is fetched yet."""

        def add(database: WorklistDatabase) -> int:
            entries = tuple(map(archived, studies))
            added_count = extend(database, entries)
            record_archive(database, (entry.name for entry in entries), archive)
            return added_count

        return self._extend_list(folder, add)

    def write_tables(self, target: Path) -> bool:
        """Write the tables of all reads of this list into a folder."""
        folder = self.session.state.folder
        if folder is None:
            return False

        def task(context: RunContext) -> ReaderStudyTables:
            return tables_of(folder, target, context=context)

        def on_result(tables: ReaderStudyTables) -> str:
            names = f"{tables.reads.name} and {tables.marks.name}"
            return f"{tables.progress_text}. {names} in {target.name}."

        return self.jobs.start("Writing the tables", task, on_result)

    def _extend_list(self, folder: Path, add: Callable[[WorklistDatabase], int]) -> bool:
        def task(context: RunContext) -> int:
            database = open_worklist_database(folder)
            try:
                added_count = add(database)
                describe_studies(database, context=context)
            finally:
                database.close()
            return added_count

        def on_result(added_count: int) -> str | None:
            added = counted(added_count, "new study", "new studies")
            return f"{added}." if self.open(folder) else None

        return self.jobs.start("Scanning the studies", task, on_result)

    # --- from study to study --------------------------------------------------------------

    def step(self, by: int) -> bool:
        """Open the study that is `by` rows after the open one, before it if negative."""
        if self.session.state.focus is None:
            self._read_as_preferred()  # steps begin at the study that this reader opened last
        origin = self._requested or self._opening or self._refused_row(by)
        row = self.session.neighbour(by, None if origin is None else origin.key)
        if row is None:
            end = "last" if by > 0 else "first"
            return self.actions.session.decline(f"This is the {end} study of the filtered list.")
        return self.open_row(row, step=by)

    def _refused_row(self, by: int) -> WorklistRow | None:
        """Return the row refused by the last step if this one has the same direction, or None."""
        if self._refused is None or self._refused[1] * by <= 0:
            return None
        key = self._refused[0].key
        return next((row for row in self.session.state.rows if row.key == key), None)

    def name_reader(self, reader: str) -> None:
        """Set the reader's name if there was none."""
        self.session.name_reader(reader)

    def open_row(self, row: WorklistRow, step: int = 0) -> bool:
        """Open the study of a row, and its result if there is one; unfinished work is stored first.

        The open study is set aside at once. `step` is the step that led to the row, 0 for a
        row that was chosen.
        """
        self._step = step
        return self.actions.leave_study(lambda: self._open_row(row))

    def _open_row(self, row: WorklistRow, *, same_patient: bool = False) -> bool:
        if not self._may_open(row):
            return False
        self._read_as_preferred()
        if self._opening is not None:
            left = self._requested or self._opening
            if self._step and not (self._current and self._current[1].key == left.key):
                self._passed.append(left)
            self._requested = row
            self.session.set_opening_row(row)
            self.actions.session.suspend()
            self.actions.jobs.stop()
            return True
        if self.actions.session.refuses(self.actions.jobs.busy_reason):
            return False
        self._opening = row
        self.session.set_opening_row(row)
        self.actions.session.suspend()
        return self.actions.jobs.start(
            f"Opening {row.entry.name}",
            self._next_study.read_task(
                row.entry,
                self._result_of(row),
                self.actions.jobs.emit_partial,
                same_patient=same_patient,
            ),
            partial(self._show_result, row),
            self._on_opening_error,
            on_partial=partial(self._show_images, row),
        )

    def _read_as_preferred(self) -> None:
        """Apply a reader's name or reading mode that was changed in the preferences."""
        preferences = read_preferences()
        self.session.read_as(preferences.reader_name or "", unaided_first=preferences.unaided_first)

    def _show_images(self, row: WorklistRow, opened: OpenedStudy) -> None:
        """Show the images while the result is read, unless another study was requested."""
        if self._requested is None:
            self._show_opened(row, opened)

    def _show_result(self, row: WorklistRow, opened: OpenedStudy) -> None:
        if self._open_requested():
            return
        if self._row_of(opened.study) is None:
            self._show_opened(row, opened)
        if opened.result is not None and self.actions.session.state.study is opened.study:
            self.actions.show_result(*opened.result)
        elif opened.result is None and self._was_analysed(row):
            self.actions.session.decline(_NO_RESULT.format(row.entry.name))
        passed, self._passed = passed_over_text(self._passed, row), []
        if passed:
            self.actions.session.notify(f"{self.actions.session.state.message} {passed}".strip())
        self.session.analyse_from(row)
        when_idle(self.read_next, _MEMORY_RELEASE_MS)

    def _was_analysed(self, row: WorklistRow) -> bool:
        """Whether the list has an outcome of a study, even if it is hidden from the reader."""
        entry = None if self.session.database is None else self.session.database.entry(row.key[0])
        return entry is not None and entry.candidates is not None

    def _on_opening_error(self, error: BaseException) -> None:
        """Restore the study that was set aside, and show the error unless the user cancelled."""
        refused_row = self._opening
        if self._open_requested():
            return
        self.actions.session.restore_suspended()  # if no image was shown
        if isinstance(error, CancelledError):
            return
        self._refused = None if refused_row is None else (refused_row, self._step)
        if isinstance(error, PatientConflictError) and refused_row is not None:
            self._ask_patient(error, refused_row)
        else:
            is_archived = refused_row is not None and self._is_to_fetch(refused_row)
            problem = problem_of_archived(error) if is_archived else problem_of(error)
            self.actions.session.failed(problem)

    def _ask_patient(self, error: PatientConflictError, row: WorklistRow) -> None:
        """Ask whether a study is of one patient; if so, open it, unless the list has changed."""
        folder = self.session.state.folder

        def open_confirmed() -> bool:
            if self.session.state.folder != folder:
                return self.actions.session.decline(_LIST_CHANGED)
            return self._open_row(row, same_patient=True)

        self.actions.session.ended(CONFIRM_PATIENT)
        self.actions.dialogs.ask_patient(error, lambda: self.actions.leave_study(open_confirmed))

    def _may_open(self, row: WorklistRow) -> bool:
        if self.session.database is None:
            return False
        try:
            self.session.check(row)
        except LesionLensError as error:
            self._refused = (row, self._step)
            self.session.refused(problem_of(error, _OPENING))
            return False
        self.session.clear_problem(_OPENING)
        return True

    def _show_opened(self, row: WorklistRow, opened: OpenedStudy) -> None:
        database = self.session.database
        if database is None:  # closed meanwhile
            self.actions.session.restore_suspended()
            return
        unaided_first = self.session.unaided_first and not row.session
        self.actions.read_controller.expected = ExpectedRead(
            database, self.session.key_of(row), unaided_first, self.session.rated
        )
        self._current, self._refused = (opened.study, row), None
        entry = row.entry
        identity = StudyIdentity(entry.name, number=entry.patient, date=entry.date)
        uid = entry.study_uid or None
        request = Request((opened.path,), study_uid=uid, same_patient=opened.same_patient)
        self.actions.session.open(opened.study, request, identity)
        for data in opened.layers:
            self.actions.viewer.layers.append(Layer.create(*data))

    def _is_to_fetch(self, row: WorklistRow) -> bool:
        return is_to_fetch(row.entry, self._result_of(row).parent)

    def _result_of(self, row: WorklistRow) -> Path:
        folder = self.session.state.folder
        return (Path() if folder is None else folder) / row.entry.name

    def _open_requested(self) -> bool:
        """Open the study that was requested while another one was being opened."""
        requested, self._opening, self._requested = self._requested, None, None
        self.session.set_opening_row(requested)
        return requested is not None and self.open_row(requested, self._step)

    def read_next(self) -> None:
        """Read the next study in advance."""
        busy = self._opening is not None or self.actions.session.state.analysing
        if self.session.database is None or busy or self._next_study.is_held:
            return
        row = None if self.session.state.current is None else self.session.neighbour(1)
        if row is None or self._is_to_fetch(row):
            return
        self._next_study.read(row.entry, self._result_of(row))

    # --- results of the list --------------------------------------------------------------

    def store_result(self, analysis: Analysis, preferences: Preferences) -> None:
        """Store an analysis of the list's open study in the list, without waiting for it."""
        folder, row = self.session.state.folder, self._row_of(analysis.study)
        if folder is not None and row is not None:
            self._results.store(folder, row.entry.name, analysis, preferences)

    def toggle_ahead(self) -> None:
        """Start a process that analyses the list and ends with this window, or stop it."""
        folder = self.session.state.folder
        if self.session.state.ahead:
            self.ahead.stop()
        elif folder is not None:
            self.ahead.start(folder, read_preferences())

    def _poll_database(self) -> None:
        """Update the list; a new result of the open study is shown at once."""
        self.ahead.poll()
        self.session.refresh()
        self._results.report_unstored()
        self._read_next_again()
        self._show_new_result()

    def _read_next_again(self) -> None:
        """Read the next study again if its result arrived afterwards."""
        folder = self.session.state.folder
        if folder and self._opening is None and self._next_study.lacks_result(folder):
            self._next_study.cancel()
            self.read_next()

    def _show_new_result(self) -> None:
        row, folder = self.session.row(self.session.state.current), self.session.state.folder
        study = self.actions.session.state.study
        if row is None or folder is None or study is None or not self._awaits_result(row, study):
            return
        result = folder / row.entry.name
        if not has_result(result):
            return

        def task(context: RunContext) -> tuple[Result, Overlays]:
            return reopen_result(study, result, context)

        def on_result(reopened: tuple[Result, Overlays]) -> None:
            if not self._open_requested() and self.actions.session.state.study is study:
                self.actions.show_result(*reopened)

        def on_error(error: BaseException) -> None:
            if self._requested is None:
                self._unreadable_study = study
            self._on_opening_error(error)

        self._opening = row  # so that the reader can step to another study
        self.actions.jobs.start("Opening the result", task, on_result, on_error)

    def _awaits_result(self, row: WorklistRow, study: Study) -> bool:
        """Whether a result of the open study may be shown to its reader, and none is yet."""
        read_controller = self.actions.read_controller
        read_session = read_controller.read_session
        return (
            self.actions.session.state.analysis is None
            and read_controller.withheld is None
            and study is not self._unreadable_study
            and not self.actions.jobs.running
            and read_session is not None
            and read_session.key.study == row.entry.name
            and read_session.key.arm.aided
        )
