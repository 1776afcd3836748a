"""Compare the open result with an earlier examination: find, register and show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from lesionlens.base.records.study import StepName, Study
from lesionlens.base.run_context import RunContext
from lesionlens.napari.controllers.opener import AskPatient
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.views import ComparisonImages, Layout
from lesionlens.napari.model.geometry.slices import plane_of_acquisition
from lesionlens.napari.preferences import read_preferences
from lesionlens.napari.qt.jobs import Jobs, problem_of
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
_OUTLINE_DRAWN = (
    "The comparison was discarded: an outline is being drawn. Finish it and compare again."
)
_CONFIRM_PATIENT = "Nothing is compared until you confirm that it is one patient."


@dataclass(frozen=True, slots=True)
class PriorChoice:
    """The reader's choice of a prior examination."""

    path: Path
    """Result folder, or a folder of results."""
    study: Path | None = None
    """Study of the result, if it was moved."""
    same_patient: bool = False
    """Whether a person confirmed that both are of one patient."""
    reader: str = ""
    """Reader whose decisions on it count, including those stored outside the result."""


@dataclass(frozen=True, slots=True)
class PriorDialogs:
    """Dialogs for decisions that only the reader can make."""

    images: Callable[[Path], object]
    """Asks for the images of a result."""
    patient: AskPatient | None
    """Asks about contradicting identities."""

    def ask(
        self, error: BaseException, choice: PriorChoice, retry: Callable[[PriorChoice], object]
    ) -> str:
        """Show the dialog that an error requires; `retry` repeats the comparison with the answer.

        Returns
        -------
        str
            Message that names the missing decision; empty if the error requires none.
        """
        if isinstance(error, PriorImagesError):
            self.images(choice.path)
            return _CHOOSE_IMAGES
        if isinstance(error, PatientConflictError) and self.patient is not None:
            confirmed = replace(choice, same_patient=True)
            self.patient(error, lambda: retry(confirmed))
            return _CONFIRM_PATIENT
        return ""


def compare_with_prior(
    session: ReviewSession,
    jobs: Jobs,
    choice: PriorChoice,
    withheld: Analysis | None,
    dialogs: PriorDialogs,
) -> bool:
    """Compare the open result with a prior result (or a folder of results), in the background.

    During an unaided read only the prior's images are shown, no findings of either examination.
    `withheld` is an analysis withheld until the reader has signed.
    """
    analysis = session.state.analysis or withheld
    if analysis is None:
        session.decline("Analyse the study first: the earlier one is registered to its result.")
        return False
    options = read_preferences().preparation

    def task(context: RunContext) -> tuple[Analysis, ComparisonImages]:
        context.progress("looking for the earlier examination", 0.0)
        located = find_prior(
            choice.path, analysis.study, choice.study, same_patient=choice.same_patient
        )
        prior = _with_decisions(open_prior(located, context, options), choice.reader)
        context.progress("registering it to this one", 0.0)
        compared = compare(analysis, examination_of(analysis.study), prior, context=context.quiet())
        return compared, prior_pictures(prior, compared)

    def on_result(value: tuple[Analysis, ComparisonImages]) -> str | None:
        compared, pictures = value
        if withheld is not None and session.state.analysis is None:
            if session.state.study is not analysis.study:
                return "The comparison was discarded: its study is no longer open."
            pictures = replace(pictures, components=None)
            session.choose_views(compared=pictures, layout=Layout.PRIOR, swapped=False)
            return "Only its images are shown. Compare again after signing to see the changes."
        current = session.state.analysis
        if current is None or current.findings is not analysis.findings:
            return "The comparison was discarded: the result has changed meanwhile. Compare again."
        if session.state.editing is not None:
            return _OUTLINE_DRAWN
        uid_map = uids_after_comparison(current, compared)
        # also decisions that were made while the comparison was computed
        compared = replace(compared, review=current.review.renamed(uid_map))
        session.settle(
            ReviewLog(compared.review, cached_outline_digests(compared)),
            compared,
            session.state.overlays,
            uid_map,
        )
        session.choose_views(compared=pictures, layout=Layout.PRIOR, swapped=False)
        return None

    def retry(confirmed: PriorChoice) -> None:
        compare_with_prior(session, jobs, confirmed, withheld, dialogs)

    def on_error(error: BaseException) -> None:
        awaited = dialogs.ask(error, choice, _if_open(session, analysis.study, retry))
        _show_refusal(session, error, awaited)

    return jobs.start("Comparing", task, on_result, on_error)


def _if_open(
    session: ReviewSession, study: Study, act: Callable[[PriorChoice], object]
) -> Callable[[PriorChoice], object]:
    """Wrap an act so that it is refused if `study` is no longer open."""

    def guarded(choice: PriorChoice) -> None:
        if session.state.study is study:
            act(choice)
        else:
            session.decline(_STUDY_CHANGED)

    return guarded


def _with_decisions(prior: Prior, reader: str) -> Prior:
    """Return a prior with the reader's decisions on it, as they are shown when it is opened."""
    key = reader_log.read_key_of_study(prior.analysis.study, reader)
    review = reader_log.recover_review(prior.analysis, key, reader_log.own_folder()).review
    return replace(prior, analysis=applied(replace(prior.analysis, review=review)))


def _show_refusal(session: ReviewSession, error: BaseException, awaited: str) -> None:
    """Show what the comparison waits for, else the failure, unless the reader cancelled."""
    if awaited:
        session.ended(awaited)
    elif not isinstance(error, CancelledError):
        session.failed(problem_of(error))


def prior_pictures(prior: Prior, compared: Analysis) -> ComparisonImages:
    """Return the prior's images and outlines in the frame of this examination."""
    followup: Any = compared.followup
    to_current = np.linalg.inv(np.asarray(followup.alignment.matrix))
    prepared, study_name = prior.analysis.prepared, prior.analysis.study.name
    working = _transformed(prepared.working, to_current)
    return ComparisonImages(
        f"prior of {prior.examination.date}" if prior.examination.date else f"prior: {study_name}",
        "prior",
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
