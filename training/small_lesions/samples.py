"""Crops with small enhancing lesions, on which the network that searches for them is trained.

Heads are those of `prompts/pool.py`: synthetic ones, and real ones away from their tumour. Lesions
are added anew to every crop, and so are distractors: vessels, blood, plaques. Only their contrast
with the surroundings is synthetic; the surroundings are real.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lesionlens.base.numerics import connected_parts
from lesionlens.network.unet import SMALL_LESIONS_SPACING_MM as SPACING_MM
from training.prompts import crops

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
T1, T1C, T2, FLAIR = range(4)
_MIN_SYNTHETIC_VOX, _MIN_REAL_VOX, _MAX_VOX = 20, 100, 6000  # voxels of a target lesion
_MIN_ENHANCING_FRACTION = 0.4  # of a target lesion
_RADII_MM = ((1.7, 4.2), (1.6, 8.0))  # of added lesions, half of them in each range


@dataclass(frozen=True, slots=True)
class Crop:
    """One sample."""

    x: Tensor
    """(5, n, n, n) float32: images as z-scores, and the brain."""
    target: Tensor
    """(1, n, n, n) float32: 1 in small lesions."""
    weight: Tensor
    """(1, n, n, n) float32: of each voxel in the loss."""


class Head:
    """One volume of the pool, read through memory maps."""

    def __init__(self, folder: Path) -> None:
        record = json.loads((folder / "about.json").read_text())
        self.name, self.real = folder.name, bool(record["real"])
        self.present = np.array(record["present"], bool)
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        code = np.load(folder / "code.npy")
        self.brain = np.asarray(code > 0)
        self.kind = _kinds(code, _MIN_REAL_VOX if self.real else _MIN_SYNTHETIC_VOX)
        """(I, J, K) uint8: 0 healthy, 1 oedema, 2 small lesion, 3 other tumour (ignored)."""
        depth = ndimage.distance_transform_edt(self.brain[::2, ::2, ::2])
        shallow = 2 * np.argwhere((depth > 0) & (depth <= 3))  # of 2 mm
        self._regions = [2 * np.argwhere(depth > 0), shallow, np.argwhere(self.kind == 1)]
        self._lesion_voxels = np.argwhere(self.kind == 2)

    def crop_centre(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Choose the centre of a crop, (3,) voxels: a lesion, or any position."""
        if len(self._lesion_voxels) and rng.random() < 0.35:
            return np.asarray(self._lesion_voxels[rng.integers(len(self._lesion_voxels))], float)
        positions = self._regions[rng.choice(3, p=(0.5, 0.35, 0.15))]
        positions = positions if len(positions) else self._regions[0]
        return np.asarray(positions[rng.integers(len(positions))] + rng.uniform(-6, 6, 3))


def _kinds(code: NDArray[np.uint8], min_voxels: int) -> NDArray[np.uint8]:
    kinds = np.where(code == 2, np.uint8(1), np.uint8(0))
    core, sizes = connected_parts(code >= 3)
    bright = np.bincount(core[code == 4], minlength=len(sizes))
    small = (
        (sizes >= min_voxels) & (sizes <= _MAX_VOX) & (bright >= _MIN_ENHANCING_FRACTION * sizes)
    )
    small[0] = False
    kinds[core > 0] = np.where(small[core[core > 0]], 2, 3)
    return kinds


def draw(head: Head, size: int, rng: np.random.Generator) -> Crop:
    """Sample a random crop of a head, and add lesions and distractors to it."""
    rotation = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.0]) @ _random_rotation(rng)
    step = SPACING_MM * rng.uniform(0.88, 1.15) * rotation
    offset = rng.uniform(-0.3, 0.3, 3) * size
    crop_frame = crops.Crop(head.crop_centre(rng) + step @ offset, step, size)
    images = crops.sample(head.image, crop_frame).numpy()
    brain = crops.sample(head.brain[None], crop_frame, nearest=True)[0].numpy() > 0.5
    kind = np.rint(crops.sample(head.kind[None], crop_frame, nearest=True)[0].numpy()).astype(
        np.uint8
    )
    if rng.random() < 0.15:
        brain &= _cut_by_plane(brain, rng)
    images = _with_other_contrast(images, rng)
    tissue = _CropTissue(brain, kind, _smooth_noise(size, 6, rng))
    for _ in range(rng.poisson(0.9)):
        _add_vessel(images, tissue, rng)
    if rng.random() < 0.2:
        _add_dura(images, tissue, rng)
    for _ in range(rng.poisson(0.6)):
        _add_mimic(images, tissue, rng)
    lesion_mask = np.where(brain & (kind == 2), 1.0, 0.0).astype(
        np.float32
    )  # added lesions are never cut off
    for _ in range(int(rng.choice([0, 1, 2, 3, 5], p=(0.25, 0.3, 0.2, 0.15, 0.1)))):
        _add_lesion(images, tissue, lesion_mask, rng)
    images *= brain
    if rng.random() < 0.2:
        brain |= _add_remnant(images, brain, rng)
    images = _with_artefacts(images, rng) * brain
    present = head.present.copy()
    present[[T1, T2, FLAIR]] &= rng.random(3) > (0.15, 0.2, 0.2)
    images *= present[:, None, None, None]
    weight = np.where(brain, 1.0, 0.0).astype(np.float32)
    weight[(kind == 3) & (lesion_mask < 0.5)] = 0
    weight[(kind == 1) & (lesion_mask < 0.5)] *= 0.5
    _weigh_lesions_equally(lesion_mask >= 0.5, weight)
    x = np.concatenate([images, brain[None]]).astype(np.float32)
    target = (lesion_mask >= 0.5)[None].astype(np.float32)
    return Crop(*map(torch.from_numpy, (x, target, weight[None])))


class _CropTissue(NamedTuple):
    """Brain, kind as in `Head.kind`, and smooth noise of a crop, each (n, n, n)."""

    brain: Mask
    kind: NDArray[np.uint8]
    noise: Floats


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    a, b, c = rng.uniform(-0.3, 0.3, 3)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_x @ about_y @ about_z)


def _smooth_noise(size: int, cells: int, rng: np.random.Generator) -> Floats:
    """Return smooth noise (n, n, n) of about unit variance."""
    coarse = torch.from_numpy(rng.normal(size=(1, 1, *(cells + 2,) * 3)).astype(np.float32))
    out = torch.nn.functional.interpolate(coarse, size=(size,) * 3, mode="trilinear")
    return np.asarray(1.6 * out[0, 0].numpy(), np.float32)


def _with_other_contrast(images: Floats, rng: np.random.Generator) -> Floats:
    """Scale and shift the intensities of each image a little."""
    scale = rng.uniform(0.85, 1.18, 4)[:, None, None, None]
    shift = rng.normal(0, 0.12, 4)[:, None, None, None]
    return np.asarray(images * scale + shift, np.float32)


def _box_around(images: Floats, centre: NDArray[np.intp], reach: int) -> tuple[slice, ...]:
    size = images.shape[-1]
    return tuple(slice(max(0, int(c) - reach), min(size, int(c) + reach + 1)) for c in centre)


def _distances(
    box: tuple[slice, ...], centre: NDArray[np.intp], axes: NDArray[np.floating]
) -> Floats:
    """Return the distance to a point in voxels, stretched along three axes."""
    steps = [np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True)]
    i, j, k = ((step * a) ** 2 for step, a in zip(steps, axes, strict=True))
    return np.asarray(np.sqrt(i[:, None, None] + j[:, None] + k), np.float32)


def _soft_edge(inside: Floats, width: float) -> Floats:
    return np.asarray(np.clip(0.5 + inside / (2 * width), 0, 1), np.float32)


def _lesion_centre(
    brain: Mask, kind: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.intp] | None:
    """Choose the centre of a lesion, sometimes at the surface; None if none was found."""
    size = brain.shape[0]
    for _ in range(12):
        centre = rng.integers(3, size - 3, 3)
        if brain[tuple(centre)] and kind[tuple(centre)] <= 1:
            break
    else:
        return None
    outside = 2 * np.argwhere(~brain[::2, ::2, ::2])
    if rng.random() >= 0.35 or not len(outside):
        return centre
    to_surface = outside[((outside - centre) ** 2).sum(1).argmin()] - centre
    length = float(np.linalg.norm(to_surface))
    if length <= 3:
        return centre
    surface_centre = np.rint(centre + to_surface * (1 - rng.uniform(1.0, 4.0) / length)).astype(int)
    surface_centre = np.clip(surface_centre, 2, size - 3)
    return (
        surface_centre
        if brain[tuple(surface_centre)] and kind[tuple(surface_centre)] <= 1
        else centre
    )


def _add_lesion(
    images: Floats, tissue: _CropTissue, lesion_mask: Floats, rng: np.random.Generator
) -> None:
    """Add a solid or ring-enhancing lesion, with or without oedema."""
    centre = _lesion_centre(tissue.brain, tissue.kind, rng)
    if centre is None:
        return
    radius = float(np.exp(rng.uniform(*np.log(_RADII_MM[rng.integers(2)])))) / SPACING_MM
    box = _box_around(images, centre, int(np.ceil(radius + 14.0)))
    distance = _distances(box, centre, np.exp(rng.normal(0, 0.18, 3)))
    kind, noise = tissue.kind[box], tissue.noise[box]
    rough = 1 + 0.16 * noise
    inside = tissue.brain[box] & (kind <= 2)
    mask = _soft_edge(radius * rough - distance, rng.uniform(0.4, 0.9)) * inside
    part = images[(slice(None), *box)]
    if rng.random() < 0.55:
        _add_oedema(part, radius * rough - distance, rough, inside & (kind <= 1), rng)
    local = part[T1C][distance < radius + 3].mean()
    texture = part - ndimage.uniform_filter(part, (0, 3, 3, 3))
    is_bright_on_t1 = rng.random() < 0.14  # melanin or blood
    t1 = rng.uniform(0.4, 2.0) if is_bright_on_t1 else rng.uniform(-1.0, 0.4)
    t1c = max(local, t1) + float(np.exp(rng.uniform(np.log(0.6), np.log(4.5))))
    intensities = _levels(t1, t1c, rng.uniform(-0.6, 2.0), rng.uniform(-0.6, 2.0))
    intensities = intensities + 0.5 * texture + 0.12 * noise
    if radius > 3 and rng.random() < 0.4:  # necrosis within a rim
        core = _soft_edge(radius * rough - distance - rng.uniform(1.2, 0.6 * radius), 0.5)
        low = local - rng.uniform(0.2, 1.2)
        necrosis = _levels(
            rng.uniform(-1.6, -0.4), low, rng.uniform(0.5, 3.0), rng.uniform(-0.5, 2.0)
        )
        intensities += core * (necrosis - intensities)
    part += mask * (intensities - part)
    lesion_mask[box] = np.maximum(lesion_mask[box], np.where(mask >= 0.5, 1, 0))


def _levels(t1: float, t1c: float, t2: float, flair: float) -> Floats:
    return np.array([t1, t1c, t2, flair], np.float32)[:, None, None, None]


def _add_oedema(
    part: Floats, depth: Floats, rough: Floats, inside: Mask, rng: np.random.Generator
) -> None:
    """Add oedema around a lesion; `depth` is the depth below its border, in voxels."""
    extent = rng.uniform(1.5, 12.0)
    mask = _soft_edge(depth + extent * (rough - 0.1), 1.5) * inside
    mask *= np.where(part[T1] > -0.4, 1.0, 0.25)  # white matter rather than cortex and fluid
    darker, wetter = rng.uniform(0.2, 0.9, 2), rng.uniform(0.6, 2.4, 2)
    part += mask * _levels(-darker[0], -darker[1], wetter[0], wetter[1])


def _add_vessel(images: Floats, tissue: _CropTissue, rng: np.random.Generator) -> None:
    """Add a curved tube that is bright on T1c, and may be a flow void elsewhere."""
    size = images.shape[-1]
    position = rng.uniform(4, size - 4, 3)
    heading = rng.normal(size=3)
    centres = np.zeros((size,) * 3, bool)
    for _ in range(int(rng.uniform(15, 60))):
        heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.16, 3)
        position = position + 0.8 * heading / np.linalg.norm(heading)
        voxel = np.rint(position).astype(int)
        if (voxel < 0).any() or (voxel >= size).any():
            break
        centres[tuple(voxel)] = True
    if not centres.any():
        return
    distance = ndimage.distance_transform_edt(~centres)
    mask = (
        _soft_edge((rng.uniform(0.5, 1.7) - distance).astype(np.float32), 0.6)
        * tissue.brain
        * (tissue.kind <= 1)
    )
    bright = rng.uniform(0.8, 4.5)
    images[T1C] += mask * bright
    images[T1] += mask * rng.choice([0.0, -0.3, 0.3 * bright])
    images[T2] -= mask * rng.uniform(0, 1.0)
    images[FLAIR] -= mask * rng.uniform(0, 0.8)


def _cut_by_plane(brain: Mask, rng: np.random.Generator) -> Mask:
    """Return the side of a random plane that remains of a brain cut off by it."""
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    i, j, k = (np.arange(n) - n / 2 for n in brain.shape)
    along = normal[0] * i[:, None, None] + normal[1] * j[:, None] + normal[2] * k
    return np.asarray(along < rng.uniform(-8, 20))


def _add_dura(images: Floats, tissue: _CropTissue, rng: np.random.Generator) -> None:
    """Add patches of a thin enhancing layer at the surface."""
    depth = ndimage.distance_transform_edt(tissue.brain).astype(np.float32)
    patches = _soft_edge(tissue.noise - rng.uniform(-0.5, 1.5), 0.3)
    layer = _soft_edge((rng.uniform(0.8, 2.2) - depth).astype(np.float32), 0.6) * patches
    images[T1C] += layer * tissue.brain * (tissue.kind <= 1) * rng.uniform(0.8, 4.0)


def _add_remnant(images: Floats, brain: Mask, rng: np.random.Generator) -> Mask:
    """Add tissue that brain extraction left outside the brain; return its voxels."""
    outside = np.argwhere(~brain)
    remnant = np.zeros_like(brain)
    if not len(outside):
        return remnant
    centre = outside[rng.integers(len(outside))]
    radius = float(rng.uniform(2.0, 8.0))
    box = _box_around(images, centre, int(radius) + 3)
    distance = _distances(box, centre, np.exp(rng.normal(0, 0.3, 3)))
    remnant[box] = (distance < radius) & ~brain[box]
    levels = _levels(*rng.normal(0, 1.2, 4))
    inner = _soft_edge(radius - rng.uniform(1, 3) - distance, 1.0)[remnant[box]]
    layer = rng.normal(0, 1.0, 4)[:, None] * inner
    images[:, remnant] = levels.reshape(4, 1) + layer
    return remnant


def _add_mimic(images: Floats, tissue: _CropTissue, rng: np.random.Generator) -> None:
    """Add a distractor that does not enhance: blood or fat, a plaque, a cyst."""
    brain, kind, noise = tissue.brain, tissue.kind, tissue.noise
    centre = rng.integers(3, images.shape[-1] - 3, 3)
    if not brain[tuple(centre)] or kind[tuple(centre)] > 1:
        return
    radius = float(np.exp(rng.uniform(np.log(1.5), np.log(8.0)))) / SPACING_MM
    box = _box_around(images, centre, int(np.ceil(radius + 6)))
    distance = _distances(box, centre, np.exp(rng.normal(0, 0.25, 3)))
    mask = (
        _soft_edge(radius * (1 + 0.16 * noise[box]) - distance, 0.7) * brain[box] * (kind[box] <= 1)
    )
    part = images[(slice(None), *box)]
    t1 = rng.uniform(0.6, 3.0)
    kinds = (
        (t1, t1 + rng.uniform(-0.3, 0.15), rng.uniform(-2, 2), rng.uniform(-1, 2)),  # blood, fat
        (rng.uniform(-1, 0), rng.uniform(-1, 0), rng.uniform(0.5, 2.5), rng.uniform(0.8, 3)),
        (-2.0, -2.0, rng.uniform(1.5, 3.5), rng.uniform(-2, 0.5)),  # cyst
    )
    levels = _levels(*kinds[rng.choice(3, p=(0.5, 0.35, 0.15))])
    part += mask * (levels + 0.1 * noise[box] - part)


def _with_artefacts(images: Floats, rng: np.random.Generator) -> Floats:
    """Blur the images, isotropically or as thick slices, and add noise."""
    roll = rng.random()
    if roll < 0.25:
        images = ndimage.gaussian_filter(images, (0, *(rng.uniform(0.3, 0.8),) * 3))
    elif roll < 0.5:
        width = int(rng.integers(2, 5))
        axis = 1 + int(rng.integers(3))
        images = ndimage.uniform_filter1d(images, width, axis)
    noise = rng.normal(0, rng.uniform(0, 0.18), images.shape)
    return np.asarray(images + noise, np.float32)


def _weigh_lesions_equally(lesion_mask: Mask, weight: Floats) -> None:
    """Scale the weights, in place, so that lesions count about equally whatever their size."""
    parts, sizes = connected_parts(lesion_mask)
    weights = np.clip(240.0 / np.maximum(sizes, 1), 1.5, 16.0)
    weights[0] = 1.0
    weight *= weights[parts].astype(np.float32)
