"""What an engine predicts for a prepared study."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import ComputePrecision, MrSequence, Region


class Capability(StrEnum):
    """What an engine can do; what it cannot stays None, with a notice."""

    SEGMENT = "segment"
    ATTEND = "attend"
    PROBE = "probe"
    PERTURB = "perturb"
    """Predicts perturbed inputs: without a sequence, mirrored, partly hidden."""
    PROMPT = "prompt"
    """Outlines what a reader points at, and corrects outlines."""


class OperatingPoint(NamedTuple):
    """What listing candidates from a score on costs, measured on the data of the model card."""

    threshold: float
    sensitivity: float
    false_per_scan: float


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Engine identity: name, version, SHA-256 of the weights, capabilities, device.

    `operating_points` rise in threshold; empty if nothing was measured. Regions that score less
    than `floor` are not flagged. `precision` is None where an engine does not say it, `threads` on
    an accelerator. `trained_on` names the scans that the weights were trained on (`scan_digest`).
    """

    name: str
    version: str
    weights_sha256: str | None
    capabilities: frozenset[Capability]
    device: str = "cpu"
    calibrated: bool = False
    operating_points: tuple[OperatingPoint, ...] = ()
    floor: float = 0.0
    precision: ComputePrecision | None = None
    threads: int | None = None
    trained_on: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What the network attended to, in numpy; enough to draw maps and answer probes."""

    cross: Mapping[Region, NDArray[np.float32]]
    """Mapping of Region to (I, J, K) float32. Cross-attention weights of the region's query over
    voxels of the working grid, averaged over heads, non-negative; the raw weights' sum over the
    brain is 1."""
    method: str
    """In words, for the report and the Parametric Map's label."""
    layers: tuple[str, ...]
    """Which layers went in."""
    probe_row: Callable[[tuple[int, int, int]], NDArray[np.float32]] | None = field(
        default=None, repr=False
    )
    """Working index (3,) to (I, J, K) float32 on the working grid, where that voxel's token attends
    (self-attention rollout), maximum 1."""
    attention_layers: tuple[tuple[str, int], ...] = ()
    """Tuple of (name, heads). Layers of cross-attention that `layer_attention` can show, coarse to
    fine."""
    layer_attention: Callable[[Region, int, int | None], NDArray[np.float32]] | None = field(
        default=None, repr=False
    )
    """(region, layer, head or None for their mean) to (I, J, K) float32 on the working grid,
    weights that add up to one over the brain."""


@dataclass(frozen=True, slots=True, eq=False)
class InputPerturbation:
    """The same study, changed, to learn what the engine predicts then."""

    keep: tuple[bool, bool, bool, bool] = (True, True, True, True)
    """(4,) tuple of bool: sequences shown, in the order of MrSequence; an absent one stays absent.
    """
    mirrored: bool = False
    """Mirrored left to right; the prediction is mirrored back."""
    hidden: NDArray[np.bool_] | None = None
    """(I, J, K) bool or None: voxels of the first pass's grid whose contrast is replaced by the
    brain's mean."""
    alone: bool = False
    """Answered by the one pass whose attention is shown, where an engine otherwise averages an
    ensemble of several."""

    @classmethod
    def showing(cls, sequences: Collection[MrSequence]) -> InputPerturbation:
        """Return the perturbation that shows only these sequences.

        Examples
        --------
        >>> InputPerturbation.showing([MrSequence.FLAIR]).keep
        (False, False, False, True)
        """
        t1, t1c, t2, flair = (sequence in sequences for sequence in MrSequence)
        return cls((t1, t1c, t2, flair))


@dataclass(frozen=True, slots=True, eq=False)
class PerturbedPrediction:
    """The engine's first pass over the whole brain, on one or several perturbed inputs."""

    probability: NDArray[np.float32]
    """(V, I, J, K) float32: calibrated whole-tumour probability for each input."""
    grid: Grid
    """Where its voxels lie; axis-aligned RAS+."""
    inner: NDArray[np.float32] | None = None
    """(V, 2, I, J, K) float32 or None: of core and enhancing tumour, from an engine that predicts
    them, where every input was answered by one pass (`InputPerturbation.alone`)."""

    def of(self, region: Region) -> NDArray[np.float32] | None:
        """Return the (V, I, J, K) probability of a region; None if the engine has none."""
        if region is Region.WT:
            return self.probability
        return None if self.inner is None else self.inner[:, list(Region).index(region) - 1]


@dataclass(frozen=True, slots=True, eq=False)
class ClassProbabilities:
    """Class probabilities of each place, from an engine that separates lesion classes."""

    share: NDArray[np.float32]
    """(3, I, J, K) float32: 0 to 1, in the order of `LesionClass`."""
    grid: Grid
    """Where its voxels lie; axis-aligned RAS+."""


@dataclass(frozen=True, slots=True)
class ViewAgreement:
    """What other views of a study add to a candidate's score, fitted on scans of known truth.

    A view is the study without one of its sequences; a single sequence has none.
    """

    intercept: float
    log_odds: float
    """Slope of the log-odds of the score by the first pass."""
    overlap: float
    """Slope of the mean Dice, over the views, of what each draws there with what all draw."""
    most: float
    """Factor, and the highest score: 1 - 1 / (n + 2) for n real patients with a right candidate."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How an engine's candidates are scored: a logistic model, fitted on scans of known truth."""

    intercept: float = 0.0
    logit: float = 1.0
    log_ml: float = 0.0
    """Score = sigmoid(intercept + logit * mean logit + log_ml * ln(volume in ml)), where the mean
    is over the component's surest voxels in the first pass."""
    floor: float = 0.0
    """Regions that score less in the first pass are not flagged."""
    agreement: ViewAgreement | None = None
    """None where other views were not fitted."""


@dataclass(frozen=True, slots=True, eq=False)
class FirstLook:
    """What an engine predicts for a study at a first, coarse look."""

    seen: PerturbedPrediction
    """The answer to the study as it is, V = 1."""
    threshold: float
    """Probability from which a voxel is drawn."""
    scoring: Scoring
    """How components are scored."""


@dataclass(frozen=True, slots=True)
class QuestionTime:
    """How long an engine may be asked about a study after it was analysed."""

    seconds: float = math.inf
    """In all; `math.inf` for no limit."""
    seconds_per_pass: float = 0.0
    """What one perturbed input takes, as measured on this study."""

    @staticmethod
    def left_out(what: Sequence[str]) -> str:
        """Return the notice that questions were left out for want of time."""
        return (
            f"Left out, as the time for asking this network did not suffice: {', '.join(what)}. "
            "Allow more with --patience (that of `serve`, where a server was asked), or with "
            "BundleEngine(..., patience_s=...)"
        )


@dataclass(frozen=True, slots=True)
class SlightEnhancement:
    """Enhancing tumour that is not drawn: whether a core enhances is asked before where.

    What a core has of it is left out where it is both little and doubtful.
    """

    share: float = 0.0
    """Of the core's volume, below which it is little."""
    median: float = 0.0
    """Of its voxels' probability, below which it is doubtful."""


DEFAULT_THRESHOLDS: Mapping[Region, float] = dict.fromkeys(Region, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """An engine's answer on the working grid."""

    probability: Mapping[Region, NDArray[np.float32]]
    """Mapping of Region to (I, J, K) float32. Of each region, 0 to 1, nested: ET within TC within
    WT."""
    engine: EngineInfo
    """Engine identity."""
    uncertainty: NDArray[np.float32] | None = None
    """(I, J, K) float32 or None: 0 to 1."""
    trace: Trace | None = None
    """For attention maps and the probe."""
    notices: tuple[str, ...] = ()
    """What a reader must know."""
    unperturbed: PerturbedPrediction | None = None
    """The answer to the study as it is, from which scores are taken; with it the answers to
    perturbed inputs are compared."""
    thresholds: Mapping[Region, float] = field(default_factory=lambda: DEFAULT_THRESHOLDS)
    """Probability from which a voxel is drawn as part of the region."""
    slight_enhancement: SlightEnhancement = field(default_factory=SlightEnhancement)
    """What of a core's enhancement is not drawn."""
    scoring: Scoring = Scoring()
    """How components are scored from the first pass."""
    class_probabilities: ClassProbabilities | None = None
    """Class probabilities of each place; None from an engine without them."""
    question_time: QuestionTime = QuestionTime()
    """How long the engine may be asked again."""
