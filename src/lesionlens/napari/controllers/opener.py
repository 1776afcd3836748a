"""Open studies in the background, and ask the reader if a decision is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari.components import ViewerModel

from lesionlens.base.errors import CancelledError, PatientConflictError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import counted
from lesionlens.imaging.reading.open import SeveralStudiesError, UndecidedSeriesError
from lesionlens.napari.controllers.dialogs import Dialogs
from lesionlens.napari.model.acts.session import OPENING, ReviewSession
from lesionlens.napari.model.state.state import Problem, Query, Request
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.results.review.reopen import results_in
from lesionlens.site.database.worklist_database import is_worklist_folder

CONFIRM_PATIENT = "The study is not opened until you confirm that it is one patient."


class Opener:
    """Opens studies into a viewer, one at a time."""

    def __init__(
        self, session: ReviewSession, jobs: Jobs, viewer: ViewerModel, dialogs: Dialogs
    ) -> None:
        self.session, self.jobs, self.viewer = session, jobs, viewer
        self._dialogs = dialogs
        self.images_loaded: Callable[[], object] = lambda: None
        """Called when the first image is loaded."""

    def open(self, request: Request, then: Callable[[], object] | None = None) -> bool:
        """Open a request, then call `then` once the window is idle; False if a job is running."""

        def task(context: RunContext) -> Any:
            from lesionlens.napari.loading import read_study

            return read_study(
                request.paths,
                named=request.named,
                study_uid=request.study_uid,
                same_patient=request.same_patient,
                result=request.result,
                context=context,
            )

        def on_result(layer_data: list[Any]) -> None:
            from napari.layers import Layer

            study = layer_data[0][1]["metadata"]["lesionlens"]["study"] if layer_data else None
            if study is not None:
                self.session.open(study, _of_same_study(request, study))
            layers = self.viewer.layers
            for number, data in enumerate(reversed(layer_data)):  # the reference sequence first
                layers.insert(len(layers) - number, Layer.create(*data))
                if number == 0:
                    self.images_loaded()
            self.session.restore_suspended()  # if nothing was found
            if study is not None:
                own_layers = layers[-len(layer_data) :]
                layers.selection.active = next(layer for layer in own_layers if layer.visible)
                if then is not None:
                    when_idle(then)

        if not self.jobs.running:
            self.session.suspend()

        return self.jobs.start(
            "Opening", task, on_result, lambda error: self.handle_error(request, error, then)
        )

    def handle_error(
        self, request: Request, error: BaseException, then: Callable[[], object] | None = None
    ) -> None:
        """Ask the reader if a decision is missing; otherwise show the error and the old study."""
        count = _count_results(request) if isinstance(error, UnusableInputError) else 0
        if count:
            self.session.restore_suspended()
            self.session.failed(_results_problem(request.paths[0], count))
        elif isinstance(error, SeveralStudiesError) and request.study_uid is None:
            self.session.ask(Query(request, studies=error.studies))
        elif isinstance(error, UndecidedSeriesError):
            problem = Problem(
                "Which sequence is which?",
                found=error.found,
                expected=error.expected,
                next_step="Assign the sequences below",
            )
            self.session.ask(Query(request, study=error.study), problem)
        else:
            self.session.restore_suspended()
            if isinstance(error, PatientConflictError):
                confirmed = replace(request, same_patient=True)
                self.session.ended(CONFIRM_PATIENT)
                self._dialogs.ask_patient(error, lambda: self.open(confirmed, then))
            elif not isinstance(error, CancelledError):
                self.session.failed(problem_of(error, OPENING))

    def choose_study(self, uid: str) -> bool:
        """Open the study chosen among several."""
        query = self.session.state.query
        if query is None:
            return False
        dates = {study.uid: study.date for study in query.studies}
        return self.open(replace(query.request, study_uid=uid, date=dates.get(uid, "")))

    def assign_sequences(self, named: Mapping[MrSequence, Path | str]) -> bool:
        """Reopen the study with series assigned to sequences by the reader."""
        state = self.session.state
        if state.query is not None and state.query.study is not None:
            return self.open(replace(state.query.request, named=named))
        if state.study is None:
            return False
        return self.open(replace(again(state.study, state.request), named=named))


def again(study: Study, request: Request | None) -> Request:
    """Return a request to open the open study again, as `request` opened it, with other series."""
    request = request or Request((study.root,), study_uid=study.selection)
    return replace(request, named={}, result=None, in_place_of=study)


def _of_same_study(request: Request, study: Study) -> Request:
    """Return a request, in place of the open study only if that is the study it has opened."""
    replaced_study = request.in_place_of
    if replaced_study is None or replaced_study.selection == study.selection:
        return request
    return replace(request, in_place_of=None)


def _count_results(request: Request) -> int:
    """Return the number of saved results in a folder; 0 if it has other subfolders too."""
    folder = request.paths[0]
    try:
        if len(request.paths) > 1 or not folder.is_dir():
            return 0
        subfolders = [
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        ]
        results = results_in(folder)
    except OSError:  # a forbidden folder, which the error names
        return 0
    return len(results) if set(subfolders) == set(results) else 0


def _results_problem(folder: Path, count: int) -> Problem:
    """Return the problem of opening a folder of results as a study; that of a batch is a list."""
    return Problem(
        "This folder holds results",
        found=f"{counted(count, 'saved result')} in {folder.name!r}, and no images",
        expected="a study, or one result",
        next_step="Open one of its folders; or all of them as a list: Open…, Worklist…, List ▾"
        if is_worklist_folder(folder)
        else "Open one of its folders",
        cause=OPENING,
    )
