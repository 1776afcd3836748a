"""Cases that a run has trained on in any of its sessions, as its checkpoint records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lesionlens.base.text import counted


@dataclass(frozen=True, slots=True)
class TrainedCase:
    """One training case."""

    patient: str
    key: str
    """Key that changes when its files do."""
    scans: tuple[str, ...]
    """Digests of its scans."""


TrainedCases = Mapping[str, TrainedCase]


def merged(before: TrainedCases, now: TrainedCases) -> TrainedCases:
    """Add a session's cases; a case with changed files keeps the digests of all its scans."""
    cases = {**before, **now}
    for name in before.keys() & now.keys():
        scans = {*before[name].scans, *now[name].scans}
        cases[name] = replace(now[name], scans=tuple(sorted(scans)))
    return cases


def differing(trained: TrainedCases, now: TrainedCases) -> tuple[str, ...]:
    """Return the cases that were added, changed or removed since they were trained on."""
    keys = [{name: case.key for name, case in cases.items()} for cases in (trained, now)]
    return tuple(sorted({name for name, _ in keys[0].items() ^ keys[1].items()}))


SYNTHETIC = "synthetic only"
"""Description of the data of weights that were trained on no patient."""


def description(cases: TrainedCases) -> str:
    """Return a description of the cases, for the weights' metadata."""
    patients = len({case.patient for case in cases.values()})
    return f"{counted(len(cases), 'real case')} of {counted(patients, 'patient')}"


def data_after(before: str, cases: TrainedCases) -> str:
    """Return a description of all data, for the weights' metadata.

    Parameters
    ----------
    before : str
        Description of the data of the initial weights; `SYNTHETIC` without any.
    cases : TrainedCases
        Empty after training on synthetic brains.

    Examples
    --------
    >>> data_after("synthetic only", {"a": TrainedCase("a", "", ())})
    'synthetic, then 1 real case of 1 patient'
    >>> data_after("synthetic, then 12 real cases of 12 patients", {})
    'synthetic, then 12 real cases of 12 patients, then synthetic'
    """
    if before == SYNTHETIC:
        return f"synthetic, then {description(cases)}" if cases else SYNTHETIC
    return f"{before}, then {description(cases) if cases else 'synthetic'}"


def to_record(cases: TrainedCases) -> dict[str, Any]:
    """Return the cases as plain JSON."""
    return {name: asdict(case) for name, case in cases.items()}


def from_record(record: Mapping[str, Any]) -> TrainedCases:
    """Return the cases of `to_record`."""
    return {
        name: TrainedCase(row["patient"], row["key"], tuple(row["scans"]))
        for name, row in record.items()
    }
