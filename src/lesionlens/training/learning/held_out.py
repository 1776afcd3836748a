"""Compare old and new weights on held-out patients and on synthetic brains."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import nibabel as nib

from lesionlens.analysis.evaluation.cases import Case
from lesionlens.analysis.evaluation.score_case import score_case
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.errors import CancelledError, ReadError
from lesionlens.base.files.access import make_folder, restrict
from lesionlens.base.files.atomic_file import atomic_file
from lesionlens.base.records.parts import MAPS, MEASURED, check_parts, read_run_file
from lesionlens.base.run_context import RunContext
from lesionlens.engines.device import choose, choose_precision
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.network import weights as weight_files
from lesionlens.network.synth.generator import GeneratorConfig
from lesionlens.site.cohort.studies import StudyJob
from lesionlens.site.cohort.work import CohortChoice, analyse
from lesionlens.site.database.records import Status
from lesionlens.site.database.study_files import holds_inputs_of
from lesionlens.training.config import TrainConfig
from lesionlens.training.learning.signed_reviews import SignedReview
from lesionlens.training.validate import validate_each

_CONVENTION = "brats24"  # the contract's own labels
_SCORED = (*MEASURED, *MAPS)  # files that scoring reads, besides run.json


@dataclass(frozen=True, slots=True)
class ScoredWeights:
    """One of the two sets of weights that are compared."""

    name: str
    """Name of its results folder: before or after."""
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class HeldOutScorer:
    """Scores held-out cases by either set of weights; results are stored and used again."""

    results: Path
    """Folder of the reviewed results."""
    folder: Path
    """Receives a result of each held-out case by both sets of weights, and the references."""
    network: EngineChoice
    """Device, precision and threads."""

    def score(
        self, reviews: Sequence[SignedReview], weights: ScoredWeights, context: RunContext
    ) -> list[CaseScore]:
        """Analyse held-out cases and score them against the signed outlines; resumable.

        Raises
        ------
        CancelledError
            The user asked to stop; complete results are kept.
        """
        scores = []
        for number, review in enumerate(reviews):
            context.check("scoring")
            name = review.case.name
            context.progress(f"{weights.name}: {name}", number / len(reviews))
            path = self.folder / weights.name / name
            failure = None
            is_stored = self._is_comparable(path, weights) and holds_inputs_of(review.study, path)
            if not is_stored and not self._reuse(name, path, weights):
                failure = self._analyse(review, path, weights, context)
            scores.append(score_case(self._case(review), path, _CONVENTION))
            if failure is not None:
                scores[-1].problems[0] = f"not analysed: {failure}"
        return scores

    def _analyse(
        self, review: SignedReview, path: Path, weights: ScoredWeights, context: RunContext
    ) -> str | None:
        """Analyse a case in an empty folder; return the error message if that fails, else None."""
        shutil.rmtree(path, ignore_errors=True)  # otherwise an older result could be scored
        job = StudyJob(review.case.name, review.study, path)
        choice = CohortChoice(replace(self.network, weights=str(weights.path)))
        outcome = analyse(job, choice, context.quiet())
        if outcome.status is Status.STOPPED:
            raise CancelledError("scoring")
        return outcome.message if outcome.status is Status.FAILED else None

    def _reuse(self, name: str, path: Path, weights: ScoredWeights) -> bool:
        """Copy the reviewed result if it has the same weights and settings; return success."""
        source = self.results / name
        if not self._is_comparable(source, weights):
            return False
        partial = path.with_name(f".{path.name}")
        shutil.rmtree(partial, ignore_errors=True)
        for part in (*_SCORED, "run.json"):
            if (source / part).is_file():
                target = partial / part
                make_folder(target.parent)
                shutil.copyfile(source / part, target)
                restrict(target)
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
        return True

    def _is_comparable(self, path: Path, weights: ScoredWeights) -> bool:
        """Return whether a folder holds the intact result that an analysis here would write."""
        try:
            run = read_run_file(path)
            made_by = run.weights_sha256, run.versions.get("lesionlens")
            if made_by != (weights.sha256, version("lesionlens")):
                return False
            check_parts(path, run, _SCORED)
        except ReadError:
            return False
        written = {row.file for row in run.files or ()}
        if not all((path / part).is_file() for part in written.intersection(_SCORED)):
            return False
        precision = choose_precision(choose(self.network.device), self.network.precision)
        return run.precision == precision and not any(step.on_request for step in run.preparation)

    def _case(self, review: SignedReview) -> Case:
        """Write the reference, and return the case for `evaluation.evaluate`."""
        path = self.folder / "references" / review.case.name / f"{review.case.key[:16]}_seg.nii.gz"
        if not path.is_file():
            labels, grid = review.case.reference()
            with atomic_file(path) as temporary:
                nib.save(nib.Nifti1Image(labels, grid.affine), temporary)
        return Case(review.case.name, review.case.patient, {}, path, _CONVENTION)


def synthetic_metrics(
    weights: ScoredWeights,
    recipe: TrainConfig,
    volumes: int,
    network: EngineChoice,
    context: RunContext,
) -> list[dict[str, float]]:
    """Return metrics of one pass on synthetic brains that were not used for training.

    Parameters
    ----------
    recipe : TrainConfig
        Its last stage defines the grid.
    """
    device = choose(network.device)
    model, _ = weight_files.load(weights.path, device)
    stage = recipe.stages[-1]
    grid = GeneratorConfig(shape=stage.shape, spacing_mm=stage.spacing_mm)
    metrics = []
    for number in range(volumes):
        context.check("scoring synthetic brains")
        context.progress(f"{weights.name}: synthetic brain {number + 1}", number / volumes)
        values, _ = next(validate_each(model, grid, [number], device, network.precision))
        metrics.append(values)
    return metrics
