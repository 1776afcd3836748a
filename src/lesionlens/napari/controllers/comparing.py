"""Compare the open result with an earlier examination: find, register and show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lesionlens.analysis.findings.edits import applied
from lesionlens.analysis.followup.compare import compare, renamed_uids
from lesionlens.analysis.followup.patient import Prior, visit_of
from lesionlens.base.errors import CancelledError, PatientConflictError
from lesionlens.base.geometry import Affine
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import RunContext
from lesionlens.napari.controllers.opener import AskPatient
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.views import ComparedPictures, Layout
from lesionlens.napari.model.geometry.slices import plane_of_acquisition
from lesionlens.napari.preferences import read_preferences
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.prior import PriorImagesError, find_prior, open_prior
from lesionlens.results.review.seen import looked_up
from lesionlens.site.worklist import own_log

_NO_IMAGES = "Nothing is compared until you choose the folder of the earlier examination's images."
_SAME_VOX = 1e-2
"""Voxels by which an image may be off the working grid's voxels without having been resampled."""
_UNCONFIRMED = "Nothing is compared until you confirm that it is one patient."


@dataclass(frozen=True, slots=True)
class PriorChoice:
    """The reader's choice of a prior examination."""

    place: Path
    """Result folder, or a folder of results."""
    study: Path | None = None
    """Study of the result, if it was moved."""
    same_patient: bool = False
    """Whether a person confirmed that both are of one patient."""
    reader: str = ""
    """Whose decisions on it count, also those that the result does not hold."""


@dataclass(frozen=True, slots=True)
class PriorDialogs:
    """Dialogs for questions that only the reader can answer."""

    images: Callable[[Path], object] | None
    """Asks for the images of a result."""
    patient: AskPatient | None
    """Asks about contradicting identities."""

    def ask(
        self, error: BaseException, chosen: PriorChoice, again: Callable[[PriorChoice], object]
    ) -> str:
        """Ask the question raised by an error; `again` repeats the comparison with the answer.

        Returns
        -------
        str
            What the comparison waits for, for the reader; empty if the error raises no question.
        """
        if isinstance(error, PriorImagesError) and self.images is not None:
            self.images(chosen.place)
            return _NO_IMAGES
        if isinstance(error, PatientConflictError) and self.patient is not None:
            confirmed = replace(chosen, same_patient=True)
            self.patient(error, lambda: again(confirmed))
            return _UNCONFIRMED
        return ""


def compare_with(
    session: ReviewSession,
    jobs: Jobs,
    chosen: PriorChoice,
    closed: Analysis | None,
    asks: PriorDialogs,
) -> bool:
    """Compare the open result with a prior result (or a folder of results), in the background.

    During an unaided read only the prior's images are shown, no findings of either examination.

    Parameters
    ----------
    closed : Analysis or None
        Analysis withheld until the reader has signed.
    """
    analysis = session.state.analysis or closed
    if analysis is None:
        session.decline("Analyse the study first: the earlier one is registered to its result.")
        return False
    options = read_preferences().preparation

    def task(context: RunContext) -> tuple[Analysis, ComparedPictures]:
        context.progress("looking for the earlier examination", 0.0)
        found = find_prior(
            chosen.place, analysis.study, chosen.study, same_patient=chosen.same_patient
        )
        prior = _decided(open_prior(found, context, options), chosen.reader)
        context.progress("registering it to this one", 0.0)
        after = compare(analysis, visit_of(analysis.study), prior, context=context.quiet())
        return after, pictures_of(prior, after)

    def done(value: tuple[Analysis, ComparedPictures]) -> str | None:
        after, pictures = value
        if closed is not None and session.state.analysis is None:
            if session.state.study is not analysis.study:
                return "The comparison was discarded: another study is open."
            pictures = replace(pictures, components=None)
            session.choose_views(compared=pictures, layout=Layout.PRIOR, swapped=False)
            return "Only its images are shown. Compare again after signing to see the changes."
        shown = session.state.analysis
        if shown is None or shown.findings is not analysis.findings:
            return "The comparison was discarded: the result has changed meanwhile. Compare again."
        if session.state.editing is not None:
            return "The comparison was discarded: an outline is being drawn. Compare again after."
        names = renamed_uids(shown, after)
        after = replace(after, review=shown.review.renamed(names))  # decided while it was computed
        session.settle(
            ReviewLog(after.review, looked_up(after)), after, session.state.overlays, names
        )
        session.choose_views(compared=pictures, layout=Layout.PRIOR, swapped=False)
        return None

    def refused(error: BaseException) -> None:
        waits_for = asks.ask(
            error, chosen, lambda sure: compare_with(session, jobs, sure, closed, asks)
        )
        _show_refusal(session, error, waits_for)

    return jobs.start("Comparing", task, done, refused)


def _decided(prior: Prior, reader: str) -> Prior:
    """Return a prior with the reader's decisions on it, as they are shown when it is opened."""
    key = own_log.own_key(prior.analysis.study, reader)
    review = own_log.recovered(prior.analysis, key, own_log.own_folder()).review
    return replace(prior, analysis=applied(replace(prior.analysis, review=review)))


def _show_refusal(session: ReviewSession, error: BaseException, waits_for: str) -> None:
    """Show what the comparison waits for, else the failure, unless the reader cancelled."""
    if waits_for:
        session.ended(waits_for)
    elif not isinstance(error, CancelledError):
        session.failed(problem_of(error))


def pictures_of(prior: Prior, after: Analysis) -> ComparedPictures:
    """Return the prior's images and outlines in the frame of this examination."""
    found: Any = after.followup
    back = np.linalg.inv(np.asarray(found.alignment.matrix))
    prepared, named = prior.analysis.prepared, prior.analysis.study.name
    working = _moved(prepared.working, back)
    return ComparedPictures(
        f"prior of {prior.visit.date}" if prior.visit.date else f"prior: {named}",
        "prior",
        {sequence: Volume(image, working) for sequence, image in prepared.images.items()},
        Volume(prior.analysis.findings.components, _moved(prepared.native, back)),
        resampled={
            sequence: words
            for sequence in prepared.images
            if (words := resampled(prior.analysis, sequence))
        },
    )


def resampled(analysis: Analysis, *sequences: MrSequence) -> str:
    """Return from which slices images of the working grid were resampled; empty if none was.

    Of several sequences, whose images were computed into one, the thickest slices are named.
    """
    moved = [one for one in sequences if _is_resampled(analysis, one)]
    acquired = [analysis.study.series[one].grid for one in moved]
    thick = [one.spacing_mm.max() for one in acquired if plane_of_acquisition(one) is not None]
    if thick:
        return f"interpolated from {max(thick):.3g} mm slices"
    return "interpolated" if moved else ""


def _is_resampled(analysis: Analysis, sequence: MrSequence) -> bool:
    prepared, acquired = analysis.prepared, analysis.study.series[sequence].grid
    voxels = np.linalg.inv(prepared.working.affine) @ acquired.affine
    return not np.allclose(voxels, np.rint(voxels), atol=_SAME_VOX) or any(
        step.step is StepName.REGISTER and step.done and step.sequence is sequence
        for step in prepared.steps
    )


def _moved(grid: Grid, back: Affine) -> Grid:
    return replace(grid, affine=np.asarray(back @ grid.affine))
