"""Evaluate results against references; the implementation of `lesionlens evaluate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from lesionlens.analysis.evaluation.bounds import (
    BoundResult,
    all_met,
    group_cases,
    judge,
    read_bounds,
)
from lesionlens.analysis.evaluation.cases import find_cases
from lesionlens.analysis.evaluation.evaluate import evaluate as score_cases
from lesionlens.analysis.evaluation.evaluate import results_without_reference
from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.analysis.evaluation.metrics import Bins
from lesionlens.analysis.evaluation.summary import CaseScore, Summary, summarise
from lesionlens.base.arguments import path_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import absolute
from lesionlens.base.notebook import data_frame
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.base.storage import write_error
from lesionlens.base.text import counted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of an evaluation, per case and pooled."""

    scores: tuple[CaseScore, ...]
    """One per case."""
    summary: Summary
    """Means, medians, intervals, FROC, calibration."""
    unreferenced: tuple[str, ...]
    """Results without a reference case."""
    groups: Mapping[str, tuple[CaseScore, ...]] = field(default_factory=dict)
    """The cases of each group, if they were grouped."""
    bound_results: tuple[BoundResult, ...] = ()
    """One per bound, over all cases and by group."""

    @property
    def bounds_met(self) -> bool | None:
        """Whether the bounds are met; None without bounds."""
        return all_met(self.bound_results) if self.bound_results else None

    @property
    def engines(self) -> Counter[str]:
        """Number of cases per engine and weights."""
        return Counter(s.engine for s in self.scores if s.engine)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per case and one column per metric (needs pandas)."""
        rows = [{"case": s.case, "failed": s.failed, **s.metrics} for s in self.scores]
        return data_frame(rows).set_index("case")

    def to_json(self) -> dict[str, Any]:
        """Return all figures, as `evaluate --json` writes them."""
        summary = self.summary
        return {
            "schema": "lesionlens/evaluation/1",
            "lesionlens": version("lesionlens"),
            "cases": [_case_record(s) for s in self.scores],
            "means": summary.means,
            "medians": summary.medians,
            "intervals_95": summary.intervals,
            "froc": summary.froc,
            "froc_curve": [point._asdict() for point in summary.curve],
            "reliability": {
                "voxels_wt": _bins_record(summary.voxels),
                "candidates": _bins_record(summary.candidates),
            },
            "groups": {
                name: {"cases": len(scores), "means": summarise(scores).means}
                for name, scores in self.groups.items()
            },
            "bounds": [asdict(result) for result in self.bound_results],
            "bounds_met": self.bounds_met,
        }

    def plot(self, path: str | Path) -> Path:
        """Plot overlap, FROC, calibration and attention as PNG; return the path.

        An existing file is replaced, a missing folder is created.

        Raises
        ------
        UnusableInputError
            The path is a folder, or named as a file of another kind.
        ResourceError
            The file cannot be written.
        """
        from lesionlens.analysis.evaluation.plots import plot

        file = path_of(path, "the file for the plot")
        if file.is_dir():
            raise UnusableInputError(
                f"{file.name!r} is a folder, not a file for the plot.",
                hint="Name a file in it, such as 'plot.png'.",
            )
        check_picture_name(file)
        try:
            plot(self.scores, self.summary, file)
        except OSError as error:
            raise write_error("a plot", file, error) from error
        return file

    @override
    def __repr__(self) -> str:
        means = self.summary.means
        dice = (
            f"{name.upper()} {value:.3f}"
            for name in ("wt", "tc", "et")
            if (value := means.get(name)) is not None
        )
        cases = counted(len(self.scores), "case")
        return f"<Evaluation of {cases}: Dice {', '.join(dice) or 'unknown'}>"


def evaluate(
    predictions: str | Path,
    truth: str | Path,
    *,
    convention: str | None = None,
    bounds: str | Path | None = None,
    group_by: str | None = None,
    context: RunContext = SILENT,
) -> Evaluation:
    """Score results, or plain segmentations, against reference segmentations.

    Parameters
    ----------
    predictions : str or Path
        One result folder for each case, as `lesionlens.batch` writes them, or one result; or one
        segmentation for each case as NIfTI, of any program.
    truth : str or Path
        The cases with their segmentations, in the layout of BraTS or Decathlon; or one
        segmentation for each case.
    convention : str or None
        Label convention of the reference and of plain segmentations: a name such as "brats" or
        "msd", or a table's path.
    bounds : str, Path or None
        TOML file of bounds on the figures, over all cases and by group.
    group_by : str or None
        Column by which cases are grouped: of `cases.csv` or `patients.tsv` in `truth`, or of
        `cohort.csv` in `predictions`.

    Raises
    ------
    UnusableInputError
        There is nothing to score, or a reference is invalid.
    ConfigError
        The bounds cannot be read, or no table has that column.
    """
    limits = None if bounds is None else read_bounds(path_of(bounds, "the file of bounds"))
    results = absolute(path_of(predictions, "the folder of the results"))
    references = absolute(path_of(truth, "the folder of the cases with their references"))
    for folder in (results, references):
        if not folder.is_dir():
            raise UnusableInputError(
                f"There is no folder {folder.name!r}.",
                hint="`lesionlens evaluate --help` shows an example.",
            )
    cases = find_cases(references)
    conventions = read_conventions(convention, references)
    conventions.check(case.name for case in cases)
    scores = score_cases(results, cases, conventions.of, context)
    groups = {} if group_by is None else group_cases(scores, group_by, references, results)
    return Evaluation(
        tuple(scores),
        summarise(scores),
        results_without_reference(results, cases),
        {name: tuple(members) for name, members in groups.items()},
        () if limits is None else judge(scores, groups, limits),
    )


def check_picture_name(file: Path) -> None:
    """Refuse the name of another kind of file for a plot, which is written as PNG.

    Raises
    ------
    UnusableInputError
        The name has another suffix.
    """
    if file.suffix.lower() not in ("", ".png"):
        raise UnusableInputError(
            found=f"the name {file.name!r} for a plot",
            expected="a name with .png: plots are written as PNG",
            next_step=f"Name it {file.with_suffix('.png').name!r}",
        )


def _case_record(score: CaseScore) -> dict[str, Any]:
    return {
        "case": score.case,
        "healthy": score.healthy,
        "convention": score.convention,
        "metrics": score.metrics,
        "hits": [asdict(hit) for hit in score.hits],
        "problems": score.problems,
        "failed": score.failed,
        "made_by": score.engine or None,
        "reviewed": score.reviewed,
    }


def _bins_record(bins: Bins) -> dict[str, Any]:
    return {
        "error": bins.error if bins.count.any() else None,
        "count": bins.count.tolist(),
        "confidence_sum": bins.confidence.tolist(),
        "positive_sum": bins.positive.tolist(),
    }
