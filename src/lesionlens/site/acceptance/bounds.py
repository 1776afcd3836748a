"""Acceptance bounds that a site defines beforehand in a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from lesionlens.base.errors import ConfigError
from lesionlens.base.files.bounded_read import read_toml
from lesionlens.base.files.file_model import first_problem

_TOLERANCE = 1e-9


class Metric(NamedTuple):
    """A metric on which a bound may be set.

    Parameters
    ----------
    key : str
        Key in `evaluation.summary.CaseScore.metrics`, or a count over cases (`failures`).
    better : int
        1 if higher is better, so that the bound is a minimum; -1 if it is a maximum.
    max_value : float
        Upper end of the metric's range, which starts at 0.
    """

    key: str
    title: str
    better: int
    max_value: float = 1.0

    def is_within(self, value: float, bound: float) -> bool:
        """Return whether a value keeps a bound, within rounding errors."""
        return (value - bound) * self.better >= -_TOLERANCE


METRICS: Mapping[str, Metric] = MappingProxyType({
    "dice_wt": Metric("wt", "Dice, whole tumour", 1),
    "dice_tc": Metric("tc", "Dice, tumour core", 1),
    "dice_et": Metric("et", "Dice, enhancing", 1),
    "hd95_wt_mm": Metric("hd95_wt", "HD95, whole tumour (mm)", -1, inf),
    "lesions_found": Metric("sensitivity", "lesions found (share per case)", 1),
    "false_candidates": Metric("fp", "false candidates per case", -1, inf),
    "calibration_error": Metric("ece", "calibration error, voxels", -1),
    "failures": Metric("failures", "cases without a result (share)", -1),
})  # fmt: skip


class AcceptanceBounds(BaseModel):
    """Bounds over all cases and over each group of cases.

    Parameters
    ----------
    least_cases : int
        Minimum number of cases for which a group is evaluated.
    least_cases_in_all : int
        Minimum number of cases for the test to be passed.
    surely : bool
        Evaluate the unfavourable end of the 95% interval instead of the mean.
    overall, groups : mapping of str to float
        Bound by the name of a metric of `METRICS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    least_cases: int = Field(default=10, ge=1)
    least_cases_in_all: int = Field(default=20, ge=1)
    surely: bool = False
    overall: dict[str, float] = {
        "dice_wt": 0.8, "dice_tc": 0.7, "dice_et": 0.65, "lesions_found": 0.85,
        "false_candidates": 0.5, "failures": 0.0,
    }  # fmt: skip
    groups: dict[str, float] = {
        "dice_wt": 0.7, "lesions_found": 0.75, "false_candidates": 1.0, "failures": 0.0,
    }  # fmt: skip


def read_bounds(path: Path | None) -> AcceptanceBounds:
    """Read bounds from a TOML file; the defaults without one.

    Raises
    ------
    ConfigError
        The file is not TOML, or contains an unknown key or metric, a wrong type or an impossible
        bound.
    """
    if path is None:
        return AcceptanceBounds()
    try:
        table: dict[str, Any] = read_toml(path)
        values = {k: _floats(v) if isinstance(v, dict) else v for k, v in table.items()}
        bounds = AcceptanceBounds.model_validate(values)
    except OSError as error:
        raise ConfigError(
            found=f"no readable file {path.name!r} ({error.strerror})",
            expected="a TOML file of bounds",
            next_step="Check --bounds; docs/how-to/acceptance.md shows such a file",
        ) from error
    except ValueError as error:
        raise _bounds_error(path, first_problem(error)) from error
    unknown = [name for name in (*bounds.overall, *bounds.groups) if name not in METRICS]
    if unknown:
        raise _bounds_error(path, f"the metric {unknown[0]!r}")
    for name, bound in (*bounds.overall.items(), *bounds.groups.items()):
        if not 0 <= bound <= METRICS[name].max_value:
            range_text = "0 or more" if METRICS[name].max_value == inf else "from 0 to 1"
            raise _bounds_error(path, f"{name} = {bound:g}, not {range_text}")
    return bounds


def _floats(table: Mapping[str, Any]) -> dict[str, Any]:
    return {k: float(v) if type(v) is int else v for k, v in table.items()}


def _bounds_error(path: Path, problem: str) -> ConfigError:
    return ConfigError(
        found=f"{path.name} with {problem}",
        expected="least_cases, least_cases_in_all, surely, and tables [overall] and [groups] of "
        f"{', '.join(METRICS)}",
        next_step="Correct it; docs/how-to/acceptance.md shows one",
    )
