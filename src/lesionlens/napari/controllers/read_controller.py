"""Begin and end of the read in progress, and the result that it hides.

During an unaided read the result is held here only: the window has no layer, table or count of it
before the reader has signed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.napari.controllers.current_read import CurrentRead, ExpectedRead
from lesionlens.napari.controllers.decision_log import DecisionLog
from lesionlens.napari.controllers.decision_saver import DecisionSaver
from lesionlens.napari.controllers.draft_keeper import DraftKeeper
from lesionlens.napari.controllers.marking import Marking
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.overlays.reader_study import shown_in
from lesionlens.napari.model.state.state import State
from lesionlens.napari.model.wording import reads
from lesionlens.site.database.worklist_database import WorklistDatabase
from lesionlens.site.worklist import reader_log
from lesionlens.site.worklist.read_session import ReadSession

if TYPE_CHECKING:
    from lesionlens.napari.model.overlays.maps import Overlays
    from lesionlens.results.result import Result


@dataclass(frozen=True, slots=True)
class _SuspendedRead:
    """What is restored if opening another study fails."""

    study: Study | None = None
    expected: ExpectedRead | None = None
    withheld: tuple[Result, Overlays] | None = None


class ReadController:
    """The read in progress of one window."""

    def __init__(self, session: ReviewSession) -> None:
        self.session = session
        self.current = CurrentRead(session)
        self.marking = Marking(self.current)
        self.decision_log = DecisionLog(self.current)
        self.saver = DecisionSaver(self.current, self.decision_log, self.marking)
        self.drafts = DraftKeeper(self.current)
        self.closed_list: WorklistDatabase | None = None
        """Database of a list that was closed; it is closed when the read in it ends."""
        self.expected: ExpectedRead | None = None
        """The read that begins with the next opened study."""
        self._suspended = _SuspendedRead()
        self._withheld: tuple[Result, Overlays] | None = None
        """Result and overlays."""
        self._shown_result: Result | None = None
        session.changed.connect(self._on_changed)

    @property
    def read_session(self) -> ReadSession | None:
        """The read in progress."""
        return self.current.read_session

    # --- begin and end --------------------------------------------------------------------

    def release(self) -> None:
        """End the read: the window is being closed."""
        self.session.changed.disconnect(self._on_changed)
        self.leave()
        self.current.reader_log.close()

    def leave(self) -> None:
        """End the read of the study and stop the clock."""
        self.saver.retry(self.session.state)
        self._withheld = self._shown_result = self.marking.confidence = None
        self.saver.leave()
        self.current.leave()
        self.decision_log.leave()
        self.drafts.release()
        if self.closed_list is not None:
            self.closed_list.close()
            self.closed_list = None

    def reads_in(self, database: WorklistDatabase) -> bool:
        """Return whether the read in progress is stored in a database."""
        return self.read_session is not None and self.read_session.database is database

    def name_reader(self, reader: str) -> None:
        """Continue an unnamed read under a reader's name; raises as `CurrentRead.name_reader`."""
        self.current.name_reader(reader)
        self.decision_log.name_reader(reader)

    def set_other_aside(self, reader: str) -> str:
        """Save other decisions of a reader who continues the shown ones; return a notice, or ""."""
        analysis = self.session.state.analysis
        return "" if analysis is None else self.decision_log.set_other_aside(analysis, reader)

    @property
    def logs_what_is_shown(self) -> bool:
        """Whether the last decisions in the logs are those shown, and none is to be rated now."""
        analysis = self.session.state.analysis
        return (
            analysis is not None
            and self.saver.all_saved
            and self.marking.confidence is None
            and not self.decision_log.decided_elsewhere(analysis)
        )

    # --- closed ---------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the analysis must be hidden."""
        if self.read_session is None:
            return self.current.has_failed
        return self.read_session.is_analysis_hidden

    @property
    def analysis_shown(self) -> bool:
        """Whether the window shows an analysis."""
        return self.session.state.analysis is not None

    @property
    def withheld(self) -> Analysis | None:
        """The analysis withheld until the reader has signed."""
        return None if self._withheld is None else self._withheld[0].analysis

    def withhold(self, result: Result, overlays: Overlays) -> bool:
        """Withhold a result during an unaided read; False otherwise."""
        if not self.closed:
            return False
        if self.current.has_failed:
            self.session.decline(reads.NOT_BEGUN)
        self._withheld = (result, overlays)
        self.current.changed.emit()
        return True

    def sign_unaided(self) -> tuple[Result, Overlays] | None:
        """Sign the unaided read; return the withheld result, if any."""
        if not self.marking.sign():
            return None
        withheld, self._withheld = self._withheld, None
        if self.closed:
            self.session.notify("Signed. Go to the next study.")
            return None
        return withheld

    def limited_to_arm(self, result: Result, overlays: Overlays) -> tuple[Result, Overlays]:
        """Return a result and its overlays, limited to the arm of this read."""
        if self.read_session is None:
            return result, overlays
        return shown_in(self.read_session.key.arm, result, overlays)

    def is_list_result(self, folder: Path, analysis: Analysis) -> bool:
        """Whether an analysis that is limited to its arm would replace a result of the list."""
        if self.read_session is None or not analysis.findings.hides_reasons:
            return False
        list_folder = self.read_session.database.folder.resolve()
        return any(path.resolve() == list_folder for path in folder.absolute().parents)

    def with_unaided(self, review: Review) -> Review:
        """Return a review with the reader's signed unaided read."""
        signed = None if self.read_session is None else self.read_session.unaided_read()
        if signed is None or any(read.time == signed.time for read in review.unaided):
            return review
        return replace(review, unaided=(*review.unaided, signed))

    # --- changes of the session -----------------------------------------------------------

    def _on_changed(self, old: State, new: State) -> None:
        if new.study is not old.study:
            self._change_study(old, new)
            return
        self._record_findings_shown(new)
        previous_result, self._shown_result = self._shown_result, new.result
        is_other_result = previous_result is not self._shown_result
        if is_other_result:
            self.current.changed.emit()
            is_continued = new.review.continues(old.review)
            self.saver.retry(old, reads.SAVED_LATER if is_continued else reads.DECIDE_AGAIN)
        if new.analysis is None:
            return
        if is_other_result:
            self.decision_log.continue_from(new.analysis, new.review)
        elif new.review is not old.review:
            self.saver.save(new.analysis, reader_log.with_own_uids(new.analysis, new.review))
        elif old.activity is not None and new.activity is None and new.problem is None:
            self.saver.retry(new)  # the job's begin has cleared what was reported

    def _change_study(self, old: State, new: State) -> None:
        """End the read of the previous study, and begin that of the new one."""
        if new.study is None and self.session.suspended_study is old.study:
            self._suspended = _SuspendedRead(old.study, self.current.begun, self._withheld)
        self.saver.retry(old, reads.DECIDE_AGAIN)
        self.leave()
        if new.study is not None:
            suspended, self._suspended = self._suspended, _SuspendedRead()
            if new.study is suspended.study:
                self.expected, self._withheld = suspended.expected, suspended.withheld
                self._shown_result = new.result
            elif new.request is not None and new.request.in_place_of is suspended.study:
                self.expected = self.expected or suspended.expected
            expected, self.expected = self.expected, None
            self.current.begin(new.study, expected)
        self._record_findings_shown(new)
        self.marking.show_marks()

    def _record_findings_shown(self, state: State) -> None:
        shows_findings = state.analysis is not None or state.preliminary is not None
        if state.study is not None and shows_findings:
            self.current.record_findings_shown(state.study)
