"""The read in progress and its reader, which the parts of `ReadController` share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psygnal import Signal

from lesionlens.base.errors import LesionLensError
from lesionlens.base.records.study import Study
from lesionlens.napari.model.acts.session import SAVING, ReviewSession
from lesionlens.napari.model.state.state import Problem
from lesionlens.napari.model.wording import reads
from lesionlens.napari.preferences import read_preferences
from lesionlens.results.review import store
from lesionlens.site.database.records import ReadKey
from lesionlens.site.database.worklist_database import WorklistDatabase
from lesionlens.site.worklist import reader_log
from lesionlens.site.worklist.read_session import ReadSession

logger = logging.getLogger(__name__)


def preferred_reader() -> str | None:
    """Return the reader's name in the preferences; None or empty if there is none."""
    return read_preferences().reader_name


def own_key(study: Study) -> ReadKey:
    """Return the key of a study in the log of the reader in the preferences."""
    return reader_log.read_key_of_study(study, preferred_reader() or "")


def close_log(log: ReadSession | None) -> None:
    """Store when a study was left; a failure is only logged, as every act is stored already."""
    if log is None:
        return
    try:
        log.close()
    except LesionLensError as error:
        logger.warning("The time of leaving a study could not be stored: %s", error.found)


@dataclass(frozen=True, slots=True)
class ExpectedRead:
    """The read that begins when a study is opened."""

    database: WorklistDatabase
    key: ReadKey
    unaided_first: bool
    rated: bool = False
    """Whether every mark needs a rating."""


class CurrentRead:
    """The read in progress of one window, if any."""

    changed = Signal()
    """The read, its marks, or what is hidden until it is signed."""

    def __init__(self, session: ReviewSession) -> None:
        self.session = session
        self.reader_log = reader_log.ReaderLog()
        self.read_session: ReadSession | None = None
        self.begun: ExpectedRead | None = None
        """How the read was requested; None if no list requested it. It outlives the read."""
        self.has_failed = False
        """Whether the read could not begin; the analysis, which it may hide, is not shown."""
        self._noted_study: Study | None = None

    @property
    def is_signed(self) -> bool:
        """Whether there is a read whose current part is signed."""
        return self.read_session is not None and self.read_session.is_signed

    @property
    def reader(self) -> str | None:
        """Name of the reader of new acts: of the read in progress, else in the preferences.

        A name that is changed meanwhile applies from the next study.
        """
        begun = "" if self.read_session is None else self.read_session.key.reader
        return begun or preferred_reader()

    def decision_owner(self) -> str | None:
        """Return the owner of drafts; see `store.owner_of`."""
        if self.read_session is None or not self.read_session.key.session:
            return self.reader
        key = self.read_session.key
        return f"{key.study}: {store.owner_of(key.reader, key.session, key.arm.value)}"

    def begin(self, study: Study, expected: ExpectedRead | None) -> None:
        """Begin the expected read, or the unaided read that the preferences require."""
        self.begun = expected
        with self._failure_reported():
            if expected is None and read_preferences().unaided_first:
                database = self.reader_log.database
                expected = ExpectedRead(database, own_key(study), unaided_first=True)
            if expected is not None:
                self.read_session = self._new_read(study, expected)

    @contextmanager
    def _failure_reported(self) -> Iterator[None]:
        try:
            yield
        except LesionLensError as error:
            self.has_failed = True
            problem = Problem("The read could not be started", error.found, error.expected)
            advice = f"{error.in_window}; {reads.OPEN_AGAIN}"
            self.session.refused(replace(problem, next_step=advice, cause=SAVING))

    def _new_read(self, study: Study, expected: ExpectedRead) -> ReadSession:
        return ReadSession(
            expected.database,
            expected.key,
            unaided_first=expected.unaided_first,
            shown_elsewhere=self.reader_log.shown_before(study, expected.key),
        )

    def name_reader(self, reader: str) -> None:
        """Continue an unnamed read under a reader's name.

        Raises
        ------
        LesionLensError
            The name cannot be stored.
        """
        if self.read_session is not None and not self.read_session.key.reader:
            self.read_session = self.read_session.continue_as(reader)
            self._rename_begun()

    def _rename_begun(self) -> None:
        """Rename the read also for when it is restored after it was set aside."""
        if self.begun is not None and self.read_session is not None:
            self.begun = replace(self.begun, key=self.read_session.key)

    def record_findings_shown(self, study: Study) -> None:
        """Record once that a study's findings are shown, for later unaided reads."""
        if self._noted_study is not study:
            self._noted_study = study
            key = self.read_session.key if self.read_session else own_key(study)
            self.reader_log.record_shown(study, key)

    def report_unsaved(self, error: LesionLensError, next_step: str) -> None:
        """Report an act that could not be stored, and what to do after the error's own advice."""
        title, advice = "This action was not saved", f"{error.in_window}; {next_step}"
        self.session.refused(Problem(title, error.found, error.expected, advice, cause=SAVING))

    def leave(self) -> None:
        """End the read and stop its clock."""
        read_session, self.read_session, self._noted_study = self.read_session, None, None
        self.has_failed = False
        close_log(read_session)
