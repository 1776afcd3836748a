"""Metadata stored with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from lesionlens.base.files.bounded_read import parse_json
from lesionlens.network.config import NetworkConfig

AGREEMENT = (-0.62, 0.55, 10.7, 17 / 18)
"""For weights whose metadata lack it."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WeightsNotes:
    """Metadata of weights, besides the network configuration."""

    version: str = "0"
    """Version of the weights, not of the package."""
    spacing_mm: float = 2.0
    """Voxel spacing of the first pass over the whole brain."""
    focus_spacing_mm: float | None = None
    """Voxel spacing of patch refinement; None if it does not help."""
    temperature: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """(3,) float: logits of WT, TC, ET are divided by these before the sigmoid."""
    operating_points: tuple[Mapping[str, float], ...] = ()
    """Tuple of dict. By ascending sensitivity: ``threshold``, ``sensitivity``,
    ``false_per_scan``."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, configuration, steps, minutes."""
    score: tuple[float, float, float] = (-1.5, 0.36, 0.0)
    """(3,) float: intercept, slope of the mean logit, slope of the logarithm of the ml: a
    candidate's score is the sigmoid of their sum (`engines.component_score`), fitted on scans
    of known truth."""
    score_floor: float = 0.2
    """Regions that score lower are not flagged."""
    agreement: tuple[float, float, float, float] | None = AGREEMENT
    """(4,) float or None: fields of `base.records.prediction.ViewAgreement`."""
    thresholds: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """(3,) float: probability threshold of WT, TC, ET. The threshold with the best expected Dice is
    half of the achievable Dice, below one half for a difficult region (Lipton et al. 2014, doi
    10.1007/978-3-662-44851-9_15, for F1, which is Dice); a core that is doubtful as a whole has
    a lower threshold.
    """
    trained_on: tuple[str, ...] = ()
    """Training scans, by both digests of `imaging.preparation.scan_digest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo(WeightsNotes):
    """Loaded weights: metadata, network configuration and the file's hash."""

    sha256: str
    config: NetworkConfig


def notes_of(notes: WeightsNotes) -> dict[str, Any]:
    """Return the fields of `WeightsNotes` by name, without configuration and hash."""
    return {item.name: getattr(notes, item.name) for item in fields(WeightsNotes)}


def sizes_from_json(text: str) -> NetworkConfig:
    """Read the network configuration stored with weights.

    Raises
    ------
    TypeError, ValueError
        Not such a record.
    """
    return from_json(NetworkConfig, text)


def from_json(kind: Callable[..., _T], text: str) -> _T:
    """Read a record of tuples and numbers from JSON.

    Raises
    ------
    TypeError, ValueError
        Not JSON, or another record's.
    """
    table = parse_json(text)
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
