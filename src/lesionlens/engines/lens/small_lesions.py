"""Search for small enhancing lesions with a network of finer voxels.

The network that outlines tumours reads the brain at 2 mm, at which small metastases are a few
voxels. Here a U-Net (`network.unet`) reads it at 1.3 mm. What it finds is added to the
outlines if its own certainty and the other network's suspicion together suffice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from lesionlens.base import geometry
from lesionlens.base.geometry import TOUCHING, Box, Floats, Mask, relative
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.masks import connected_parts
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.engines import separable
from lesionlens.engines.network_input import NetworkInput
from lesionlens.network.unet import SMALL_LESIONS_SPACING_MM, lesion_logits

T1C = list(MrSequence).index(MrSequence.T1C)
_WINDOW_VOX = 64
"""Edge of a window for perturbed inputs, that of a training sample; a longer lesion extends it."""
_MARGIN_VOX = 2
_MIN_FILLED_FRACTION = 0.2  # share of a coarser voxel that a lesion fills, to count there
_MIN_BRAIN_ML = 20.0
"""Smaller separate parts of the brain mask are remnants of other tissue, and not searched."""
_TOP_FRACTION = 0.3
"""Share of a lesion's most certain voxels that determine its score."""
_MIN_ML, _MAX_ML = 0.03, 6.0
_INTERCEPT, _CERTAINTY, _SUSPICION = -2.83, 0.49, 0.238
"""Coefficients of the logistic model of a lesion's score, on the mean logit of its most certain
voxels and the highest whole-tumour logit of the other network there."""
MIN_SUSPICION = -8.0  # logit
_LARGE_ML = 10.0  # whole tumour of a lesion that the other network outlines by itself
_CORE_LOGIT = -0.62  # logit of its usual core threshold
_MAX_CORE_OVERLAP = 0.05
"""Share of such a core in a lesion of the search above which the lesion is not added."""
FLOOR = 0.4
"""Lesions that score lower are not added."""


@dataclass(frozen=True, slots=True, eq=False)
class SmallLesion:
    """One lesion found by the search."""

    box: Box
    """Box of the grid around the lesion, with a margin."""
    mask: Mask
    """Voxels of `box` that it may fill."""
    certainty: float
    """Mean logit of its most certain voxels."""
    suspicion: float
    """Highest whole-tumour logit of the other network in it."""

    @property
    def score(self) -> float:
        """0 to 1."""
        return _score(self.certainty, self.suspicion)


@dataclass(frozen=True, slots=True, eq=False)
class SmallLesions:
    """All lesions found by the search in a study."""

    network_input: NetworkInput
    """At `SMALL_LESIONS_SPACING_MM`."""
    images: Floats
    """(5, I, J, K) float32: input of the search."""
    probability: Floats
    """(I, J, K) float32: 0 to 1 in the lesions, 0 elsewhere."""
    lesions: Sequence[SmallLesion]

    def added_to(self, regions: Floats) -> Floats:
        """Add the lesions to (3, I, J, K) probabilities of the regions in the box of the brain.

        The brighter half of a lesion's range of intensities enhances.
        """
        frame, out = self.network_input.frame, regions.copy()
        t1c, brain = frame.prepared.channels[T1C][frame.box], frame.prepared.brain[frame.box]
        for lesion in self.lesions:
            probability = self._resampled(lesion, self.probability[lesion.box], frame.box_grid)
            probability = probability * brain
            out[:2] = np.maximum(out[:2], probability)
            enhancing = np.where(_enhances(t1c, probability), probability, 0)
            out[2] = np.maximum(out[2], enhancing)
        return out

    def perturb(
        self, predictions: PerturbedPrediction, perturbations: Sequence[InputPerturbation]
    ) -> PerturbedPrediction:
        """Add the lesions that the search detects in the same perturbed inputs."""
        whole, scores = predictions.probability.copy(), np.zeros_like(predictions.probability)
        inner = None if predictions.inner is None else predictions.inner.copy()
        for index, perturbation in enumerate(perturbations):
            for lesion, probability, score in self._scored_lesions(perturbation, predictions.grid):
                resampled = self._resampled(lesion, probability, predictions.grid)
                whole[index] = np.maximum(whole[index], resampled)
                if inner is not None:
                    inner[index] = np.maximum(inner[index], resampled)
                filled = (
                    self._resampled(lesion, lesion.mask.astype(np.float32), predictions.grid)
                    > _MIN_FILLED_FRACTION
                )
                scores[index][filled] = np.maximum(scores[index][filled], np.float32(score))
        return replace(predictions, probability=whole, inner=inner, lesion_scores=scores)

    def _scored_lesions(
        self, perturbation: InputPerturbation, grid: Grid
    ) -> list[tuple[SmallLesion, Floats, float]]:
        """Return for each lesion its probability in `box`, and its score."""
        keep = np.array(perturbation.keep)
        if not keep[T1C]:
            return []
        unchanged = keep[np.array(self.network_input.present)].all()
        if unchanged and not perturbation.mirrored and perturbation.hidden is None:
            return [(lesion, self.probability[lesion.box], lesion.score) for lesion in self.lesions]
        images = self.images
        if perturbation.hidden is not None:
            matrices = separable.matrices(grid, self.network_input.grid, antialias=False)
            images = images.copy()
            hidden = separable.apply_numpy(perturbation.hidden.astype(np.float32), matrices) > 0.5
            images[:4][:, hidden] = 0
        scored = []
        for window, members in _windows(self.lesions, images.shape[1:]):
            window_images = images[(slice(None), *window)].copy()
            window_images[:4][~keep] = 0
            logit = (
                lesion_logits(window_images[:, ::-1])[::-1]
                if perturbation.mirrored
                else lesion_logits(window_images)
            )
            for lesion in members:
                box_logit = logit[relative(lesion.box, window)]
                score = _score(_certainty(box_logit[lesion.mask]), lesion.suspicion)
                scored.append((lesion, _probability_inside(lesion, box_logit), score))
        return scored

    def _resampled(self, lesion: SmallLesion, values: Floats, target: Grid) -> Floats:
        """Resample values in `lesion.box` to a grid."""
        coarser = bool(target.spacing_mm[0] > SMALL_LESIONS_SPACING_MM)
        matrices = separable.matrices(self.network_input.grid, target, antialias=coarser)
        i, j, k = (m[:, side] for m, side in zip(matrices, lesion.box, strict=True))
        return separable.apply_numpy(np.ascontiguousarray(values), (i, j, k))


SEARCH_NOTICE = (
    "The search for small enhancing lesions at higher resolution added to the outlines; the "
    "attention maps are from another network and may not show what it added"
)


class LastSearch(NamedTuple):
    """The last study for which a search was due."""

    prepared: PreparedStudy
    result: SmallLesions | None
    """None if nothing was found or the study is not searched, as without T1c."""


def search(network_input: NetworkInput, first_pass_logits: Floats) -> SmallLesions | None:
    """Search a study with T1c for small enhancing lesions; None if there is none.

    Parameters
    ----------
    network_input : NetworkInput
        At `SMALL_LESIONS_SPACING_MM`.
    first_pass_logits : (2, I, J, K) float32
        Logits of whole tumour and core by the other network, on the same grid.
    """
    shape = network_input.grid.shape
    brain = network_input.brain.cpu().numpy()
    images = np.concatenate([network_input.channels.cpu().numpy()[0], brain]).astype(np.float32)
    voxel_ml = network_input.grid.voxel_ml
    searched = _without_remnants(brain[0] > 0, voxel_ml)
    logit = np.where(searched, lesion_logits(images), -np.inf).astype(np.float32)
    parts, _ = ndimage.label(logit >= 0, TOUCHING)
    arrays = _SearchArrays(
        logit, parts, first_pass_logits[0], _outlined_cores(first_pass_logits, voxel_ml), voxel_ml
    )
    candidates = [
        _lesion_of(arrays, n, box) for n, box in enumerate(ndimage.find_objects(parts), 1)
    ]
    lesions = [lesion for lesion in candidates if lesion is not None]
    if not lesions:
        return None
    probability = np.zeros(shape, np.float32)
    for lesion in lesions:
        box_probability = probability[lesion.box]
        np.maximum(
            box_probability, _probability_inside(lesion, logit[lesion.box]), out=box_probability
        )
    return SmallLesions(network_input, images, probability, lesions)


def _without_remnants(brain: Mask, voxel_ml: float) -> Mask:
    """Return a brain mask without its small separate parts."""
    parts, sizes = connected_parts(brain)
    kept = (sizes * voxel_ml >= _MIN_BRAIN_ML) | (sizes == sizes.max())
    return np.asarray(kept[parts] & brain)


def _outlined_cores(logits: Floats, voxel_ml: float) -> Mask:
    """Return the cores that the other network outlines in lesions too large for the search."""
    parts, sizes = connected_parts(logits[0] >= 0)
    return np.asarray((sizes * voxel_ml > _LARGE_ML)[parts] & (logits[1] >= _CORE_LOGIT))


class _SearchArrays(NamedTuple):
    """Arrays on one grid."""

    logit: Floats
    parts: NDArray[np.int32]
    whole: Floats
    outlined: Mask
    voxel_ml: float


def _lesion_of(arrays: _SearchArrays, number: int, box: Box) -> SmallLesion | None:
    """Return the lesion in a connected part; None if the part does not qualify."""
    mask = arrays.parts[box] == number
    ml = np.count_nonzero(mask) * arrays.voxel_ml
    if not _MIN_ML <= ml <= _MAX_ML or arrays.outlined[box][mask].mean() > _MAX_CORE_OVERLAP:
        return None
    certainty, suspicion = _certainty(arrays.logit[box][mask]), float(arrays.whole[box][mask].max())
    if _score(certainty, suspicion) < FLOOR:
        return None
    margin_box = geometry.grown(box, _MARGIN_VOX, arrays.parts.shape)
    parts = arrays.parts[margin_box]
    dilated = ndimage.binary_dilation(parts == number, TOUCHING, _MARGIN_VOX)
    return SmallLesion(
        margin_box, dilated & ((parts == number) | (parts == 0)), certainty, suspicion
    )


def _certainty(logit: Floats) -> float:
    """Return the mean of the highest positive logits; -inf if none is positive."""
    positive = np.sort(logit[logit >= 0])
    if not positive.size:
        return -math.inf
    return float(positive[-math.ceil(_TOP_FRACTION * positive.size) :].mean())


def _score(certainty: float, suspicion: float) -> float:
    if certainty == -math.inf:
        return 0.0
    total = _INTERCEPT + _CERTAINTY * certainty + _SUSPICION * max(suspicion, MIN_SUSPICION)
    return 1 / (1 + math.exp(-total))


def _probability_inside(lesion: SmallLesion, logit: Floats) -> Floats:
    """Return the probability in a lesion's own voxels, 0 in others."""
    return np.asarray(np.where(lesion.mask, expit(logit), 0), np.float32)


def _windows(
    lesions: Sequence[SmallLesion], shape: Sequence[int]
) -> list[tuple[Box, list[SmallLesion]]]:
    """Return windows that each hold some of the lesions, with these; together all of them."""
    out: list[tuple[Box, list[SmallLesion]]] = []
    for lesion in lesions:
        for window, members in out:
            if geometry.covering(window, lesion.box) == window:
                members.append(lesion)
                break
        else:
            sides = []
            for side, size in zip(lesion.box, shape, strict=True):
                edge = min(max(_WINDOW_VOX, side.stop - side.start), size)
                first = max(0, min((side.start + side.stop - edge) // 2, size - edge))
                sides.append(slice(first, first + edge))
            out.append(((sides[0], sides[1], sides[2]), [lesion]))
    return out


def _enhances(channel: Floats, probability: Floats) -> Mask:
    """Return the voxels of a lesion whose T1c is above the middle of its range there."""
    inside = probability >= 0.5
    if not inside.any():
        return inside
    rim = (probability > 0) & ~inside
    low = float(np.median(channel[rim])) if rim.any() else 0.0
    high = float(np.quantile(channel[inside], 0.9))
    return np.asarray(channel >= (low + high) / 2)
