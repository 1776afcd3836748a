"""Crops with small enhancing lesions, which the network that looks for them trains on.

Heads are those of `prompt_pool.py`: drawn ones, and real ones whose tumour is left out. Lesions are
put into them anew for every crop, and so is what looks alike: vessels, blood, plaques. Only the
contrast with their surroundings is drawn; the surroundings themselves are real.
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

from lesionlens.base.geometry import TOUCHING
from lesionlens.network.prompt import crop
from lesionlens.network.small_lesions import SPACING_MM

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
T1, T1C, T2, FLAIR = range(4)
_MIN_DRAWN, _MIN_REAL, _LARGEST = 20, 100, 6000  # voxels of a lesion that is to be found
_ENHANCING_SHARE = 0.4  # of such a lesion at least


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
        about = json.loads((folder / "about.json").read_text())
        self.name, self.real = folder.name, bool(about["real"])
        self.present = np.array(about["present"], bool)
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        code = np.load(folder / "code.npy")
        self.brain = np.asarray(code > 0)
        self.kind = _kinds(code, _MIN_REAL if self.real else _MIN_DRAWN)
        """(I, J, K) uint8: 0 healthy, 1 oedema, 2 a small lesion, 3 other tumour, left out."""
        depth = ndimage.distance_transform_edt(self.brain[::2, ::2, ::2])
        shallow = 2 * np.argwhere((depth > 0) & (depth <= 3))  # of 2 mm
        self._seats = [2 * np.argwhere(depth > 0), shallow, np.argwhere(self.kind == 1)]
        self._own = np.argwhere(self.kind == 2)

    def seat(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return where a crop is centred, (3,) voxels: at a lesion of its own, or anywhere."""
        if len(self._own) and rng.random() < 0.35:
            return np.asarray(self._own[rng.integers(len(self._own))], float)
        some = self._seats[rng.choice(3, p=(0.5, 0.35, 0.15))]
        some = some if len(some) else self._seats[0]
        return some[rng.integers(len(some))] + rng.uniform(-6, 6, 3)


def _kinds(code: NDArray[np.uint8], least: int) -> NDArray[np.uint8]:
    out = np.where(code == 2, np.uint8(1), np.uint8(0))
    core, count = ndimage.label(code >= 3, TOUCHING)
    sizes = np.bincount(core.ravel(), minlength=count + 1)
    bright = np.bincount(core[code == 4], minlength=count + 1)
    small = (sizes >= least) & (sizes <= _LARGEST) & (bright >= _ENHANCING_SHARE * sizes)
    small[0] = False
    out[core > 0] = np.where(small[core[core > 0]], 2, 3)
    return out


def draw(head: Head, size: int, rng: np.random.Generator) -> Crop:
    """Cut a crop out of a head, at random, and put lesions and look-alikes into it."""
    turn = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.0]) @ _turned(rng)
    step = SPACING_MM * rng.uniform(0.88, 1.15) * turn
    offset = rng.uniform(-0.3, 0.3, 3) * size
    place = crop.Crop(head.seat(rng) + step @ offset, step, size)
    images = crop.sample(head.image, place).numpy()
    brain = crop.sample(head.brain[None], place, nearest=True)[0].numpy() > 0.5
    kind = np.rint(crop.sample(head.kind[None], place, nearest=True)[0].numpy()).astype(np.uint8)
    images = _recontrasted(images, rng)
    about = _About(brain, kind, _noise(size, 6, rng))
    for _ in range(rng.poisson(0.9)):
        _add_vessel(images, about, rng)
    for _ in range(rng.poisson(0.6)):
        _add_mimic(images, about, rng)
    found = np.where(kind == 2, 1.0, 0.0).astype(np.float32)
    for _ in range(int(rng.choice([0, 1, 2, 3, 5], p=(0.25, 0.3, 0.2, 0.15, 0.1)))):
        _add_lesion(images, about, found, rng)
    images = _degraded(images * brain, rng) * brain
    shown = head.present.copy()
    shown[[T1, T2, FLAIR]] &= rng.random(3) > (0.15, 0.2, 0.2)
    images *= shown[:, None, None, None]
    weight = np.where(brain, 1.0, 0.0).astype(np.float32)
    weight[(kind == 3) & (found < 0.5)] = 0
    weight[(kind == 1) & (found < 0.5)] *= 0.5
    _weigh_each(found >= 0.5, weight)
    x = np.concatenate([images, brain[None]]).astype(np.float32)
    target = (found >= 0.5)[None].astype(np.float32)
    return Crop(*map(torch.from_numpy, (x, target, weight[None])))


class _About(NamedTuple):
    """Of one crop: brain, kinds of tissue as in `Head.kind`, smooth noise; each (n, n, n)."""

    brain: Mask
    kind: NDArray[np.uint8]
    fine: Floats


def _turned(rng: np.random.Generator) -> NDArray[np.float64]:
    a, b, c = rng.uniform(-0.3, 0.3, 3)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(x @ y @ z)


def _noise(size: int, cells: int, rng: np.random.Generator) -> Floats:
    """Return smooth noise (n, n, n) of about unit spread."""
    coarse = torch.from_numpy(rng.normal(size=(1, 1, *(cells + 2,) * 3)).astype(np.float32))
    out = torch.nn.functional.interpolate(coarse, size=(size,) * 3, mode="trilinear")
    return np.asarray(1.6 * out[0, 0].numpy(), np.float32)


def _recontrasted(images: Floats, rng: np.random.Generator) -> Floats:
    """Change each image's contrast and brightness a little."""
    scale = rng.uniform(0.85, 1.18, 4)[:, None, None, None]
    shift = rng.normal(0, 0.12, 4)[:, None, None, None]
    return np.asarray(images * scale + shift, np.float32)


def _around(images: Floats, centre: NDArray[np.intp], reach: int) -> tuple[slice, ...]:
    size = images.shape[-1]
    return tuple(slice(max(0, int(c) - reach), min(size, int(c) + reach + 1)) for c in centre)


def _distances(
    box: tuple[slice, ...], centre: NDArray[np.intp], axes: NDArray[np.floating]
) -> Floats:
    """Return the distance to a point in voxels, stretched along three axes."""
    steps = [np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True)]
    i, j, k = ((step * a) ** 2 for step, a in zip(steps, axes, strict=True))
    return np.asarray(np.sqrt(i[:, None, None] + j[:, None] + k), np.float32)


def _soft(inside: Floats, width: float) -> Floats:
    return np.asarray(np.clip(0.5 + inside / (2 * width), 0, 1), np.float32)


def _seat_of_lesion(
    brain: Mask, kind: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.intp] | None:
    """Return where a lesion is put, now and then at the surface; None if no place was found."""
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
    gap = outside[((outside - centre) ** 2).sum(1).argmin()] - centre
    length = float(np.linalg.norm(gap))
    if length <= 3:
        return centre
    moved = np.rint(centre + gap * (1 - rng.uniform(1.0, 4.0) / length)).astype(int)
    moved = np.clip(moved, 2, size - 3)
    return moved if brain[tuple(moved)] and kind[tuple(moved)] <= 1 else centre


def _add_lesion(images: Floats, about: _About, found: Floats, rng: np.random.Generator) -> None:
    """Draw a solid or ringed lesion that takes up contrast agent, with or without oedema."""
    centre = _seat_of_lesion(about.brain, about.kind, rng)
    if centre is None:
        return
    radius = float(np.exp(rng.uniform(np.log(1.6), np.log(8.0)))) / SPACING_MM
    box = _around(images, centre, int(np.ceil(radius + 14.0)))
    far = _distances(box, centre, np.exp(rng.normal(0, 0.18, 3)))
    kind, fine = about.kind[box], about.fine[box]
    rough = 1 + 0.16 * fine
    inside = about.brain[box] & (kind <= 2)
    mask = _soft(radius * rough - far, rng.uniform(0.4, 0.9)) * inside
    part = images[(slice(None), *box)]
    if rng.random() < 0.55:
        _add_oedema(part, radius * rough - far, rough, inside & (kind <= 1), rng)
    local = part[T1C][far < radius + 3].mean()
    texture = part - ndimage.uniform_filter(part, (0, 3, 3, 3))
    bright = rng.random() < 0.14  # melanin or blood
    t1 = rng.uniform(0.4, 2.0) if bright else rng.uniform(-1.0, 0.4)
    t1c = max(local, t1) + float(np.exp(rng.uniform(np.log(0.7), np.log(5.0))))
    filled = _levels(t1, t1c, rng.uniform(-0.6, 2.0), rng.uniform(-0.6, 2.0))
    filled = filled + 0.5 * texture + 0.12 * fine
    if radius > 3 and rng.random() < 0.4:  # necrosis within a rim
        core = _soft(radius * rough - far - rng.uniform(1.2, 0.6 * radius), 0.5)
        low = local - rng.uniform(0.2, 1.2)
        dead = _levels(rng.uniform(-1.6, -0.4), low, rng.uniform(0.5, 3.0), rng.uniform(-0.5, 2.0))
        filled += core * (dead - filled)
    part += mask * (filled - part)
    found[box] = np.maximum(found[box], np.where(mask >= 0.5, 1, 0))


def _levels(t1: float, t1c: float, t2: float, flair: float) -> Floats:
    return np.array([t1, t1c, t2, flair], np.float32)[:, None, None, None]


def _add_oedema(
    part: Floats, depth: Floats, rough: Floats, inside: Mask, rng: np.random.Generator
) -> None:
    """Draw oedema round a lesion of which `depth` is the distance to its border, in voxels."""
    wide = rng.uniform(1.5, 12.0)
    mask = _soft(depth + wide * (rough - 0.1), 1.5) * inside
    mask *= np.where(part[T1] > -0.4, 1.0, 0.25)  # white matter rather than cortex and fluid
    darker, wetter = rng.uniform(0.2, 0.9, 2), rng.uniform(0.6, 2.4, 2)
    part += mask * _levels(-darker[0], -darker[1], wetter[0], wetter[1])


def _add_vessel(images: Floats, about: _About, rng: np.random.Generator) -> None:
    """Draw a bright, curved tube: in T1c alone, now and then a flow void elsewhere."""
    size = images.shape[-1]
    at = rng.uniform(4, size - 4, 3)
    heading = rng.normal(size=3)
    centres = np.zeros((size,) * 3, bool)
    for _ in range(int(rng.uniform(15, 60))):
        heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.16, 3)
        at = at + 0.8 * heading / np.linalg.norm(heading)
        voxel = np.rint(at).astype(int)
        if (voxel < 0).any() or (voxel >= size).any():
            break
        centres[tuple(voxel)] = True
    if not centres.any():
        return
    far = ndimage.distance_transform_edt(~centres)
    mask = (
        _soft((rng.uniform(0.5, 1.7) - far).astype(np.float32), 0.6)
        * about.brain
        * (about.kind <= 1)
    )
    bright = rng.uniform(0.8, 4.5)
    images[T1C] += mask * bright
    images[T1] += mask * rng.choice([0.0, -0.3, 0.3 * bright])
    images[T2] -= mask * rng.uniform(0, 1.0)
    images[FLAIR] -= mask * rng.uniform(0, 0.8)


def _add_mimic(images: Floats, about: _About, rng: np.random.Generator) -> None:
    """Draw what does not enhance: blood or fat, a plaque, a cyst, a dark spot."""
    brain, kind, fine = about.brain, about.kind, about.fine
    centre = rng.integers(3, images.shape[-1] - 3, 3)
    if not brain[tuple(centre)] or kind[tuple(centre)] > 1:
        return
    radius = float(np.exp(rng.uniform(np.log(1.5), np.log(8.0)))) / SPACING_MM
    box = _around(images, centre, int(np.ceil(radius + 6)))
    far = _distances(box, centre, np.exp(rng.normal(0, 0.25, 3)))
    mask = _soft(radius * (1 + 0.16 * fine[box]) - far, 0.7) * brain[box] * (kind[box] <= 1)
    part = images[(slice(None), *box)]
    t1 = rng.uniform(0.6, 3.0)
    kinds = (
        (t1, t1 + rng.uniform(-0.3, 0.15), rng.uniform(-2, 2), rng.uniform(-1, 2)),  # blood, fat
        (rng.uniform(-1, 0), rng.uniform(-1, 0), rng.uniform(0.5, 2.5), rng.uniform(0.8, 3)),
        (-2.0, -2.0, rng.uniform(1.5, 3.5), rng.uniform(-2, 0.5)),  # cyst
    )
    levels = _levels(*kinds[rng.choice(3, p=(0.5, 0.35, 0.15))])
    part += mask * (levels + 0.1 * fine[box] - part)


def _degraded(images: Floats, rng: np.random.Generator) -> Floats:
    """Blur all images, or the thick slices of one direction; add noise."""
    roll = rng.random()
    if roll < 0.25:
        images = ndimage.gaussian_filter(images, (0, *(rng.uniform(0.3, 0.8),) * 3))
    elif roll < 0.5:
        width = int(rng.integers(2, 5))
        axis = 1 + int(rng.integers(3))
        images = ndimage.uniform_filter1d(images, width, axis)
    noise = rng.normal(0, rng.uniform(0, 0.18), images.shape)
    return np.asarray(images + noise, np.float32)


def _weigh_each(found: Mask, weight: Floats) -> None:
    """Weigh every lesion alike, however small."""
    parts, count = ndimage.label(found, TOUCHING)
    if not count:
        return
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    each = np.clip(240.0 / np.maximum(sizes, 1), 1.5, 16.0)
    each[0] = 1.0
    weight *= each[parts].astype(np.float32)
