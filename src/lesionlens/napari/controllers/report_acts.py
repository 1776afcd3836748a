"""Sentences to paste, and the signed response."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lesionlens.analysis.followup import sums
from lesionlens.base.errors import LesionLensError
from lesionlens.base.records.followup import Comparison
from lesionlens.base.records.response import Response
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.napari.controllers.sign_acts import RESULT_CHANGED, STUDY_CHANGED, SignActs
from lesionlens.napari.model.wording.edits import SIGNED
from lesionlens.napari.preferences import read_preferences
from lesionlens.results.export.sentence import Sentences, read_template
from lesionlens.results.review.log import now

_DIAMETER_LEFT = "You left candidate {} while dragging its diameter: its diameters are unchanged."


class ReportActs(SignActs):
    """Acts on signatures, sentences, response and diameters."""

    def copy_sentence(self, *, whole: bool = False) -> None:
        """Copy the candidate in focus as a sentence; else, or if `whole`, the study.

        An outline being drawn is kept first, as the sentence has its measurements.
        """
        self.leave_for(lambda: self._copy_sentence(whole=whole))

    def _copy_sentence(self, *, whole: bool) -> None:
        state, candidate = self.session.state, self.session.state.focused
        if state.analysis is None:
            self.session.decline("There is no result to describe in a sentence yet.")
            return
        preferences = read_preferences()
        template_path = preferences.sentence_template
        try:
            template = read_template(Path(template_path)) if template_path else ""
            sentences = Sentences(state.analysis, template)
            text = sentences.of_study() if whole or candidate is None else sentences.of(candidate)
        except LesionLensError as error:
            self.session.decline(str(error))
            return
        self.dialogs.copy_text(text)
        self.session.notify(f"Copied: {text}")

    def assess_response(self) -> None:
        """Show the sums of the targets, for the reader to sign a response category."""
        self.leave_for(self._assess_response)

    def _assess_response(self) -> None:
        state, comparison = self.session.state, self._comparison()
        if comparison is None:
            self.session.decline(
                "Compare with an earlier result first: a response needs two examinations."
            )
            return
        if not self.review_controller.may_sign_response():
            return
        reader = self.review_controller.reader or ""
        sign = partial(self._sign_response, state.study, comparison)
        self.dialogs.ask_response(comparison, state.identity, reader, sign)

    def _comparison(self) -> Comparison | None:
        """Return the comparison with the decisions that are shown; None if there is none."""
        analysis = self.session.state.analysis
        return None if analysis is None else analysis.compared

    def _sign_response(
        self,
        study: Study | None,
        comparison: Comparison,
        baseline: int,
        category: Response,
        reader: str,
    ) -> None:
        """Store the response, unless study or comparison changed; a name is kept as in `sign`."""
        if self.session.state.study is not study:
            self.session.decline(STUDY_CHANGED)
            return
        if not self.review_controller.may_sign_response():
            return
        if self._comparison() != comparison:
            self.session.decline(RESULT_CHANGED)
            return
        notice = self._name_reader(reader)
        if notice is None:
            return
        signed = sums.sign(comparison, baseline, category, reader, now())
        if self.review_controller.sign_response(signed):
            message = f"Response signed by {signed.reader}: {category}."
            self.session.notify(f"{message} {notice}".strip())

    def withdraw_response(self) -> None:
        """Ask for a reason, then withdraw the signed response."""
        self.leave_for(self._ask_to_withdraw)

    def _ask_to_withdraw(self) -> None:
        review = self.session.state.review
        signed = review.response
        if signed is None or review.signed is not None:
            self.session.decline(
                "There is no signed response to withdraw." if signed is None else f"{SIGNED}."
            )
            return

        def is_unchanged(review: Review) -> bool:
            return review.response == signed and review.signed is None

        def withdraw(reason: str) -> None:
            self.review_controller.withdraw_response(reason)
            self.session.notify("The response is withdrawn.")

        subject = f"response {signed.category}, {signed.reader}"
        self._ask_reason(subject, is_unchanged, withdraw)

    def keep_rulers(self) -> None:
        """Store the diameters dragged by the reader."""
        dragged, candidate = self.views.dragged, self.session.state.focused
        if dragged is None:
            return
        self.session.choose_views(dragged=None)  # else they would be shown again, and not be kept
        if candidate is None or dragged.candidate != candidate.id:
            self.session.decline(_DIAMETER_LEFT.format(dragged.candidate))
            return
        first, second = dragged.rulers
        ends = (first.start, first.end), (second.start, second.end)
        self.review_controller.place_diameters(candidate.tracking_uid, ends)
