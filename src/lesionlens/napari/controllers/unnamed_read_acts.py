"""Ask for the owner of a read that an unnamed reader began in an earlier session.

Two unnamed readers cannot be told apart in the log. Until the owner is known, no earlier decision
is shown and results are withheld.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lesionlens.base.errors import LesionLensError
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.napari.controllers.dialogs import ReadOwner
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.model.wording import reads
from lesionlens.napari.preferences import store_reader
from lesionlens.results.review import drafts

_CONTINUES = "You continue this read as {}."
_OWN = "Your own read begins, as {}. The unnamed reader's decisions stay in the log."


class UnnamedReadActs(MarkActs):
    """Asks for the reader's name before a second read begins."""

    def watch_unnamed_reads(self) -> None:
        """Ask whenever a study is opened that an unnamed reader read in an earlier session."""
        self._after_answer: Callable[[ReadOwner | None], object] | None = None
        self.read_controller.unnamed_reads.found.connect(self._ask)

    def _ask(self, time: str) -> None:
        state = self.session.state
        answer = partial(self._apply_answer, state.study)
        self.dialogs.ask_owner(state.identity, time, answer)

    def withhold_until_answered(self, analysis: Analysis, retry: Callable[[], object]) -> bool:
        """Withhold a result until the reader has answered; False if nothing was asked."""
        if not self.read_controller.unnamed_reads.asking_owner:
            return False

        def then(owner: ReadOwner | None) -> None:
            _assign_draft(analysis, owner)
            retry()

        self._after_answer = then
        return True

    def ask_for_owner(
        self,
        analysis: Analysis,
        logged: Review,
        show: Callable[[], object],
        retry: Callable[[], object],
    ) -> bool:
        """Ask for the owner of decisions found in the log; False if the owner is known.

        Parameters
        ----------
        analysis, logged
            The result to show, and its decisions in the log.
        show, retry : callable
            Show the result with these decisions, or again with those of the named reader.
        """
        if not self.read_controller.unnamed_reads.of_another_session(analysis, logged):
            return False

        def then(owner: ReadOwner | None) -> None:
            _assign_draft(analysis, owner)
            if owner is None or owner.owns_read:
                show()
            else:
                retry()

        self._after_answer = then
        self.read_controller.unnamed_reads.ask_owner(logged.events[-1].time)
        return True

    def _apply_answer(self, study: Study | None, owner: ReadOwner | None) -> None:
        after_answer, self._after_answer = self._after_answer, None
        if study is None or self.session.state.study is not study:
            return
        controller, failure = self.read_controller, None
        controller.unnamed_reads.end_question()
        if owner is not None and owner.owns_read:
            try:
                controller.name_reader(owner.reader)
            except LesionLensError as error:  # the read stays unnamed
                owner, failure = None, error
        elif owner is not None:
            controller.current.begin_again(study, owner.reader)
        if owner is not None:
            store_reader(owner.reader)
            if self.worklist is not None:
                self.worklist.name_reader(owner.reader)
        controller.marking.show_marks()
        if after_answer is not None:
            after_answer(owner)
        if failure is not None:
            controller.current.report_unsaved(failure, reads.ASKED_AGAIN)
        elif owner is not None and not controller.current.has_failed:
            self._report_owner(owner)

    def _report_owner(self, owner: ReadOwner) -> None:
        """Notify whose read goes on; store the decisions that the reader continues."""
        notice = ""
        if owner.owns_read:
            notice = self.read_controller.set_other_aside(owner.reader)
            self.read_controller.saver.store_shown()
        message = (_CONTINUES if owner.owns_read else _OWN).format(owner.reader)
        self.session.notify(" ".join(filter(None, (message, notice))))


def _assign_draft(analysis: Analysis, owner: ReadOwner | None) -> None:
    """Assign interrupted strokes to the reader who continues the read."""
    if owner is not None and owner.owns_read:
        drafts.assign_draft(analysis, owner.reader)
