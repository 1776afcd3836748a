"""All acts of a window; each calls the session or starts a job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel
from typing_extensions import override

from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import LesionLensError
from lesionlens.base.files import check_outside
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.review import Review
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.imaging import samples
from lesionlens.napari.controllers.comparing import ComparingActs
from lesionlens.napari.controllers.dialogs import Dialogs
from lesionlens.napari.controllers.edit_acts import EditActs
from lesionlens.napari.controllers.editor import OutlineEditor
from lesionlens.napari.controllers.lesion_adder import LesionAdder
from lesionlens.napari.controllers.loaded_lens import LoadedLens
from lesionlens.napari.controllers.network_requests import NetworkRequests
from lesionlens.napari.controllers.opener import Opener
from lesionlens.napari.controllers.other_image_acts import OtherImageActs
from lesionlens.napari.controllers.prompting import Prompting
from lesionlens.napari.controllers.reopening import reopen, study_of_other
from lesionlens.napari.controllers.report_acts import ReportActs
from lesionlens.napari.controllers.review_controller import ReviewController
from lesionlens.napari.controllers.units import install_units, read_units
from lesionlens.napari.loading import study_paths
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.choices import Overlay, after
from lesionlens.napari.model.overlays.maps import Overlays, overlays_of
from lesionlens.napari.model.state.state import ANALYSING, Request, State
from lesionlens.napari.model.wording import reads
from lesionlens.napari.model.wording.edits import missing_analysis_reason, missing_drawing
from lesionlens.napari.preferences import Preferences, read_preferences
from lesionlens.napari.qt.jobs import Jobs
from lesionlens.napari.qt.latest_request import LatestRequest, RequestKey
from lesionlens.napari.qt.threads import start_thread
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.results.review.reopen import is_mask, is_result, result_of

if TYPE_CHECKING:
    from lesionlens.results.result import Result

_DECIDED_SINCE = "It does not contain your decisions since then: export again."
_DECIDED_ELSEWHERE = (
    "It does not contain your decisions in another window: open the study again, then export."
)
_DRAWN_ELSEWHERE = "You are drawing an outline of this study in another window."
_COMPARE_AGAIN = "This result is not compared with the earlier examination yet: compare again."
_DISCARDED = "The result of {} was discarded: its study is no longer open."
_SHOWN_AFTER_OUTLINE = "The result is shown once the outline is finished (Shift+E) or discarded."
_LIST_RESULT = (
    "The list holds the whole result, and this arm shows only part of it: choose a folder "
    "outside the list."
)
_EXPORTING = "Exporting"
_STILL_EXPORTING = (
    "The result is being exported: wait until it finishes, or close again to stop it."
)
_ANOTHER_FOLDER = "Choose another folder, or make a new one for this study"


class Actions(EditActs, NetworkRequests, ReportActs, ComparingActs, OtherImageActs):
    """Every act of the reader.

    Parameters
    ----------
    latest_request : LatestRequest
        Runs requests that are repeated while a pointer or choice moves.
    viewer : ViewerModel
        Viewer that receives the layers and provides the pointer.
    """

    def __init__(
        self,
        session: ReviewSession,
        jobs: Jobs,
        latest_request: LatestRequest,
        viewer: ViewerModel,
        dialogs: Dialogs,
    ) -> None:
        super().__init__(session, viewer)
        self.jobs, self.latest_request, self.dialogs = jobs, latest_request, dialogs
        self.editor = OutlineEditor(viewer)
        self.opener = Opener(session, jobs, viewer, dialogs)
        self.review_controller = ReviewController(session, jobs, self.editor, self.read_controller)
        self.adder = LesionAdder(self.review_controller)
        self.prompting = Prompting(self.review_controller, LatestRequest(session, jobs))
        self.review_controller.ask_name = self.ask_name
        self.exported: Path | None = None
        self._is_close_noticed = False
        """Whether closing the window was refused because of this export."""
        self.loaded_lens = LoadedLens()
        self._waiting_result: tuple[Study, Callable[[], object]] | None = None
        """A result to show once the outline that is drawn on its study is done."""
        session.changed.connect(self._release_study)
        session.changed.connect(self._on_outline_done)
        session.changed.connect(self.set_copies_aside)

    # --- work in the background -----------------------------------------------------------

    def open(self, paths: Path | Sequence[Path]) -> bool:
        """Open a folder or file, or several as one study; an outline being drawn is kept."""
        return self.leave_study(lambda: self.opener.open(Request.of(paths)))

    def open_file(self, path: Path) -> bool:
        """Open the study of a file."""
        return self.open(study_paths((path,)) or (path,))

    def assign_sequences(self, named: Mapping[MrSequence, str | Path]) -> bool:
        """Reopen the study with series assigned to sequences by the reader."""
        return self.leave_study(lambda: self.opener.assign_sequences(named))

    def open_sample(self) -> bool:
        """Open the real sample patient."""
        return self.open(samples.STUDY)

    def close(self) -> bool:
        """Close the study and cancel its job; decisions are already stored in the user's folder."""

        def close() -> None:
            self.jobs.stop()
            self.session.close()

        return self.leave_study(close)

    def open_dropped(self, paths: tuple[Path, ...]) -> bool:
        """Open dropped paths: scans, a saved result or its files, or a mask of the open study.

        Those that are none of these are reported.
        """
        if self.session.refuses(self.jobs.busy_reason):
            return False
        mask = len(paths) == 1 and is_mask(paths[0])
        if mask and self.session.state.study is not None:
            return self.reopen(paths[0])
        result = result_of(paths)
        if result is not None:
            return self.reopen(result)
        if len(paths) > 1 and all(map(is_result, paths)):
            return self.session.decline("Several saved results were dropped: drop only one.")
        return self.open(paths if mask else study_paths(paths) or paths)

    def analyse(self) -> bool:
        """Analyse the open study."""
        may_replace = self.read_controller.saver.may_leave
        return self.leave_for(lambda: may_replace(reads.UNSAVED_ANALYSED) and self._analyse())

    def _analyse(self) -> bool:
        study = self.session.state.study
        if study is None:
            return False
        preferences = read_preferences()

        def task(context: RunContext) -> Any:
            context.progress("loading the network", 0.0)
            lens = self.loaded_lens.load(preferences.engine)
            result = lens(study, context=context, first=self.jobs.emit_partial)
            context.progress("preparing the overlays", 0.0)
            return result, overlays_of(result.analysis)

        def on_result(value: Any) -> str | None:
            if self.session.state.study is not study:
                return _DISCARDED.format(study.name)
            result, overlays = value
            if self.worklist is not None:
                self.worklist.store_result(result.analysis, preferences)
            self.show_result(result, overlays, preferences)
            return None

        def on_partial(preliminary: Any) -> None:
            if self.session.state.study is study and not self.read_controller.closed:
                self.session.preliminary_arrived(preliminary)
                shown = self.session.state.preliminary is preliminary
                if shown and preferences.overlay is not Overlay.OFF:
                    self.session.choose_overlay(Overlay.CONTOUR)

        return self.jobs.start(ANALYSING, task, on_result, on_partial=on_partial)

    @override
    def show_result(
        self, result: Result, overlays: Overlays, preferences: Preferences | None = None
    ) -> None:
        """Show a result, with decisions recovered after a crash.

        The result is withheld from the window during an unaided read, and while an outline of its
        study is drawn.
        """
        retry = partial(self.show_result, result, overlays, preferences)
        if self._waits_for_outline(result.analysis.study, retry) or self.read_controller.withhold(
            result, overlays
        ):
            return
        result, overlays = self.read_controller.limited_to_arm(result, overlays)
        review, message = self.read_controller.decision_log.review_of(result.analysis)
        self._show_with_decisions(review, message, result, overlays, preferences)

    def _waits_for_outline(self, study: Study, show: Callable[[], object]) -> bool:
        """Defer a result until the outline being drawn on its study is done; False if none is."""
        if self.session.state.study is not study or self.session.state.editing is None:
            return False
        self._waiting_result = study, show
        self.session.notify(_SHOWN_AFTER_OUTLINE)
        return True

    def _on_outline_done(self, _: State, new: State) -> None:
        """Show the waiting result soon, after what the reader does with the outline."""
        if self._waiting_result is not None and new.editing is None:
            when_idle(self._show_waiting_result)

    def _show_waiting_result(self) -> None:
        state = self.session.state
        if self._waiting_result is None or state.editing is not None:
            return
        study, show = self._waiting_result
        if study is self.session.suspended_study:
            return
        self._waiting_result = None
        if state.study is study:
            show()
        else:
            self.session.notify(_DISCARDED.format(study.name))

    def _show_with_decisions(
        self,
        review: Review,
        message: str,
        result: Result,
        overlays: Overlays,
        preferences: Preferences | None,
    ) -> None:
        """Show a result with its decisions; `message` states where they come from."""
        analysis, shown = result.analysis, self.session.state.analysis
        left = self.read_controller.decision_log.left_behind(analysis, review)
        compare = ""
        if shown is not None and shown.study is analysis.study:
            compare = _COMPARE_AGAIN if shown.followup and not analysis.followup else ""
        self.session.analysed(result, overlays, self.read_controller.with_unaided(review))
        self.read_controller.saver.store_own_shown()
        draft = self.review_controller.drafts.read(analysis)
        elsewhere = self.review_controller.drafts.is_drawn_elsewhere(analysis)
        drawn = _DRAWN_ELSEWHERE if elsewhere else ""
        outlines = self.review_controller.check_outlines()
        message = " ".join(filter(None, (message, left, compare, outlines, drawn)))
        overlay = (preferences or read_preferences()).overlay
        if overlay is not Overlay.OFF:
            self.session.choose_overlay(overlay)
        if message:
            self.session.notify(message)
        self.session.offer(draft)

    def preload_network(self) -> None:
        """Load the network and pint's units in advance."""
        self.latest_request.submit(RequestKey("units"), lambda *_: read_units(), install_units)
        # importing torch cannot be interrupted, so that the process waits for it at its end
        start_thread("lesionlens-network", self._load_network, is_daemon=False)

    def _load_network(self) -> None:
        with contextlib.suppress(LesionLensError):  # reported when the analysis is requested
            self.loaded_lens.load(read_preferences().engine)

    def _release_study(self, old: State, new: State) -> None:
        """Release what the engine cached of the study that is closed."""
        is_closed = old.study is not None and new.study is not old.study
        if is_closed and not new.analysing:
            self.loaded_lens.release_study()

    def export(self, folder: Path) -> bool:
        """Export the result and the review into a folder."""
        return self.leave_for(lambda: self._export(folder))

    def _export(self, folder: Path) -> bool:
        state = self.session.state
        if state.analysis is None:
            return False
        analysis, preferences = state.analysis, read_preferences()
        lacking = missing_drawing(state)
        if self.read_controller.is_list_result(folder, analysis):
            return self.session.decline(_LIST_RESULT)

        def task(context: RunContext) -> tuple[Review, tuple[str, ...]]:
            from lesionlens.results.export.exporter import save
            from lesionlens.results.review.earlier import check_result_name

            check_outside(analysis.study.root, folder)
            check_result_name(analysis.run.inputs, folder, in_window=_ANOTHER_FOLDER)
            earlier_warnings = set(analysis.warnings)
            options = preferences.with_report_settings(analysis.options)
            saved, warnings = save(replace(analysis, options=options), folder, context=context)
            new_warnings = tuple(w for w in warnings if w not in earlier_warnings)
            shown = {c.id: c.tracking_uid for c in analysis.network.findings.candidates}
            written = saved.network.findings.candidates
            shown_uids = {c.tracking_uid: shown[c.id] for c in written if c.id in shown}
            return saved.review.renamed(shown_uids), new_warnings

        def on_result(value: tuple[Review, tuple[str, ...]]) -> str:
            saved_review, export_warnings = value
            self.exported = folder
            study_locations.remember(analysis.run.inputs, analysis.study)
            sentences = (f"{warning}." for warning in export_warnings)
            hint = self._missing_decisions(analysis, saved_review)
            return " ".join(filter(None, (f"Saved in {folder.name}.", hint, lacking, *sentences)))

        self._is_close_noticed = False
        return self.jobs.start(_EXPORTING, task, on_result)

    def _missing_decisions(self, exported: Analysis, saved_review: Review) -> str:
        """Return which decisions on the open study an export lacks; empty if none.

        `saved_review` may also contain the decisions that were in the folder.
        """
        state, review = self.session.state, exported.review
        if state.study is not exported.study:
            return ""
        if (state.review.events, state.review.responses) != (review.events, review.responses):
            return _DECIDED_SINCE
        is_incomplete = self.read_controller.decision_log.decided_elsewhere(exported, saved_review)
        return _DECIDED_ELSEWHERE if is_incomplete else ""

    def reopen(self, path: Path) -> bool:
        """Show a saved result or a segmentation for review, opening its study first."""
        other_study = study_of_other(self.session.state.study, path)
        if other_study is None:
            return self.leave_study(lambda: reopen(self.opener, path, self.show_result))
        if self.session.refuses(self.jobs.busy_reason):
            return False
        question = (
            f"This result belongs to {other_study}. Close the open study, and open that one with "
            f"its result?"
        )

        def close_and_reopen() -> bool:
            if self.session.refuses(self.jobs.busy_reason):
                return False
            self.session.close()
            return self.reopen(path)

        self.dialogs.confirm(question, "Close and open", lambda: self.leave_study(close_and_reopen))
        return False

    def ask_prior(self) -> None:
        """Ask for an earlier result to compare with, also while this study's result is withheld."""
        state = self.session.state
        if state.analysis is None and self.read_controller.withheld is None:
            self.session.decline(f"{missing_analysis_reason(state, 'compare')}.")
        elif not self.session.refuses(self.jobs.busy_reason):
            title = "Compare with the result, or the latest result of the patient, in this folder"
            self.dialogs.ask_path(self.compare, title)

    # --- candidates and overlays ----------------------------------------------------------

    def go_to_candidate(self, candidate_id: int) -> None:
        """Go to a candidate; an outline of another one being drawn is kept first."""
        state, controller = self.session.state, self.review_controller
        if controller.holds_focus and state.analysis is not None:
            uids = {c.id: c.tracking_uid for c in state.analysis.findings.candidates}
            if candidate_id in uids:  # measuring the outline may renumber candidates
                controller.once_ready(partial(self._go_to_uid, uids[candidate_id]))
        elif candidate_id != state.editing:
            self.leave_for(lambda: self.session.go_to_candidate(candidate_id))

    def _go_to_uid(self, tracking_uid: str) -> None:
        analysis = self.session.state.analysis
        if analysis and (candidate := analysis.findings.candidate_of(tracking_uid)):
            self.go_to_candidate(candidate.id)

    def step_candidate(self, by: int) -> None:
        """Go forward or back by a number of candidates."""
        if self.review_controller.holds_focus:
            self.review_controller.once_ready(partial(self.step_candidate, by))
        else:
            self.leave_for(lambda: self.session.step(by))

    @override
    def leave_for(self, act: Callable[[], object]) -> bool:
        """Store a typed reason and an outline being drawn, then act."""
        self.review_controller.store_reason()
        return self.review_controller.after_edit(lambda: act() is not False)

    def leave_study(self, act: Callable[[], object]) -> bool:
        """Store unsaved work, then act, which may replace the study or its result."""
        return self.leave_for(lambda: self.may_leave() and act())

    def may_leave(self) -> bool:
        """Whether nothing unsaved would be lost; else refuse once, with a message."""
        return self.review_controller.may_leave() and self.read_controller.saver.may_leave()

    def may_close(self) -> bool:
        """Whether the window may close; else refuse once, also during an export.

        Closing stops an export, and no window would be left to say so.
        """
        activity = self.session.state.activity
        is_exporting = activity is not None and activity.name == _EXPORTING
        if is_exporting and not self._is_close_noticed:
            self._is_close_noticed = True
            return self.session.decline(_STILL_EXPORTING)
        return self.may_leave()

    def toggle_overlay(self) -> None:
        """Switch the overlay on (contours) or off."""
        current = self.session.state.choices.overlay
        self.session.choose_overlay(Overlay.CONTOUR if current is Overlay.OFF else Overlay.OFF)

    def next_overlay(self) -> None:
        """Switch between contours, and contours with the map."""
        current = self.session.state.choices.overlay
        if not self.is_drawing():
            self.session.choose_overlay(Overlay.CONTOUR if current is Overlay.MAP else Overlay.MAP)

    def next_region(self) -> None:
        """Show the next region: whole tumour, tumour core, with T1c enhancing tumour."""
        analysis, current = self.session.state.analysis, self.session.state.choices.region
        regions = tuple(Region) if analysis is None else analysis.prepared.regions
        self.session.choose_region(after(regions, current))
