"""Training samples of the prompt network: a crop, a target in it, an outline and prompts.

Nearly half of the samples begin with an outline that has realistic errors: the prediction of the
analysis network from fewer sequences, or from all. A simulated reader points at the largest error.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.geometry import TOUCHING
from lesionlens.network.prompt.crop import Crop, Question, Scene, sample
from lesionlens.network.synth.instances import ENHANCEMENT, WHITE_SPOTS
from research.prompts.anatomies import painted

Mask = NDArray[np.bool_]
SPOT, _BRIGHT, _FLUID, HELD_OUT = 100, 1000, 5000, 6000
_VENTRICLE, _DEEP = 4, 5  # values of tissue.npy; the second is never trained on


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that a reader may point at."""

    number: int
    """Value in `Volume.things`; below `SPOT` a lesion."""
    box: tuple[slice, slice, slice]
    voxels: int


class Volume:
    """One folder of the pool; arrays are read from the disk as needed."""

    def __init__(self, folder: Path) -> None:
        record = json.loads((folder / "about.json").read_text())
        self.name, self.real = folder.name, record["real"]
        self.present = np.array(record["present"], bool)
        self.subsets = [np.array(subset, bool) for subset in record["subsets"]]
        self.groups = record.get("groups")
        """Of a label map: the tissue class of each label; its images are painted anew each time."""
        self.code = np.load(folder / "code.npy", mmap_mode="r")
        self.things, self.list = _things(folder, self.code)
        if self.groups:
            self.labels = np.load(folder / "labels.npy", mmap_mode="r")
            return
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        self.guess = np.load(folder / "guess.npy", mmap_mode="r")
        fine, coarse = np.array(self.code.shape), np.array(self.guess.shape[2:])
        self.coarse_to_fine = (fine - 1) / 2 - (coarse - 1)
        nearest = [
            np.clip(np.rint(2 * np.arange(c) + o).astype(int), 0, f - 1)
            for c, f, o in zip(coarse, fine, self.coarse_to_fine, strict=True)
        ]
        self.coarse_code = np.asarray(self.code[np.ix_(*nearest)])
        self.coarse_things = np.asarray(self.things[np.ix_(*nearest)])

    def guess_at(self, crop: Crop, number: int) -> torch.Tensor:
        """One of the guesses (3, n, n, n) at a place, 0 to 1."""
        if self.groups:
            return torch.zeros(3, *(crop.size,) * 3)
        centre = (crop.centre - self.coarse_to_fine) / 2
        coarse = Crop(centre, crop.step / 2, crop.size)
        return sample(self.guess[number], coarse) / 255


def _things(folder: Path, code: NDArray[np.uint8]) -> tuple[NDArray[np.uint16], list[Thing]]:
    """Return a number for everything that can be pointed at; kept beside the volume."""
    file = folder / "things.npy"
    if not file.is_file():
        parts = np.load(folder / "parts.npy")
        things = np.where((code > 1) & (parts < WHITE_SPOTS), parts, 0).astype(np.uint16)
        kinds = [(parts == WHITE_SPOTS, SPOT), (parts == ENHANCEMENT, _BRIGHT)]
        if (folder / "tissue.npy").is_file():
            tissue = np.where(things > 0, 0, np.load(folder / "tissue.npy"))
            kinds += [(tissue == _VENTRICLE, _FLUID), (tissue == _DEEP, HELD_OUT)]
        for mask, first in kinds:
            components, _ = ndimage.label(mask & (things == 0), TOUCHING)
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            for rank, component in enumerate(np.argsort(-sizes)[:60]):
                if sizes[component] >= 20:
                    things[components == component] = first + rank
        temporary = folder / f"things-{os.getpid()}.npy"
        np.save(temporary, things)
        temporary.replace(file)
    things = np.load(file, mmap_mode="r")
    sizes = np.bincount(np.asarray(things).ravel())
    boxes = ndimage.find_objects(np.asarray(things))
    components = [
        Thing(n, boxes[n - 1], int(sizes[n]))
        for n in np.flatnonzero(sizes).tolist()
        if n and sizes[n] >= 20
    ]
    return things, components


@dataclass(eq=False)
class Sample:
    """One crop, what is asked of it and what is right."""

    scene: Scene
    question: Question
    target: Mask
    newest: Mask
    """Voxels of the latest prompts, round which the answer counts."""
    local: bool = field(default=False)
    """Whether only what is near the prompts may change."""


def next_click(
    target: Mask, outline: Mask, rng: np.random.Generator, *, exact: bool = False
) -> tuple[NDArray[np.int64], bool] | None:
    """Point into the middle of the largest error: the voxel and whether it belongs."""
    error = target ^ outline
    if not error.any():
        return None
    parts, count = ndimage.label(error)
    sizes = np.bincount(parts.ravel(), minlength=count + 1).astype(float)
    sizes[0] = 0
    largest = int(sizes.argmax())
    if not exact and rng.random() < 0.3:
        largest = int(rng.choice(count + 1, p=sizes / sizes.sum()))
    box = ndimage.find_objects(parts, max_label=largest)[largest - 1]
    part = np.pad(parts[box] == largest, 1)
    depth = ndimage.distance_transform_edt(part)
    if exact:
        voxel = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    else:
        candidates = np.argwhere(depth >= rng.uniform(0.3, 1.0) * depth.max())
        voxel = candidates[rng.integers(len(candidates))]
    voxel = voxel - 1 + np.array([s.start for s in box])
    return voxel, bool(target[tuple(voxel)])


def _scribble(mask: Mask, voxel: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a short line from a voxel to another of the same part."""
    parts, _ = ndimage.label(mask)
    part_voxels = np.argwhere(parts == parts[tuple(voxel)])
    end = part_voxels[rng.integers(len(part_voxels))]
    steps = max(2, int(np.abs(end - voxel).max()) + 1)
    line = np.rint(np.linspace(voxel, end, min(steps, 16))).astype(int)
    return np.asarray(line[parts[tuple(line.T)] == parts[tuple(voxel)]])


def mark(sample_: Sample, rng: np.random.Generator) -> bool:
    """Add the reader's next prompt to a sample; False where nothing is wrong."""
    question = sample_.question
    previous = question.outline if question.outline is not None else np.zeros_like(sample_.target)
    click = next_click(sample_.target, previous, rng)
    if click is None:
        return False
    voxel, belongs = click
    voxels = voxel[None]
    if rng.random() < 0.2:
        voxels = _scribble(sample_.target ^ previous, voxel, rng)
    foreground, background = question.foreground.copy(), question.background.copy()
    newest = np.zeros_like(foreground)
    newest[tuple(voxels.T)] = True
    (foreground if belongs else background)[tuple(voxels.T)] = True
    sample_.question = replace(question, foreground=foreground, background=background)
    sample_.newest = newest
    return True


class Sampler:
    """Draws samples from a pool of volumes that may grow meanwhile."""

    shares = (0.42, 0.3, 0.28)
    """Of real cases, synthetic heads, label maps."""

    def __init__(self, pool: Path, held_out: tuple[str, ...] = ()) -> None:
        self._pool, self._held = pool, set(held_out)
        self._known: dict[str, Volume] = {}
        self._drawn = 0

    def _volumes(self) -> tuple[list[Volume], ...]:
        if self._drawn % 50 == 0:
            for folder in sorted(self._pool.iterdir()):
                new = folder.name not in self._known and folder.name not in self._held
                if new and not folder.name.startswith("."):
                    self._known[folder.name] = Volume(folder)
        self._drawn += 1
        volumes = list(self._known.values())
        heads = [v for v in volumes if not v.real and not v.groups and v.list]
        return [v for v in volumes if v.real and v.list], heads, [v for v in volumes if v.groups]

    def draw(self, size: int, rng: np.random.Generator) -> Sample:
        """Draw one sample of `size` voxels an edge, with its first prompt."""
        while True:
            kinds = self._volumes()
            share = np.array([s if k else 0 for s, k in zip(self.shares, kinds, strict=True)])
            volumes = kinds[int(rng.choice(len(kinds), p=share / share.sum()))]
            drawn = self.made(volumes[rng.integers(len(volumes))], size, rng)
            if drawn is not None:
                return drawn

    def made(self, volume: Volume, size: int, rng: np.random.Generator) -> Sample | None:
        """Draw one sample of a volume; None if nothing can be asked there."""
        tried = [t for t in volume.list if t.number < HELD_OUT]
        lesions = [t for t in tried if t.number < SPOT]
        others = [t for t in tried if t.number >= SPOT]
        if rng.random() < (0.3 if volume.groups else 0.1):
            return self._blob(volume, size, rng)
        if lesions and (not others or rng.random() < 0.65):
            return self._lesion(volume, lesions[rng.integers(len(lesions))], size, rng)
        return self._other(volume, others[rng.integers(len(others))], size, rng) if others else None

    def _lesion(
        self, volume: Volume, thing: Thing, size: int, rng: np.random.Generator
    ) -> Sample | None:
        level = int(rng.choice([0, 1, 2], p=[0.4, 0.25, 0.35]))
        mask = (volume.coarse_things == thing.number) & (volume.coarse_code > 1 + level)
        if not mask.any():
            level = 0
            mask = volume.coarse_things == thing.number
        if not mask.any():
            return None
        present = sequences_shown(volume, rng)
        first = int(rng.integers(len(volume.guess)))
        analysed_index = int(rng.integers(len(volume.guess))) if rng.random() < 0.2 else first
        if volume.real and rng.random() < 0.4:
            first = analysed_index = 0
        is_named = rng.random() < 0.65
        is_correction = rng.random() < 0.55
        threshold = rng.uniform(0.2, 0.8)
        location = (
            _at_error(volume, first, level, threshold, rng)
            if is_correction
            else _at_thing(volume, mask, size, rng)
        )
        if location is None:
            return None
        centre, spacing = location
        crop = varied(centre + rng.normal(0, 3 * spacing, 3), spacing, size, rng)
        code = sample(volume.code[None], crop, nearest=True)[0].numpy()
        things = sample(volume.things[None], crop, nearest=True)[0].numpy()
        target = code > 1 + level
        if not is_correction:
            target &= things == thing.number
        probability = volume.guess_at(crop, first)
        outline = None
        if is_correction:
            outline = (probability[level].numpy() > threshold) & (code > 0)
            if rng.random() < 0.15:
                outline = clumsy(outline, rng)
        analysed = volume.guess_at(crop, analysed_index) if analysed_index != first else probability
        scene = scene_of(
            volume, crop, present, code, analysed if rng.random() < 0.75 else None, rng
        )
        return asked_of(
            scene, target, outline, level if is_named else None, rng, local=is_correction
        )

    def _other(
        self, volume: Volume, thing: Thing, size: int, rng: np.random.Generator
    ) -> Sample | None:
        box = thing.box
        centre = np.array([(s.start + s.stop - 1) / 2 for s in box])
        extent = max(s.stop - s.start for s in box)
        spacing = _edge(extent, size, rng)
        voxels = np.argwhere(volume.things[box] == thing.number) + [s.start for s in box]
        position = centre if rng.random() < 0.5 else voxels[rng.integers(len(voxels))]
        crop = varied(position + rng.normal(0, 3 * spacing, 3), spacing, size, rng)
        things = sample(volume.things[None], crop, nearest=True)[0].numpy()
        target = things == thing.number
        code = sample(volume.code[None], crop, nearest=True)[0].numpy()
        is_correction = rng.random() < 0.4
        outline = clumsy(target, rng) & (code > 0) if is_correction else None
        probability = volume.guess_at(crop, 0) if rng.random() < 0.7 else None
        scene = scene_of(volume, crop, sequences_shown(volume, rng), code, probability, rng)
        return asked_of(scene, target, outline, None, rng, local=is_correction)

    def _blob(self, volume: Volume, size: int, rng: np.random.Generator) -> Sample | None:
        centre = in_brain(volume, rng)
        spacing = float(rng.uniform(0.65, 1.4))
        crop = varied(centre, spacing, size, rng)
        code = sample(volume.code[None], crop, nearest=True)[0].numpy()
        offsets = np.indices((size, size, size)) - (size - 1) / 2 - rng.normal(0, 3, (3, 1, 1, 1))
        radius = float(np.exp(rng.uniform(np.log(2.0), np.log(13.0)))) / spacing
        distance = np.sqrt(((offsets / (radius * rng.uniform(0.7, 1.4, (3, 1, 1, 1)))) ** 2).sum(0))
        ragged = ndimage.gaussian_filter(rng.normal(size=distance.shape), max(1.0, radius / 3))
        distance = distance + rng.uniform(0, 0.3) * ragged / ragged.std()
        target = (distance < 1) & (code > 0)
        probability = volume.guess_at(crop, 0) if rng.random() < 0.7 else None
        if probability is not None and target.any() and rng.random() < 0.35:
            probability = torch.maximum(probability, half_seen(target, rng))
        scene = scene_of(volume, crop, sequences_shown(volume, rng), code, probability, rng)
        soft = ndimage.gaussian_filter(target.astype(np.float32), rng.uniform(0.4, 1.0))
        offset = rng.normal(0, 1.3, 4) * (rng.random(4) < 0.8)
        offset[rng.integers(4)] += rng.choice([-1.5, 1.5])
        texture = 1 + rng.uniform(0, 0.4) * ndimage.gaussian_filter(
            rng.normal(size=distance.shape), 1.5
        )
        change = torch.from_numpy((offset[:, None, None, None] * soft * texture).astype(np.float32))
        present = torch.tensor(scene.present).float()[:, None, None, None]
        scene = replace(scene, images=(scene.images + change * present * scene.brain).clamp(-5, 5))
        is_correction = rng.random() < 0.4
        outline = clumsy(target, rng) & (code > 0) if is_correction else None
        return asked_of(scene, target, outline, None, rng, local=is_correction)


def _edge(extent: float, size: int, rng: np.random.Generator) -> float:
    """Choose a voxel edge: a first look that knows no size, or one that fits the thing."""
    if rng.random() < 0.3:
        return float(rng.uniform(1.1, 1.4))
    return float(np.clip(extent * rng.uniform(1.0, 1.8) / size, 0.6, 2.6))


def _at_error(
    volume: Volume, number: int, level: int, threshold: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float] | None:
    """Choose a place at an error of one of the guesses, and a voxel edge."""
    truth = volume.coarse_code > 1 + level
    outline = volume.guess[number, level] > 255 * threshold
    click = next_click(truth, outline, rng)
    if click is None or (truth ^ outline).sum() < 4:
        return None
    return 2 * click[0] + volume.coarse_to_fine, float(np.exp(rng.uniform(-0.1, 0.45)))


def _at_thing(
    volume: Volume, mask: Mask, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Choose a place round the middle of a thing, or round one of its voxels, and a voxel edge."""
    voxels = np.argwhere(mask)
    voxel = voxels[rng.integers(len(voxels))]
    extent = 2.0 * float(np.ptp(voxels, axis=0).max() + 1)
    spacing = _edge(extent, size, rng)
    if rng.random() < 0.7:
        voxel = (voxels.min(0) + voxels.max(0)) / 2
    return 2 * voxel + volume.coarse_to_fine, spacing


def in_brain(volume: Volume, rng: np.random.Generator) -> NDArray[np.float64]:
    """Choose any voxel of the brain."""
    while True:
        voxel = rng.integers(0, volume.code.shape)
        if volume.code[tuple(voxel)]:
            return np.asarray(voxel, float)


def half_seen(target: Mask, rng: np.random.Generator) -> torch.Tensor:
    """Let the analysis flag a thing with its own errors; (3, n, n, n)."""
    predicted = ndimage.gaussian_filter(clumsy(target, rng).astype(np.float32), rng.uniform(0.7, 2))
    inner = np.minimum.accumulate(rng.uniform(0, 1, 3) * (rng.random(3) < (1, 0.6, 0.4)))
    return torch.from_numpy((predicted * inner[:, None, None, None]).astype(np.float32))


def sequences_shown(volume: Volume, rng: np.random.Generator) -> NDArray[np.bool_]:
    if rng.random() < 0.7:
        return volume.present
    selected = volume.present & (rng.random(4) < 0.6)
    return selected if selected.any() else volume.present


def varied(
    centre: NDArray[np.float64], spacing: float, size: int, rng: np.random.Generator
) -> Crop:
    """Mirror, turn and stretch a little."""
    skew = rng.normal(0, 0.12, (3, 3))
    matrix = np.linalg.qr(np.eye(3) + skew - skew.T)[0]
    matrix = matrix @ np.diag(np.sign(np.diag(matrix)) * rng.uniform(0.92, 1.08, 3))
    mirror = np.where(rng.random(3) < (0.5, 0.2, 0.2), -1.0, 1.0)
    return Crop(np.asarray(centre, float), spacing * matrix * mirror, size)


def scene_of(
    volume: Volume, crop: Crop, present: NDArray[np.bool_], code: NDArray[np.float32],
    probability: torch.Tensor | None, rng: np.random.Generator,
) -> Scene:  # fmt: skip
    brain = torch.from_numpy(code > 0).float()[None]
    gain = torch.from_numpy(rng.uniform(0.88, 1.12, (4, 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.15, 0.15, (4, 1, 1, 1)).astype(np.float32))
    available = torch.from_numpy(present.astype(np.float32))[:, None, None, None]
    spacing = float(np.abs(np.linalg.det(crop.step)) ** (1 / 3))
    if volume.groups:
        labels = sample(volume.labels[None], crop, nearest=True)[0].numpy().astype(np.uint8)
        raw_images = torch.from_numpy(painted(labels, volume.groups, spacing, rng))
    else:
        raw_images = sample(volume.image, crop)
    images = (raw_images * gain + offset) * brain * available
    return Scene(images, brain, tuple(bool(p) for p in present), probability, spacing)


def clumsy(mask: Mask, rng: np.random.Generator) -> Mask:
    """Spoil an outline: shifted border, a piece too many or too few, or a random wave."""
    size = float(np.cbrt(max(1, mask.sum())))
    inner = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    wave = ndimage.gaussian_filter(rng.normal(size=mask.shape), rng.uniform(2, 6))
    wave = wave / max(wave.std(), 1e-6)
    limit = rng.normal(0, 0.1 * size) + rng.uniform(0.05, 0.3) * size * wave
    out = inner > limit
    return np.asarray(out if out.any() else mask)


def asked_of(
    scene: Scene, target: Mask, outline: Mask | None, region: int | None,
    rng: np.random.Generator, *, local: bool,
) -> Sample | None:  # fmt: skip
    if target.sum() < 8:
        return None
    empty = np.zeros_like(target)
    drawn = Sample(scene, Question(empty, empty, outline, region), target, empty, local)
    if not mark(drawn, rng):
        return None
    if outline is None and rng.random() < 0.25:
        _several(drawn, rng)
    return drawn


def _several(drawn: Sample, rng: np.random.Generator) -> None:
    """Add more prompts at once: within, and against just outside."""
    foreground, background = drawn.question.foreground.copy(), drawn.question.background.copy()
    ring = ndimage.binary_dilation(drawn.target, iterations=5)
    ring &= ~ndimage.binary_dilation(drawn.target, iterations=2)
    for mask, marked in ((drawn.target, foreground), (ring, background)):
        voxels = np.argwhere(mask)
        for _ in range(int(rng.integers(0, 4)) if len(voxels) else 0):
            marked[tuple(voxels[rng.integers(len(voxels))])] = True
    drawn.question = replace(drawn.question, foreground=foreground, background=background)
    drawn.newest = foreground | background
