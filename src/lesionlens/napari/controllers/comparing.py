"""Compare the open result with an earlier examination: find, register and show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lesionlens.analysis.findings.edits import applied
from lesionlens.analysis.followup.compare import PATIENT_UNKNOWN, compare, uids_after_comparison
from lesionlens.analysis.followup.patient import Prior, examination_of
from lesionlens.base.errors import CancelledError, PatientConflictError
from lesionlens.base.geometry import Affine
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import RunContext
from lesionlens.base.text import shown_day
from lesionlens.napari.controllers.mark_acts import MarkActs
from lesionlens.napari.model.choices.views import ComparisonImages, Layout
from lesionlens.napari.model.geometry.slices import plane_of_acquisition
from lesionlens.napari.model.wording.followup import missing_sequence_text
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.outline_digests import cached_outline_digests
from lesionlens.results.review.prior import PriorImagesError, find_prior, open_prior
from lesionlens.site.worklist import reader_log

_CHOOSE_IMAGES = (
    "Nothing is compared until you choose the folder of the earlier examination's images."
)
_TOLERANCE_VOX = 1e-2
"""Maximum offset from the working grid, in voxels, of an image that was not resampled."""
_STUDY_CHANGED = "Another study is open now: nothing was compared."
_RESULT_CHANGED = "The comparison was discarded: the result has changed meanwhile. Compare again."
_OUTLINE_DRAWN = (
    "The comparison was discarded: an outline is being drawn. Finish it and compare again."
)
_ONLY_IMAGES = "Only its images are shown. Compare again after signing to see the changes."
_CONFIRM_PATIENT = "Nothing is compared until you confirm that it is one patient."


class ComparingActs(MarkActs):
    """Acts that compare the open result with an earlier one."""

    jobs: Jobs

    def compare(self, path: Path, study: Path | None = None) -> bool:
        """Compare the open result with a prior one, and show its images beside.

        During an unaided read only the prior's images are shown, no findings of either examination.

        Parameters
        ----------
        path : Path
            Result folder, or a folder of results.
        study : Path or None
            Study of the result, if it was moved.
        """
        return self.leave_for(lambda: self._compare(path, study))

    def _compare(self, path: Path, study: Path | None, *, same_patient: bool = False) -> bool:
        """Compare in the background; a person may have confirmed that both are of one patient."""
        session, withheld = self.session, self.read_controller.withheld
        analysis = session.state.analysis or withheld
        if analysis is None:
            return session.decline(
                "Analyse the study first: the earlier one is registered to its result."
            )
        reader = self.read_controller.current.reader or ""

        def task(context: RunContext) -> tuple[Analysis, ComparisonImages]:
            context.progress("looking for the earlier examination", 0.0)
            located = find_prior(path, analysis.study, study, same_patient=same_patient)
            prior = _with_decisions(open_prior(located, context), reader)
            context.progress("registering it to this one", 0.0)
            current = examination_of(analysis.study)
            compared = compare(analysis, current, prior, context=context.quiet())
            return compared, prior_pictures(prior, compared)

        def on_result(value: tuple[Analysis, ComparisonImages]) -> str | None:
            compared, pictures = value
            if withheld is not None and session.state.analysis is None:
                if session.state.study is not analysis.study:
                    return "The comparison was discarded: its study is no longer open."
                pictures = replace(pictures, components=None)
                session.choose_views(compared=pictures, layout=Layout.PRIOR, swapped=False)
                missing = missing_sequence_text(session.state)
                return f"{_ONLY_IMAGES} {missing}".strip()
            current = session.state.analysis
            if current is None or current.findings is not analysis.findings:
                return _RESULT_CHANGED
            if session.state.editing is not None:
                return _OUTLINE_DRAWN
            uid_map = uids_after_comparison(current, compared)
            # also decisions that were made while the comparison was computed
            compared = replace(compared, review=current.review.renamed(uid_map))
            log = ReviewLog(compared.review, cached_outline_digests(compared))
            session.settle(log, compared, session.state.overlays, uid_map)
            session.choose_views(compared=pictures, layout=Layout.PRIOR, swapped=False)
            return missing_sequence_text(session.state) or None

        def retry() -> None:
            if session.state.study is analysis.study:
                self._compare(path, study, same_patient=True)
            else:
                session.decline(_STUDY_CHANGED)

        on_error = partial(self._handle_error, path, retry)
        return self.jobs.start("Comparing", task, on_result, on_error)

    def _handle_error(self, path: Path, retry: Callable[[], object], error: BaseException) -> None:
        """Ask for the decision that an error requires; otherwise show it, unless cancelled."""
        if isinstance(error, PriorImagesError):
            title = "Folder with the images of that earlier examination"
            when_idle(lambda: self.dialogs.ask_path(partial(self.compare, path), title))
            self.session.ended(_CHOOSE_IMAGES)
        elif isinstance(error, PatientConflictError):
            self.dialogs.ask_patient(error, retry)
            self.session.ended(_CONFIRM_PATIENT)
        elif not isinstance(error, CancelledError):
            self.session.failed(problem_of(error))


def _with_decisions(prior: Prior, reader: str) -> Prior:
    """Return a prior with the reader's decisions on it, as they are shown when it is opened."""
    key = reader_log.read_key_of_study(prior.analysis.study, reader)
    review = reader_log.recover_review(prior.analysis, key, reader_log.own_folder()).review
    return replace(prior, analysis=applied(replace(prior.analysis, review=review)))


def prior_pictures(prior: Prior, compared: Analysis) -> ComparisonImages:
    """Return the prior's images and outlines in the frame of this examination."""
    followup: Any = compared.followup
    to_current = np.linalg.inv(np.asarray(followup.alignment.matrix))
    prepared, study_name = prior.analysis.prepared, prior.analysis.study.name
    working = _transformed(prepared.working, to_current)
    return ComparisonImages(
        f"prior of {shown_day(prior.examination.date)}"
        if prior.examination.date
        else f"prior: {study_name}",
        {sequence: Volume(image, working) for sequence, image in prepared.images.items()},
        Volume(prior.analysis.findings.components, _transformed(prepared.native, to_current)),
        registration=_doubts(compared),
        resampled={
            sequence: note
            for sequence in prepared.images
            if (note := resampling_note(prior.analysis, sequence))
        },
    )


def _doubts(compared: Analysis) -> str:
    """Return what to check before trusting a prior beside this examination, one doubt a line."""
    followup: Any = compared.followup
    doubts = {
        "seems mirrored: check the sides": followup.alignment.mirrored,
        "registration doubtful": followup.alignment.doubtful,
        "patient not confirmed": PATIENT_UNKNOWN in compared.run.notices,
    }
    return "\n".join(text for text, applies in doubts.items() if applies)


def resampling_note(analysis: Analysis, *sequences: MrSequence) -> str:
    """Return a note on the slices that images were interpolated from; empty if none was resampled.

    Of several sequences, whose images were computed into one, the thickest slices are named.
    """
    resampled_sequences = [sequence for sequence in sequences if _is_resampled(analysis, sequence)]
    grids = [analysis.study.series[sequence].grid for sequence in resampled_sequences]
    thicknesses = [
        grid.spacing_mm.max() for grid in grids if plane_of_acquisition(grid) is not None
    ]
    if thicknesses:
        return f"interpolated from {max(thicknesses):.3g} mm slices"
    return "interpolated" if resampled_sequences else ""


def _is_resampled(analysis: Analysis, sequence: MrSequence) -> bool:
    prepared, acquired = analysis.prepared, analysis.study.series[sequence].grid
    voxels = np.linalg.inv(prepared.working.affine) @ acquired.affine
    # Slices of 3 mm also begin at voxels of 1 mm, but the two between them are interpolated.
    same_voxels = np.isclose(abs(np.linalg.det(voxels[:3, :3])), 1.0, atol=_TOLERANCE_VOX)
    on_grid = same_voxels and np.allclose(voxels, np.rint(voxels), atol=_TOLERANCE_VOX)
    return not on_grid or any(
        step.step is StepName.REGISTER and step.done and step.sequence is sequence
        for step in prepared.steps
    )


def _transformed(grid: Grid, transform: Affine) -> Grid:
    return replace(grid, affine=np.asarray(transform @ grid.affine))
