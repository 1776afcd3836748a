"""Groups of cases by a column of a table, and bounds that a site sets on their figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from lesionlens.analysis.evaluation.cases import PATIENTS_NAME, by_case, check_rows
from lesionlens.analysis.evaluation.summary import CaseScore, Interval, column, interval
from lesionlens.base.errors import ConfigError
from lesionlens.base.files import read_rows, read_toml
from lesionlens.base.model import first_problem

ALL, UNKNOWN = "all cases", "not known"
_TABLES = (("cases.csv", ",", "case"), (PATIENTS_NAME, "\t", "case"))
"""Tables beside the references: name, separator, column with the names of cases."""
_COHORT = ("cohort.csv", ",", "study")
"""The table of `batch`, beside the results."""
_TOLERANCE = 1e-9


class Metric(NamedTuple):
    """A figure on which a bound may be set.

    Parameters
    ----------
    key : str
        Key in `CaseScore.metrics`; `failures` is the share of cases without a result.
    better : int
        1 if the bound is a minimum, -1 if it is a maximum.
    max_value : float
        Upper end of the range, which starts at 0.
    """

    key: str
    title: str
    better: int
    max_value: float = 1.0

    def is_within(self, value: float, bound: float) -> bool:
        """Return whether a value keeps a bound, within rounding errors."""
        return (value - bound) * self.better >= -_TOLERANCE


METRICS: Mapping[str, Metric] = MappingProxyType({
    "dice_wt": Metric("wt", "Dice WT", 1),
    "dice_tc": Metric("tc", "Dice TC", 1),
    "dice_et": Metric("et", "Dice ET", 1),
    "hd95_wt_mm": Metric("hd95_wt", "HD95 WT (mm)", -1, math.inf),
    "sensitivity": Metric("sensitivity", "sensitivity", 1),
    "false_candidates": Metric("fp", "false candidates", -1, math.inf),
    "calibration_error": Metric("ece", "calibration error WT", -1),
    "failures": Metric("failures", "failures", -1),
})  # fmt: skip


class Bounds(BaseModel):
    """Bounds over all cases and over each group of cases.

    Parameters
    ----------
    min_cases : int
        Number of cases with a figure below which it is not judged.
    use_confidence_bound : bool
        Judge the unfavourable end of the 95% interval instead of the mean.
    overall, groups : mapping of str to float
        Bound by the name of a metric of `METRICS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    min_cases: int = Field(default=10, ge=1)
    use_confidence_bound: bool = False
    overall: dict[str, float] = {}
    groups: dict[str, float] = {}


class Verdict(StrEnum):
    """Outcome of a bound."""

    MET = "met"
    NOT_MET = "not met"
    TOO_FEW = "too few cases"


@dataclass(frozen=True, slots=True)
class BoundResult:
    """One bound on one group."""

    group: str
    metric: str
    bound: float
    cases: int
    mean: float | None
    interval: Interval | None
    verdict: Verdict


def read_bounds(path: Path) -> Bounds:
    """Read bounds from a TOML file.

    Raises
    ------
    ConfigError
        The file is not TOML, or has an unknown key or metric, a wrong type or an impossible bound.
    """
    try:
        table: dict[str, Any] = read_toml(path)
        values = {k: _floats(v) if isinstance(v, dict) else v for k, v in table.items()}
        bounds = Bounds.model_validate(values)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the bounds {path.name!r}: {error.strerror}.", hint="Check --bounds"
        ) from error
    except ValueError as error:
        raise _bounds_error(path, first_problem(error)) from error
    for name, bound in (*bounds.overall.items(), *bounds.groups.items()):
        if name not in METRICS:
            raise _bounds_error(path, f"the metric {name!r} is unknown")
        if not 0 <= bound <= METRICS[name].max_value:
            raise _bounds_error(path, f"{name} = {bound:g} is out of range")
    return bounds


def _floats(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: float(v) if type(v) is int else v for k, v in table.items()}


def _bounds_error(path: Path, problem: str) -> ConfigError:
    return ConfigError(
        f"The bounds in {path.name!r} cannot be used: {problem}.",
        hint="The file may have min_cases, use_confidence_bound, and tables [overall] and "
        f"[groups] of {', '.join(METRICS)}",
    )


def group_cases(
    scores: Sequence[CaseScore], heading: str, truth: Path, predictions: Path
) -> dict[str, list[CaseScore]]:
    """Group cases by a column of `cases.csv` or `patients.tsv` in `truth`, or of `cohort.csv`.

    Raises
    ------
    ConfigError
        No table has that column, it is not one value a case, or a case is misspelt.
    """
    names, heading = [score.case for score in scores], heading.strip().lower()
    for folder, (name, separator, key) in (*((truth, t) for t in _TABLES), (predictions, _COHORT)):
        try:
            rows = read_rows(folder / name, separator) if (folder / name).is_file() else []
        except ValueError as error:
            raise ConfigError(f"Cannot read the table {name}: {error}.") from error
        rows = [row for row in rows if row.get(key) and heading in row]
        if not rows:
            continue
        values: dict[str, str] = {}
        for row in rows:
            value = (row[heading] or "").strip()
            if values.setdefault(row[key], value) != value:
                raise ConfigError(
                    f"{name} has several values of {heading!r} for {row[key]!r}.",
                    hint="Name a column with one value for each case",
                )
        values = by_case(values, names)
        if key == "case":
            check_rows(name, values, names)
        groups: dict[str, list[CaseScore]] = {}
        for score in scores:
            groups.setdefault(values.get(score.case) or UNKNOWN, []).append(score)
        return dict(sorted(groups.items()))
    raise ConfigError(
        f"No table of the cases has a column {heading!r}.",
        hint="Write it into cases.csv beside the cases, with a column `case`, or name a column of "
        "cohort.csv",
    )


def judge(
    scores: Sequence[CaseScore], groups: Mapping[str, Sequence[CaseScore]], bounds: Bounds
) -> tuple[BoundResult, ...]:
    """Judge every bound over all cases, and over each group."""
    overall = [_judge(ALL, m, b, scores, bounds) for m, b in bounds.overall.items()]
    of_groups = [
        _judge(name, metric, bound, members, bounds)
        for name, members in groups.items()
        for metric, bound in bounds.groups.items()
    ]
    return (*overall, *of_groups)


def _judge(
    group: str, metric: str, bound: float, scores: Sequence[CaseScore], bounds: Bounds
) -> BoundResult:
    definition, failures = METRICS[metric], metric == "failures"
    values = [float(s.failed) for s in scores] if failures else column(scores, definition.key)
    mean, ci = math.fsum(values) / len(values) if values else None, interval(values)
    verdict = Verdict.TOO_FEW
    min_cases = max(bounds.min_cases, 2 if bounds.use_confidence_bound else 1)
    if mean is not None and (len(values) >= min_cases or (failures and mean > bound)):
        compared = mean
        if bounds.use_confidence_bound and ci is not None:
            compared = ci.low if definition.better > 0 else ci.high
        verdict = Verdict.MET if definition.is_within(compared, bound) else Verdict.NOT_MET
    return BoundResult(group, metric, bound, len(values), mean, ci, verdict)


def all_met(results: Sequence[BoundResult]) -> bool:
    """Return whether bounds were judged and none is missed; those over all cases must be judged."""
    verdicts = {result.verdict for result in results}
    unjudged = any(r.group == ALL and r.verdict is Verdict.TOO_FEW for r in results)
    return Verdict.MET in verdicts and Verdict.NOT_MET not in verdicts and not unjudged
