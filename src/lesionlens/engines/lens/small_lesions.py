"""Search for small enhancing lesions with a network of finer voxels.

The network that outlines tumours reads the brain at 2 mm, at which small metastases are a few
voxels. Here a U-Net (`network.small_lesions`) reads it at 1.3 mm. What it finds is added to the
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

from lesionlens.base import geometry
from lesionlens.base.array_ops import sigmoid, to_numpy
from lesionlens.base.geometry import TOUCHING, Box, relative
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.prediction import InputPerturbation, PerturbedPrediction
from lesionlens.engines import separable
from lesionlens.engines.network_input import NetworkInput
from lesionlens.network.shipped_unet import MULTIPLE
from lesionlens.network.small_lesions import SPACING_MM, lesion_logit

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
T1C = list(MrSequence).index(MrSequence.T1C)
_WINDOW_VOX = 64
"""Edge of a window for perturbed inputs: that of a training sample."""
_MARGIN_VOX = 2
_HELD = 0.2  # share of a coarser voxel that a lesion fills, to count there
_TOP_SHARE = 0.3
"""Share of a lesion's most certain voxels that determine its score."""
_MIN_ML, _MAX_ML = 0.03, 6.0
_INTERCEPT, _CERTAINTY, _SUSPICION = -2.83, 0.49, 0.238
"""Of the logistic model of a lesion's score, on the mean logit of its most certain voxels and the
highest whole-tumour logit of the other network there (`research/small_lesion_scores.py`)."""
MIN_SUSPICION = -8.0  # logit
_LARGE_ML = 10.0  # whole tumour of a lesion that the other network outlines by itself
_CORE = -0.62  # logit of its usual core threshold
_OVERLAP = 0.05
"""Share of such a core in what the search finds, above which the outline stays as it is."""
FLOOR = 0.4
"""Lesions that score lower are not added."""
_NOTICE = (
    "{} by the search for small enhancing lesions at finer voxels; the attention maps are of "
    "another network and need not show what it finds"
)


@dataclass(frozen=True, slots=True, eq=False)
class SmallLesion:
    """One lesion that the search found."""

    where: Box
    """Of the grid: the lesion and a margin."""
    inside: Mask
    """Voxels of `where` that it may fill."""
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
    """What the search found in a study."""

    study: NetworkInput
    """At `SPACING_MM`."""
    images: Floats
    """(5, I', J', K') float32: input of the search, padded at the far ends."""
    probability: Floats
    """(I, J, K) float32: 0 to 1 in the lesions, 0 elsewhere."""
    lesions: Sequence[SmallLesion]

    @property
    def notice(self) -> str:
        """What the reader is told."""
        count = len(self.lesions)
        return _NOTICE.format("One place was added" if count == 1 else f"{count} places were added")

    def added_to(self, regions: Floats, target: Grid, channel: Floats) -> Floats:
        """Add the lesions to probabilities of the three regions.

        Parameters
        ----------
        regions : (3, I, J, K) float32
            On `target`.
        target : Grid
            Axis-aligned, over the same brain.
        channel : (I, J, K) float32
            T1c on `target`: the brighter half of a lesion's range of intensities enhances.
        """
        out = regions.copy()
        for lesion in self.lesions:
            chance = self._onto(lesion, self.probability[lesion.where], target)
            out[:2] = np.maximum(out[:2], chance)
            bright = np.where(_enhances(channel, chance), chance, 0)
            out[2] = np.maximum(out[2], bright)
        return out

    def perturb(
        self, found: PerturbedPrediction, perturbations: Sequence[InputPerturbation]
    ) -> PerturbedPrediction:
        """Add to perturbed predictions what the search makes of the same perturbed inputs."""
        whole, scores = found.probability.copy(), np.zeros_like(found.probability)
        inner = None if found.inner is None else found.inner.copy()
        for number, one in enumerate(perturbations):
            for lesion, chance, score in self._scored_lesions(one, found.grid):
                seen = self._onto(lesion, chance, found.grid)
                whole[number] = np.maximum(whole[number], seen)
                if inner is not None:
                    inner[number] = np.maximum(inner[number], seen)
                held = self._onto(lesion, lesion.inside.astype(np.float32), found.grid) > _HELD
                scores[number][held] = np.maximum(scores[number][held], np.float32(score))
        return replace(found, probability=whole, inner=inner, lesion_scores=scores)

    def _scored_lesions(
        self, one: InputPerturbation, grid: Grid
    ) -> list[tuple[SmallLesion, Floats, float]]:
        """Return for each lesion its probability in `where`, and its score."""
        keep = np.array(one.keep)
        if not keep[T1C]:
            return []
        unchanged = keep[np.array(self.study.present)].all()
        if unchanged and not one.mirrored and one.hidden is None:
            return [(item, self.probability[item.where], item.score) for item in self.lesions]
        images = self.images
        if one.hidden is not None:
            along = separable.matrices(grid, self.study.grid, antialias=False)
            i, j, k = self.study.grid.shape
            images = images.copy()
            hidden = to_numpy(separable.apply(one.hidden.astype(np.float32), along)) > 0.5
            images[:4, :i, :j, :k][:, hidden] = 0
        out = []
        for window, members in _windows(self.lesions, images.shape[1:]):
            part = images[(slice(None), *window)].copy()
            part[:4][~keep] = 0
            logit = lesion_logit(part[:, ::-1])[::-1] if one.mirrored else lesion_logit(part)
            for item in members:
                own = logit[relative(item.where, window)]
                score = _score(_certainty(own[item.inside]), item.suspicion)
                out.append((item, _within(item, own), score))
        return out

    def _onto(self, lesion: SmallLesion, values: Floats, target: Grid) -> Floats:
        """Resample values in `lesion.where` to a grid."""
        coarser = bool(target.spacing_mm[0] > SPACING_MM)
        along = separable.matrices(self.study.grid, target, antialias=coarser)
        i, j, k = (m[:, side] for m, side in zip(along, lesion.where, strict=True))
        return to_numpy(separable.apply(np.ascontiguousarray(values), (i, j, k)))


def search(study: NetworkInput, known: Floats) -> SmallLesions | None:
    """Search a study with T1c for small enhancing lesions; None if there is none.

    Parameters
    ----------
    study : NetworkInput
        At `SPACING_MM`.
    known : (2, I, J, K) float32
        Logits of whole tumour and core by the other network, on the same grid.
    """
    shape = study.grid.shape
    brain = to_numpy(study.brain)
    images = np.concatenate([to_numpy(study.channels)[0], brain]).astype(np.float32)
    images = np.pad(images, [(0, 0), *((0, -n % MULTIPLE) for n in shape)])
    i, j, k = shape
    logit = np.where(brain[0], lesion_logit(images)[:i, :j, :k], -np.inf).astype(np.float32)
    parts, _ = ndimage.label(logit >= 0, TOUCHING)
    voxel_ml = study.grid.voxel_ml
    seen = _SearchArrays(logit, parts, known[0], _outlined_cores(known, voxel_ml), voxel_ml)
    found = [_lesion_of(seen, n, box) for n, box in enumerate(ndimage.find_objects(parts), 1)]
    lesions = [lesion for lesion in found if lesion is not None]
    if not lesions:
        return None
    probability = np.zeros(shape, np.float32)
    for lesion in lesions:
        held = probability[lesion.where]
        np.maximum(held, _within(lesion, logit[lesion.where]), out=held)
    return SmallLesions(study, images, probability, lesions)


def _outlined_cores(known: Floats, voxel_ml: float) -> Mask:
    """Return the cores that the other network outlines in lesions too large for the search."""
    parts, count = ndimage.label(known[0] >= 0, TOUCHING)
    large = np.bincount(parts.ravel(), minlength=count + 1) * voxel_ml > _LARGE_ML
    large[0] = False
    return np.asarray(large[parts] & (known[1] >= _CORE))


class _SearchArrays(NamedTuple):
    """Arrays on one grid."""

    logit: Floats
    parts: NDArray[np.int32]
    whole: Floats
    outlined: Mask
    voxel_ml: float


def _lesion_of(seen: _SearchArrays, number: int, box: Box) -> SmallLesion | None:
    """Return the lesion in a connected part; None if the part does not qualify."""
    own = seen.parts[box] == number
    ml = np.count_nonzero(own) * seen.voxel_ml
    if not _MIN_ML <= ml <= _MAX_ML or seen.outlined[box][own].mean() > _OVERLAP:
        return None
    certainty, suspicion = _certainty(seen.logit[box][own]), float(seen.whole[box][own].max())
    if _score(certainty, suspicion) < FLOOR:
        return None
    where = geometry.grown(box, _MARGIN_VOX, seen.parts.shape)
    parts = seen.parts[where]
    near = ndimage.binary_dilation(parts == number, TOUCHING, _MARGIN_VOX)
    return SmallLesion(where, near & ((parts == number) | (parts == 0)), certainty, suspicion)


def _certainty(logit: Floats) -> float:
    """Return the mean logit of the most certain voxels of those that are drawn; -inf of none."""
    drawn = np.sort(logit[logit >= 0])
    if not drawn.size:
        return -math.inf
    return float(drawn[-math.ceil(_TOP_SHARE * drawn.size) :].mean())


def _score(certainty: float, suspicion: float) -> float:
    if certainty == -math.inf:
        return 0.0
    total = _INTERCEPT + _CERTAINTY * certainty + _SUSPICION * max(suspicion, MIN_SUSPICION)
    return 1 / (1 + math.exp(-total))


def _within(lesion: SmallLesion, logit: Floats) -> Floats:
    """Return the probability in a lesion's own voxels, 0 in others."""
    return np.asarray(np.where(lesion.inside, sigmoid(logit), 0), np.float32)


def _windows(
    lesions: Sequence[SmallLesion], shape: Sequence[int]
) -> list[tuple[Box, list[SmallLesion]]]:
    """Return windows that each hold some of the lesions, with these; together all of them."""
    out: list[tuple[Box, list[SmallLesion]]] = []
    for lesion in lesions:
        for window, members in out:
            if all(w.start <= s.start and s.stop <= w.stop
                   for w, s in zip(window, lesion.where, strict=True)):  # fmt: skip
                members.append(lesion)
                break
        else:
            sides = []
            for side, size in zip(lesion.where, shape, strict=True):
                first = (side.start + side.stop - _WINDOW_VOX) // 2
                first = max(0, min(first, size - _WINDOW_VOX))
                sides.append(slice(first, min(first + _WINDOW_VOX, size)))
            out.append(((sides[0], sides[1], sides[2]), [lesion]))
    return out


def _enhances(channel: Floats, chance: Floats) -> Mask:
    """Return the voxels of a lesion whose T1c is above the middle of its range there."""
    held = chance >= 0.5
    if not held.any():
        return held
    low = float(np.median(channel[(chance > 0) & ~held])) if ((chance > 0) & ~held).any() else 0.0
    high = float(np.quantile(channel[held], 0.9))
    return np.asarray(channel >= (low + high) / 2)
