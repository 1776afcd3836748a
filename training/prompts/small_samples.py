"""Training samples of the prompt network for small objects: crops of about 32 mm.

Two fifths of the targets are added to a volume (plaques, enhancing nodules and rings, blood,
anything bright or dark), half are in it already, and an eighth are larger than the crop, so that
the network is also trained on partly visible targets.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from typing_extensions import override

from lesionlens.network.prompt_net import Scene
from training.prompts.samples import (
    FIRST_HELD_OUT,
    FIRST_SPOT,
    Crop,
    PromptObject,
    Sample,
    Sampler,
    Volume,
    imperfect_prediction,
    make_sample,
    make_scene,
    ragged_ellipsoid,
    random_brain_voxel,
    random_crop,
    random_presence,
    sample_labels,
    with_outline_errors,
)

Mask = NDArray[np.bool_]
_MAX_SMALL_VOX = 6000
_T1, _T1C, _T2, _FLAIR = range(4)
_OEDEMA_MM = 2.4


class SmallSampler(Sampler):
    """Samples small objects from a pool of volumes that may grow meanwhile."""

    shares = (0.2, 0.8, 0.0)

    @override
    def sample_of(self, volume: Volume, size: int, rng: np.random.Generator) -> Sample | None:
        """Draw one sample of a volume; None if there is no target."""
        targets = [t for t in volume.objects if t.number < FIRST_HELD_OUT]
        small = [t for t in targets if t.voxels <= _MAX_SMALL_VOX]
        large = [t for t in targets if t.voxels > _MAX_SMALL_VOX]
        kind = rng.random()
        if kind < 0.42 or not small:
            return _added_lesion(volume, size, rng)
        if kind < 0.88 or not large:
            lesions = [t for t in small if t.number < FIRST_SPOT and t.voxels >= 30]
            candidates = lesions if lesions and rng.random() < 0.5 else small
            return _existing_object(volume, candidates[rng.integers(len(candidates))], size, rng)
        return _existing_object(volume, large[rng.integers(len(large))], size, rng)


def _existing_object(
    volume: Volume, target_object: PromptObject, size: int, rng: np.random.Generator
) -> Sample | None:
    """Sample an object of the volume, or the core of a lesion."""
    voxels = np.argwhere(volume.object_labels[target_object.box] == target_object.number)
    voxels = voxels + [side.start for side in target_object.box]
    position = voxels[rng.integers(len(voxels))].astype(float)
    if target_object.voxels <= _MAX_SMALL_VOX and rng.random() < 0.7:
        position = voxels.mean(0)
    crop = _crop(position + rng.normal(0, 2.5, 3), size, rng)
    code = sample_labels(volume.code, crop)
    target = sample_labels(volume.object_labels, crop) == target_object.number
    region = None
    if target_object.number < FIRST_SPOT:
        level = int(rng.choice(3, p=(0.6, 0.15, 0.25)))
        level = level if (target & (code > 1 + level)).sum() >= 8 else 0
        target &= code > 1 + level
        region = level if rng.random() < 0.4 else None
    outline = None
    if rng.random() < 0.3 and target.any():
        outline = with_outline_errors(target, rng) & (code > 0)
    probability = None
    if rng.random() < 0.7:
        probability = volume.prediction_at(crop, int(rng.integers(len(volume.predictions))))
    scene = make_scene(volume, crop, random_presence(volume, rng), code, probability, rng)
    return make_sample(
        _with_artefacts(scene, rng), target, outline, region, rng, local=outline is not None
    )


def _added_lesion(volume: Volume, size: int, rng: np.random.Generator) -> Sample | None:
    """Add a small synthetic lesion to a volume."""
    crop = _crop(random_brain_voxel(volume, rng), size, rng)
    code = sample_labels(volume.code, crop)
    distance = ragged_ellipsoid(
        size, crop.spacing_mm, rng, jitter=2.5, radii=(1.8, 9.0), axes=(0.65, 1.5), smooth=0.8,
        rough=0.4,
    )  # fmt: skip
    parts, _ = ndimage.label((distance < 1) & (code > 0))
    if not parts.any():
        return None
    target = parts == np.bincount(parts[parts > 0]).argmax()
    probability = volume.prediction_at(crop, 0) if rng.random() < 0.7 else None
    if probability is not None and rng.random() < 0.3:
        probability = torch.maximum(probability, imperfect_prediction(target, rng))
    scene = make_scene(volume, crop, random_presence(volume, rng), code, probability, rng)
    present = torch.tensor(scene.present).float()[:, None, None, None]
    change = torch.from_numpy(_intensities(distance, target, rng)) * present * scene.brain
    scene = _with_artefacts(replace(scene, images=(scene.images + change).clamp(-5, 6)), rng)
    outline = with_outline_errors(target, rng) & (code > 0) if rng.random() < 0.3 else None
    return make_sample(scene, target, outline, None, rng, local=outline is not None)


def _intensities(
    distance: NDArray[np.float64], target: Mask, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the intensity change of a lesion, (4, n, n, n) z-scores."""
    offset, core = _contrast(rng)
    soft = ndimage.gaussian_filter(target.astype(np.float32), rng.uniform(0.4, 1.0))
    depth = ndimage.distance_transform_edt(target)
    centre = ndimage.gaussian_filter((depth > 0.45 * max(depth.max(), 1)).astype(np.float32), 0.5)
    rough = ndimage.gaussian_filter(rng.normal(size=distance.shape), 1.2)
    change = offset[:, None, None, None] * soft * (1 + rng.uniform(0, 1.6) * rough)
    change = change + core[:, None, None, None] * centre
    if rng.random() < 0.25:  # oedema, which is not part of the target
        near = np.clip(_OEDEMA_MM - rng.uniform(0, 0.8) - distance, 0, 1)
        ring = ndimage.gaussian_filter(near, 1.0)
        oedema = np.zeros(4)
        oedema[[_T2, _FLAIR]] = rng.uniform(0.3, 1.5)
        oedema[_T1] = -rng.uniform(0, 0.5)
        change = change + oedema[:, None, None, None] * ring * (1 - soft)
    return np.asarray(change, np.float32)


def _contrast(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the change of T1, T1c, T2 and FLAIR in a lesion and in its centre, in z-scores."""
    strength = float(np.exp(rng.uniform(np.log(0.3), np.log(3.0))))
    offset, core, kind = rng.normal(0, 0.12, 4), np.zeros(4), rng.random()
    if kind < 0.35:  # plaque
        offset += strength * rng.uniform((-0.5, -0.5, 0.1, 0.6), (0.0, 0.6, 0.9, 1.2))
    elif kind < 0.65:  # enhancing nodule or ring
        offset += strength * rng.uniform((-0.4, 1.3, -0.2, -0.1), (0.1, 1.3, 0.6, 0.6))
        core[_T1C] = -strength * rng.uniform(0.5, 1.5) * (rng.random() < 0.4)
    elif kind < 0.75:  # blood
        offset[[_T1, _T1C]] += strength * rng.uniform(-0.5, 1.2)
        offset[[_T2, _FLAIR]] += rng.choice([-1, 1]) * strength * rng.uniform(0.3, 1)
    else:
        offset += rng.normal(0, 1.0, 4) * (rng.random(4) < 0.8)
        offset[rng.integers(4)] += rng.choice([-1, 1]) * strength
    return offset, core


def _crop(centre: NDArray[np.float64], size: int, rng: np.random.Generator) -> Crop:
    return random_crop(centre, float(rng.uniform(0.85, 1.2)), size, rng)


def _with_artefacts(scene: Scene, rng: np.random.Generator) -> Scene:
    """Add thick slices or noise, at random."""
    images = scene.images.numpy().copy()
    if rng.random() < 0.2:
        sigma = [0.0, 0.0, 0.0]
        sigma[int(rng.integers(3))] = float(rng.uniform(0.6, 2.0))
        for channel in np.flatnonzero(rng.random(4) < 0.6):
            images[channel] = ndimage.gaussian_filter(images[channel], sigma)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(0.03, 0.25), images.shape)
        present = np.array(scene.present)[:, None, None, None]
        images += (noise * present * scene.brain.numpy()).astype(np.float32)
    return replace(scene, images=torch.from_numpy(images))
