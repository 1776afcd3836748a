"""Reads of unnamed readers in earlier sessions, whose owner must be known before they continue."""

from __future__ import annotations

from psygnal import Signal

from lesionlens.base.labels import ReviewAct
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.review import Review
from lesionlens.napari.controllers.current_read import CurrentRead, preferred_reader
from lesionlens.results.review import store


class UnnamedReads:
    """Finds unnamed reads that were not made in this window."""

    found = Signal(str)
    """An unnamed reader read the opened study in an earlier session: time of the last act."""

    def __init__(self, current: CurrentRead) -> None:
        self._current = current
        self.asking_owner = False
        """Whether the owner of an unnamed read is being asked for; no mark is shown then."""
        self._answered = False
        self._local_reads: set[object] = set()
        """Unnamed reads and analyses that were edited in this window."""

    def check(self) -> None:
        """Ask for the owner of a read that an unnamed reader began in an earlier session."""
        read_session = self._current.read_session
        if read_session is None or read_session.key.reader or read_session.key.session:
            return
        read = read_session.read
        read_id = (read_session.database.folder, read_session.key)
        has_content = read.marks or read.verdicts or read.unaided or read.signed
        if has_content and read_id not in self._local_reads:
            acts = [act for act in read.acts if act.act not in (ReviewAct.BEGIN, ReviewAct.LEAVE)]
            self.ask_owner(acts[-1].time)
        self._local_reads.add(read_id)

    def ask_owner(self, time: str) -> None:
        """Ask for the owner of an unnamed read, whose last act was at `time`."""
        self.asking_owner = True
        self.found.emit(time)

    def of_another_session(self, analysis: Analysis, logged: Review) -> bool:
        """Whether the log is an unnamed reader's of an earlier session; True only once."""
        saved_count = len(analysis.review.events)
        new_events = logged.events[saved_count:] if logged.continues(analysis.review) else ()
        if preferred_reader() or not new_events or new_events[-1].reader:
            return False
        analysis_key, session = store.analysis_key(analysis.run), self._current.read_session
        is_known = self._answered or analysis_key in self._local_reads
        self._local_reads.add(analysis_key)
        return not is_known and (session is None or not session.key.session)

    def add_local(self, analysis_key: str) -> None:
        """Note that an analysis was decided on in this window (key: `store.analysis_key`)."""
        self._local_reads.add(analysis_key)

    def end_question(self) -> None:
        """Note that the reader has answered; nothing more is asked about the open study."""
        self.asking_owner, self._answered = False, True

    def leave(self) -> None:
        """Forget the question with its study."""
        self.asking_owner = self._answered = False
