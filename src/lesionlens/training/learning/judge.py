"""Compare old and new weights on held-out patients and on synthetic brains."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import nibabel as nib

from lesionlens.analysis.evaluation.cases import Case
from lesionlens.analysis.evaluation.evaluate import SEGMENTATION, score_case
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.atomic_file import atomic_file
from lesionlens.base.errors import CancelledError, ReadError
from lesionlens.base.records.parts import MEASURED, ORIGINAL, check_parts, read_run_file
from lesionlens.base.run_context import RunContext
from lesionlens.engines.choice import EngineChoice
from lesionlens.engines.device import choose
from lesionlens.network import weights as weight_files
from lesionlens.network.synth.draw import DrawConfig
from lesionlens.results.export.run import read_run_json
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.cohort.work import CohortChoice, analyse
from lesionlens.site.database.records import Status
from lesionlens.training.config import TrainConfig
from lesionlens.training.learning.signed_reviews import SignedReview
from lesionlens.training.validate import validate_each

_CONVENTION = "brats24"  # the contract's own labels
_READ = (SEGMENTATION, "candidates.nii.gz", "findings.json", "run.json")
_MAPS = ("probability_*.nii.gz", "attention_*.nii.gz")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two sets of weights."""

    name: str
    """Name of its results folder: before or after."""
    weights: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Judge:
    """Where results are computed and stored."""

    results: Path
    """Folder of the reviewed results."""
    folder: Path
    """Receives a result for each held-out case and side, and the references."""
    network: EngineChoice
    """Device, precision and threads."""

    def score(
        self, reviews: Sequence[SignedReview], side: Side, context: RunContext
    ) -> list[CaseScore]:
        """Analyse held-out cases and score them against the signed outlines; resumable.

        Raises
        ------
        CancelledError
            The user asked to stop; complete results are kept.
        """
        scores = []
        for number, review in enumerate(reviews):
            context.check("judging")
            name = review.case.name
            context.progress(f"{side.name}: {name}", number / len(reviews))
            place = self.folder / side.name / name
            if not _complete(place, side) and not self._reused(name, place, side):
                job = StudyJob(name, review.study, place)
                outcome = analyse(
                    job,
                    CohortChoice(replace(self.network, weights=str(side.weights))),
                    context.quiet(),
                )
                if outcome.status is Status.STOPPED:
                    raise CancelledError("judging")
            scores.append(score_case(self._case(review), place, _CONVENTION))
        return scores

    def _reused(self, name: str, place: Path, side: Side) -> bool:
        """Reuse the reviewed result if these weights made it."""
        reviewed = self.results / name
        if _made_by(reviewed) != side.sha256 or _package(reviewed) != version("lesionlens"):
            return False
        patterns = (*_READ, *_MAPS, f"{ORIGINAL}/*")
        for file in (p for pattern in patterns for p in sorted(reviewed.glob(pattern))):
            target = place / file.relative_to(reviewed)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        return True

    def _case(self, review: SignedReview) -> Case:
        """Write the reference, and return the case for `evaluation.evaluate`."""
        place = self.folder / "truth" / review.case.name / f"{review.case.key[:16]}_seg.nii.gz"
        if not place.is_file():
            labels, grid = review.case.truth()
            with atomic_file(place) as aside:
                nib.save(nib.Nifti1Image(labels, grid.affine), aside)
        return Case(review.case.name, review.case.patient, {}, place, _CONVENTION)


def _complete(place: Path, side: Side) -> bool:
    """Return whether these weights made a result there; one with changed files is removed."""
    if _made_by(place) != side.sha256:
        return False
    try:
        check_parts(place, read_run_file(place), MEASURED)
    except ReadError:
        shutil.rmtree(place)
        return False
    return True


def _made_by(place: Path) -> str | None:
    """Return the SHA-256 of the weights that made a result; None if there is no result."""
    found = read_run_json(place).get("weights_sha256")
    return None if found is None else str(found)


def _package(place: Path) -> str:
    return str(read_run_json(place).get("versions", {}).get("lesionlens"))


def synthetic_metrics(
    side: Side, recipe: TrainConfig, volumes: int, network: EngineChoice, context: RunContext
) -> list[dict[str, float]]:
    """Return metrics of one pass on synthetic brains that were not used for training.

    Parameters
    ----------
    side : Side
        The weights.
    recipe : TrainConfig
        Its last stage defines the grid.
    volumes : int
        Number of brains.
    network : EngineChoice
        Device and precision.
    context : RunContext
        Reports progress and is checked for cancellation before each.
    """
    place = choose(network.device)
    judged, _ = weight_files.load(side.weights, place)
    stage = recipe.stages[-1]
    grid = DrawConfig(shape=stage.shape, spacing_mm=stage.spacing_mm)
    found = []
    for number in range(volumes):
        context.check("judging on synthetic brains")
        context.progress(f"{side.name}: synthetic brain {number + 1}", number / volumes)
        figures, _ = next(validate_each(judged, grid, [number], place, network.precision))
        found.append(figures)
    return found
