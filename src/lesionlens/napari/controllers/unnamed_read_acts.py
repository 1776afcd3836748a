"""Whose read it is that a reader without a name began in an earlier session.

Two readers without a name would become one in the log. Until the reader has said whose the earlier
decisions are, none of them is shown and a result is withheld.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.model.state.identity import StudyIdentity
from lesionlens.napari.preferences import keep_reader
from lesionlens.results.review import drafts

_CONTINUES = "You continue this read as {}."
_OWN = "Your own read begins, as {}. What the unnamed reader decided stays in the log."


@dataclass(frozen=True, slots=True)
class ReadOwner:
    """The reader's answer."""

    reader: str
    """Name of the reader; not empty."""
    mine: bool
    """Whether the earlier read is theirs."""


AskReadOwner = Callable[[StudyIdentity, str, Callable[[ReadOwner | None], object]], object]
"""Takes the time of the unnamed reader's last act, ISO 8601, UTC. Asks the reader, and calls back;
None if the reader stays unnamed."""


class UnnamedReadActs(MarkActs):
    """Asks for the reader's name before a second read begins."""

    ask_owner: AskReadOwner
    """Set by the window."""

    def watch_unnamed_reads(self) -> None:
        """Ask whenever a study is opened that an unnamed reader read in an earlier session."""
        self._show_then: Callable[[ReadOwner | None], object] | None = None
        self.read_controller.unnamed_found.connect(self._ask)

    def _ask(self, time: str) -> None:
        study = self.session.state.study
        if study is None:
            return
        identity = self.session.state.identity
        self.ask_owner(identity, time, lambda owner: self._settle(study, owner))

    def withheld(self, analysis: Analysis, again: Callable[[], object]) -> bool:
        """Withhold a result until the reader has answered; False if nothing was asked."""
        if not self.read_controller.asking:
            return False

        def then(owner: ReadOwner | None) -> None:
            _hand_over(analysis, owner)
            again()

        self._show_then = then
        return True

    def asked_for_owner(
        self,
        analysis: Analysis,
        found: Review,
        show: Callable[[], object],
        again: Callable[[], object],
    ) -> bool:
        """Ask whose the decisions are that were found in the log; False if that is known.

        Parameters
        ----------
        analysis, found
            The result to show, and its decisions in the log.
        show, again : callable
            Show the result with these decisions, or with those of the reader who is named then.
        """
        if not self.read_controller.of_another_session(analysis, found):
            return False

        def then(owner: ReadOwner | None) -> None:
            _hand_over(analysis, owner)
            if owner is None or owner.mine:
                show()
            else:
                again()

        self._show_then = then
        self.read_controller.ask_owner(found.events[-1].time)
        return True

    def _settle(self, study: Study, owner: ReadOwner | None) -> None:
        show, self._show_then = self._show_then, None
        if self.session.state.study is not study:
            return
        if owner is not None:
            keep_reader(owner.reader)
            if self.worklist is not None:
                self.worklist.name_reader(owner.reader)
        self.read_controller.settle(
            None if owner is None else owner.reader, mine=owner is None or owner.mine
        )
        if show is not None:
            show(owner)
        if owner is not None and owner.mine:
            self.read_controller.take_over()
        if owner is not None:
            self.session.notify((_CONTINUES if owner.mine else _OWN).format(owner.reader))


def _hand_over(analysis: Analysis, owner: ReadOwner | None) -> None:
    """Assign interrupted strokes to the reader who continues the read."""
    if owner is not None and owner.mine:
        drafts.assign_draft(analysis, owner.reader)
