"""What travels with weights, in every format they are written in; needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from lesionlens.base.bounded_read import parse_json
from lesionlens.network.config import NetworkConfig

AGREEMENT = (-0.62, 0.55, 10.7, 17 / 18)
"""Of weights whose notes name none: `research/view_agreement.py`."""

_T = TypeVar("_T")
ONNX_FORMAT = "lesionlens-onnx-1"
"""Names what a file in the ONNX format holds: inputs, outputs, notes."""


@dataclass(frozen=True, slots=True)
class WeightsNotes:
    """What travels with weights besides the sizes of the network."""

    version: str = "0"
    """Of the weights, not of the package."""
    spacing_mm: float = 2.0
    """Grid of the first pass over the whole brain."""
    focus_spacing_mm: float | None = None
    """Grid of the patches round candidates; None if refinement does not help."""
    temperature: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """(3,) float: logits of WT, TC, ET are divided by these before the sigmoid."""
    operating_points: tuple[Mapping[str, float], ...] = ()
    """Tuple of dict. Rising in sensitivity: ``threshold``, ``sensitivity``, ``false_per_scan`` on
    the scans that scores were fitted on."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Dict. Data, recipe, steps, minutes."""
    score: tuple[float, float, float] = (-1.5, 0.36, 0.0)
    """(3,) float: intercept, slope of the mean logit, slope of the logarithm of the ml: a
    candidate's score is the sigmoid of their sum (`engines.component_score`), fitted on scans
    of known truth."""
    score_floor: float = 0.2
    """Regions that score less are not flagged."""
    agreement: tuple[float, float, float, float] | None = AGREEMENT
    """(4,) float or None: fields of `base.records.prediction.ViewAgreement`."""
    thresholds: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """(3,) float: probability of WT, TC, ET from which a voxel is drawn. The cut with the best
    expected Dice lies at half of the Dice that can be reached, below one half where a region is
    hard (Lipton et al. 2014, doi 10.1007/978-3-662-44851-9_15, for F1, which is Dice); a core
    that is doubtful as a whole is drawn from lower."""
    trained_on: tuple[str, ...] = ()
    """The scans that they were trained on, by `imaging.preparation.scan_digest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo(WeightsNotes):
    """Weights as loaded: their notes, the sizes of the network and the file's hash."""

    sha256: str
    config: NetworkConfig


def notes_of(about: WeightsNotes) -> dict[str, Any]:
    """Return what `WeightsNotes` has, by name; of `WeightsInfo` neither sizes nor hash."""
    return {one.name: getattr(about, one.name) for one in fields(WeightsNotes)}


def sizes_from_json(text: str) -> NetworkConfig:
    """Read the sizes of a network that travel with its weights.

    Raises
    ------
    TypeError, ValueError
        It is no such record, or one of weights that read T1 only where T1c or FLAIR is missing, as
        some until version 0.3 did.
    """
    table = parse_json(text)
    if table.pop("t1_in_reserve", False):
        raise ValueError("weights that hold T1 back, of version 0.3 or before")
    return _record(NetworkConfig, table)


def from_json(kind: Callable[..., _T], text: str) -> _T:
    """Read a record of tuples and numbers that was written as JSON.

    Raises
    ------
    TypeError, ValueError
        It is another record's, or no JSON.
    """
    return _record(kind, parse_json(text))


def _record(kind: Callable[..., _T], table: Mapping[str, Any]) -> _T:
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
