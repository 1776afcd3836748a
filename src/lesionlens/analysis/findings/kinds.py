"""Appearance of a candidate, as calibrated probabilities of the kinds of lesions; no diagnosis."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from lesionlens.analysis.findings.kind_features import features_by_id
from lesionlens.base.labels import LesionKind, MrSequence
from lesionlens.base.records.findings import Appearance, Candidate
from lesionlens.base.records.study import PreparedStudy

CLIP = 2.5
"""Standard deviations at which a feature is clipped."""
MODEL = "kinds.json"


@dataclass(frozen=True, slots=True, eq=False)
class KindModel:
    """The fitted model of one set of sequences."""

    names: Sequence[str]
    """Names of N features."""
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    """(N,) each."""
    weights: NDArray[np.float64]
    """(1 + 2 N, kinds): of the constant, the scaled features and their squares."""
    min_probability: NDArray[np.float64]
    """(kinds,): probability from which each kind stands out; above 1 if it is not offered."""

    def design(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (..., 1 + 2 N) inputs of (..., N) features."""
        scaled = np.clip((values - self.mean) / self.scale, -CLIP, CLIP)
        return np.concatenate([np.ones((*scaled.shape[:-1], 1)), scaled, scaled**2], -1)

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (..., kinds) probabilities of (..., N) features."""
        return np.asarray(softmax(self.design(values) @ self.weights, axis=-1))


def key_of(sequences: Collection[MrSequence]) -> str:
    """Return the name of a set of sequences in the model's file.

    Examples
    --------
    >>> key_of({MrSequence.FLAIR, MrSequence.T1})
    't1 flair'
    """
    return " ".join(sequence.value for sequence in MrSequence if sequence in sequences)


@cache
def load_models() -> Mapping[str, KindModel]:
    """Load the shipped models, by the name of their sequences."""
    text = (files("lesionlens.analysis.findings") / MODEL).read_text(encoding="utf-8")
    return models_of(json.loads(text))


def models_of(content: Mapping[str, Any]) -> Mapping[str, KindModel]:
    """Build models from the content of their file."""
    return {
        name: KindModel(
            names=model["features"],
            mean=np.array(model["mean"]),
            scale=np.array(model["scale"]),
            weights=np.array(model["weights"]),
            min_probability=np.array(model["least"]),
        )
        for name, model in content["models"].items()
    }


def appearance_of(features: Mapping[str, float], model: KindModel) -> Appearance:
    """Return the appearance of a candidate with these features."""
    probabilities = model.probabilities(np.array([features[name] for name in model.names]))
    by_kind = dict(zip(LesionKind, probabilities.tolist(), strict=True))
    best = int(probabilities.argmax())
    stands_out = probabilities[best] >= model.min_probability[best]
    return Appearance(list(LesionKind)[best] if stands_out else None, by_kind)


def with_kinds(
    candidates: Sequence[Candidate],
    components: NDArray[np.int32],
    prepared: PreparedStudy,
    only: Collection[int] | None = None,
) -> tuple[Candidate, ...]:
    """Return candidates with their appearance.

    Parameters
    ----------
    components : (I, J, K) int32
        Id of the candidate at each voxel of the native grid, 0 elsewhere.
    only : collection of int or None
        Ids of those that are measured; the others are returned unchanged. None for all.

    Returns
    -------
    tuple of Candidate
        `kind` is None without a brain mask, and of a candidate too small for the 2 mm lattice.
    """
    ids = {c.id for c in candidates} if only is None else set(only)
    features = features_by_id(prepared, components, ids)
    model = load_models()[key_of(prepared.sequences)]
    kinds = {n: None if f is None else appearance_of(f, model) for n, f in features.items()}
    return tuple(replace(c, kind=kinds[c.id]) if c.id in kinds else c for c in candidates)
