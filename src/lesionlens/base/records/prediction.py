"""Records that an engine returns for a prepared study."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import ComputePrecision, MrSequence, Region


class OperatingPoint(NamedTuple):
    """Sensitivity and false positives at a score threshold, measured on the model card's data."""

    threshold: float
    sensitivity: float
    false_per_scan: float


MASK = "mask"
"""Name of the engine of a result that was opened from a mask, which no engine made."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Identity and properties of an engine."""

    name: str
    version: str
    weights_sha256: str | None
    """None for an engine without weights."""
    device: str = "cpu"
    calibrated: bool = False
    """Whether its probabilities were calibrated."""
    operating_points: tuple[OperatingPoint, ...] = ()
    """By ascending threshold; empty if not measured."""
    floor: float = 0.0
    """Score below which regions are not flagged."""
    precision: ComputePrecision | None = None
    """None if the engine does not report it."""
    threads: int | None = None
    """Number of CPU threads; None on an accelerator."""
    trained_on: frozenset[str] = frozenset()
    """Digests of the scans that the weights were trained on (`scan_digest`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Attention weights in numpy, sufficient for maps and probes."""

    cross: Mapping[Region, NDArray[np.float32]]
    """Mapping of Region to (I, J, K) float32. Cross-attention weights of the region's query over
    voxels of the working grid, averaged over heads, non-negative; the raw weights' sum over the
    brain is 1."""
    method: str
    """In words, for the report and the Parametric Map's label."""
    layers: tuple[str, ...]
    probe_row: Callable[[tuple[int, int, int]], NDArray[np.float32]] | None = field(
        default=None, repr=False
    )
    """Maps a working index (3,) to (I, J, K) float32 on the working grid: the self-attention
    rollout of that voxel's token, maximum 1.
    """
    spacing_mm: float = 0.0
    """Distance between the layer's own values, which the maps are interpolated from; 0 for none
    coarser than the working grid."""


@dataclass(frozen=True, slots=True, eq=False)
class InputPerturbation:
    """A subset of the study's sequences, as it is or mirrored."""

    keep: tuple[bool, bool, bool, bool] = (True, True, True, True)
    """(4,) tuple of bool: sequences kept, in the order of MrSequence; an absent one stays absent.
    """
    mirrored: bool = False
    """Mirrored left to right; the prediction is mirrored back."""

    @classmethod
    def showing(cls, sequences: Collection[MrSequence]) -> InputPerturbation:
        """Return the perturbation that keeps only these sequences.

        Examples
        --------
        >>> InputPerturbation.showing([MrSequence.FLAIR]).keep
        (False, False, False, True)
        """
        t1, t1c, t2, flair = (sequence in sequences for sequence in MrSequence)
        return cls((t1, t1c, t2, flair))


@dataclass(frozen=True, slots=True, eq=False)
class PerturbedPrediction:
    """The engine's first pass over the whole brain, on one or more perturbed inputs."""

    probability: NDArray[np.float32]
    """(V, I, J, K) float32: calibrated whole-tumour probability for each input."""
    grid: Grid
    """Grid of the voxels; axis-aligned RAS+."""
    thresholds: tuple[float, ...] | None = None
    """(V,) tuple: the whole-tumour threshold of an analysis of each input; None if it is that of
    the study's prediction for all of them.
    """
    inner: NDArray[np.float32] | None = None
    """(V, 2, I, J, K) float32 or None: probability of core and enhancing tumour."""
    lesion_scores: NDArray[np.float32] | None = None
    """(V, I, J, K) float32 or None: in the voxels of a small lesion that the engine searched for,
    its score for each input; a component scores no less. None without such a search.
    """


@dataclass(frozen=True, slots=True, eq=False)
class ClassProbabilities:
    """Class probabilities at each voxel, from an engine that distinguishes lesion classes."""

    share: NDArray[np.float32]
    """(3, I, J, K) float32: 0 to 1, in the order of `LesionClass`."""
    grid: Grid
    """Grid of the voxels; axis-aligned RAS+."""


@dataclass(frozen=True, slots=True)
class ViewAgreement:
    """Correction of a candidate's score by its agreement across views, fitted on labelled scans.

    A view is the study without one of its sequences; a single sequence has none.
    """

    intercept: float
    log_odds: float
    """Coefficient of the log-odds of the first pass's score."""
    overlap: float
    """Coefficient of the mean Dice, over the views, with the outline from all sequences."""
    most: float
    """Factor, and upper limit of the score: 1 - 1 / (n + 2) for n real patients with a true
    candidate.
    """


@dataclass(frozen=True, slots=True)
class Scoring:
    """Parameters of the logistic model that scores candidates, fitted on labelled scans."""

    intercept: float = 0.0
    logit: float = 1.0
    log_ml: float = 0.0
    """Score = sigmoid(intercept + logit * mean logit + log_ml * ln(volume in ml)), where the mean
    is over the component's most certain voxels in the first pass."""
    floor: float = 0.0
    """Regions that score lower in the first pass are not flagged."""
    agreement: ViewAgreement | None = None
    """None if view agreement was not fitted."""


@dataclass(frozen=True, slots=True, eq=False)
class FirstPass:
    """An engine's coarse first pass, for preliminary candidates."""

    seen: PerturbedPrediction
    """The prediction on the unperturbed study, V = 1."""
    threshold: float
    """Probability at which a voxel is included."""
    scoring: Scoring
    """How components are scored."""


@dataclass(frozen=True, slots=True)
class SlightEnhancement:
    """Thresholds below which enhancing tumour is not outlined.

    Enhancement that is both small and doubtful is labelled as core.
    """

    share: float = 0.0
    """Share of the core's volume below which it is small."""
    median: float = 0.0
    """Median probability of its voxels below which it is doubtful."""


DEFAULT_THRESHOLDS: Mapping[Region, float] = dict.fromkeys(Region, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """An engine's prediction on the working grid."""

    probability: Mapping[Region, NDArray[np.float32]]
    """Mapping of Region to (I, J, K) float32. Probability of each region, 0 to 1, nested: ET within
    TC within WT.
    """
    engine: EngineInfo
    uncertainty: NDArray[np.float32] | None = None
    """(I, J, K) float32 or None: 0 to 1."""
    trace: Trace | None = None
    """For attention maps and the probe."""
    notices: tuple[str, ...] = ()
    unperturbed: PerturbedPrediction | None = None
    """The prediction on the unperturbed study, from which scores are computed and with which
    predictions on perturbed inputs are compared.
    """
    thresholds: Mapping[Region, float] = field(default_factory=lambda: DEFAULT_THRESHOLDS)
    """Probability at which a voxel is included in the region."""
    slight_enhancement: SlightEnhancement = field(default_factory=SlightEnhancement)
    """Thresholds for small, doubtful enhancement."""
    scoring: Scoring = Scoring()
    """Parameters of the scores."""
    class_probabilities: ClassProbabilities | None = None
    """Class probabilities at each voxel; None from an engine without them."""
    cavity: NDArray[np.float32] | None = None
    """(I, J, K) float32 or None: probability of a resection cavity, which is not part of the
    tumour; None from an engine that outlines none.
    """
    unsegmented: tuple[Region, ...] = ()
    """Tumour core, enhancing tumour or both, if the engine does not segment them: their probability
    is zero, and their volumes are unknown.
    """
