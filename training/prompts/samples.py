"""Training samples of the prompt network: a crop, a target in it, an outline and prompts.

Nearly half of the samples begin with an outline that has realistic errors: the prediction of the
analysis network from fewer sequences, or from all. A simulated reader prompts at the largest error.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.numerics import connected_parts, depth_inside
from lesionlens.network.prompt_net import Question, Scene
from lesionlens.training.losses import ENHANCEMENT, WHITE_SPOTS
from training.prompts.anatomies import paint_labels

Mask = NDArray[np.bool_]
FIRST_SPOT, _FIRST_ENHANCEMENT, _FIRST_VENTRICLE, FIRST_HELD_OUT = 100, 1000, 5000, 6000
"""First object labels of each kind; lower ones are lesions."""
_VENTRICLE, _DEEP = 4, 5  # values of tissue.npy; the second is never trained on


class Crop(NamedTuple):
    """A cube of `size` voxels an edge: (3,) centre and (3, 3) step, in voxels of the volume."""

    centre: NDArray[np.float64]
    step: NDArray[np.float64]
    size: int

    @property
    def spacing_mm(self) -> float:
        """Voxel edge, for volumes at 1 mm."""
        return float(np.cbrt(np.abs(np.linalg.det(self.step))))


def sample(volume: NDArray[np.generic], crop: Crop, *, nearest: bool = False) -> torch.Tensor:
    """Sample (C, I, J, K) on a crop: (C, n, n, n) float32, zero outside the volume."""
    along = np.arange(crop.size) - (crop.size - 1) / 2
    offsets = np.stack(np.meshgrid(along, along, along, indexing="ij"))
    at = np.tensordot(crop.step, offsets, 1) + np.reshape(crop.centre, (3, 1, 1, 1))
    low = np.clip(np.floor(at.min((1, 2, 3))).astype(int), 0, np.array(volume.shape[1:]) - 1)
    high = np.ceil(at.max((1, 2, 3))).astype(int) + 1
    i, j, k = (slice(a, max(a + 1, b)) for a, b in zip(low, high, strict=True))
    part, order = np.asarray(volume[:, i, j, k], np.float32), 0 if nearest else 1
    at -= low[:, None, None, None]
    return torch.from_numpy(np.stack([ndimage.map_coordinates(c, at, order=order) for c in part]))


def sample_labels(labels: NDArray[np.generic], crop: Crop) -> NDArray[np.float32]:
    """Sample labels (I, J, K) on a crop by nearest neighbour, (n, n, n)."""
    return np.asarray(sample(labels[None], crop, nearest=True)[0])


@dataclass(frozen=True, slots=True)
class PromptObject:
    """An object that a prompt can refer to."""

    number: int
    """Value in `Volume.object_labels`; below `FIRST_SPOT` a lesion."""
    box: tuple[slice, slice, slice]
    voxels: int


class Volume:
    """One folder of the pool; arrays are memory-mapped."""

    def __init__(self, folder: Path) -> None:
        record = json.loads((folder / "about.json").read_text())
        self.name, self.real = folder.name, record["real"]
        self.present = np.array(record["present"], bool)
        self.subsets = [np.array(subset, bool) for subset in record["subsets"]]
        self.groups = record.get("groups")
        """Of a label map: the tissue class of each label; its images are synthesised."""
        self.code = np.load(folder / "code.npy", mmap_mode="r")
        self.object_labels, self.objects = _objects_of(folder, self.code)
        if self.groups:
            self.labels = np.load(folder / "labels.npy", mmap_mode="r")
            return
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        self.predictions = np.load(folder / "guess.npy", mmap_mode="r")
        fine, coarse = np.array(self.code.shape), np.array(self.predictions.shape[2:])
        self.coarse_to_fine = (fine - 1) / 2 - (coarse - 1)
        nearest = [
            np.clip(np.rint(2 * np.arange(c) + o).astype(int), 0, f - 1)
            for c, f, o in zip(coarse, fine, self.coarse_to_fine, strict=True)
        ]
        self.coarse_code = np.asarray(self.code[np.ix_(*nearest)])
        self.coarse_labels = np.asarray(self.object_labels[np.ix_(*nearest)])

    def prediction_at(self, crop: Crop, number: int) -> torch.Tensor:
        """Return one of the predictions in a crop, (3, n, n, n) probabilities."""
        if self.groups:
            return torch.zeros(3, *(crop.size,) * 3)
        centre = (crop.centre - self.coarse_to_fine) / 2
        coarse = Crop(centre, crop.step / 2, crop.size)
        return sample(self.predictions[number], coarse) / 255


def _objects_of(
    folder: Path, code: NDArray[np.uint8]
) -> tuple[NDArray[np.uint16], list[PromptObject]]:
    """Return the label of each object and the objects; the labels are stored in things.npy."""
    file = folder / "things.npy"
    if not file.is_file():
        parts = np.load(folder / "parts.npy")
        object_labels = np.where((code > 1) & (parts < WHITE_SPOTS), parts, 0).astype(np.uint16)
        kinds = [(parts == WHITE_SPOTS, FIRST_SPOT), (parts == ENHANCEMENT, _FIRST_ENHANCEMENT)]
        if (folder / "tissue.npy").is_file():
            tissue = np.where(object_labels > 0, 0, np.load(folder / "tissue.npy"))
            kinds += [(tissue == _VENTRICLE, _FIRST_VENTRICLE), (tissue == _DEEP, FIRST_HELD_OUT)]
        for mask, first in kinds:
            components, sizes = connected_parts(mask & (object_labels == 0))
            for rank, component in enumerate(np.argsort(-sizes)[:60]):
                if sizes[component] >= 20:
                    object_labels[components == component] = first + rank
        temporary = folder / f"things-{os.getpid()}.npy"
        np.save(temporary, object_labels)
        temporary.replace(file)
    object_labels = np.load(file, mmap_mode="r")
    sizes = np.bincount(np.asarray(object_labels).ravel())
    boxes = ndimage.find_objects(np.asarray(object_labels))
    objects = [
        PromptObject(n, boxes[n - 1], int(sizes[n]))
        for n in np.flatnonzero(sizes).tolist()
        if n and sizes[n] >= 20
    ]
    return object_labels, objects


@dataclass(eq=False)
class Sample:
    """One crop with its prompts and outline, and the correct outline."""

    scene: Scene
    question: Question
    target: Mask
    latest_prompts: Mask
    """Voxels of the latest prompts, near which the loss has most weight."""
    local: bool = field(default=False)
    """Whether only voxels near the latest prompts may change."""


def next_click(
    target: Mask, outline: Mask, rng: np.random.Generator
) -> tuple[NDArray[np.int64], bool] | None:
    """Return a voxel near the middle of a large error, and whether it is foreground; else None."""
    error = target ^ outline
    if not error.any():
        return None
    parts, count = ndimage.label(error)
    sizes = np.bincount(parts.ravel(), minlength=count + 1).astype(float)
    sizes[0] = 0
    largest = int(sizes.argmax())
    if rng.random() < 0.3:
        largest = int(rng.choice(count + 1, p=sizes / sizes.sum()))
    box = ndimage.find_objects(parts, max_label=largest)[largest - 1]
    depth = depth_inside(parts[box] == largest)
    candidates = np.argwhere(depth >= rng.uniform(0.3, 1.0) * depth.max())
    voxel = candidates[rng.integers(len(candidates))] + np.array([s.start for s in box])
    return voxel, bool(target[tuple(voxel)])


def _scribble(mask: Mask, voxel: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the voxels of a line from a voxel to another of the same component."""
    parts, _ = ndimage.label(mask)
    part_voxels = np.argwhere(parts == parts[tuple(voxel)])
    end = part_voxels[rng.integers(len(part_voxels))]
    steps = max(2, int(np.abs(end - voxel).max()) + 1)
    line = np.rint(np.linspace(voxel, end, min(steps, 16))).astype(int)
    return np.asarray(line[parts[tuple(line.T)] == parts[tuple(voxel)]])


def add_prompt(sample_: Sample, rng: np.random.Generator) -> bool:
    """Add the next prompt to a sample, in place; False if the outline is correct."""
    question = sample_.question
    previous = question.outline if question.outline is not None else np.zeros_like(sample_.target)
    click = next_click(sample_.target, previous, rng)
    if click is None:
        return False
    voxel, is_foreground = click
    voxels = voxel[None]
    if rng.random() < 0.2:
        voxels = _scribble(sample_.target ^ previous, voxel, rng)
    foreground, background = question.foreground.copy(), question.background.copy()
    latest_prompts = np.zeros_like(foreground)
    latest_prompts[tuple(voxels.T)] = True
    (foreground if is_foreground else background)[tuple(voxels.T)] = True
    sample_.question = replace(question, foreground=foreground, background=background)
    sample_.latest_prompts = latest_prompts
    return True


class Sampler:
    """Samples from a pool of volumes that may grow meanwhile."""

    shares = (0.42, 0.3, 0.28)
    """Shares of real cases, synthetic heads and label maps."""

    def __init__(self, pool: Path) -> None:
        self._pool = pool
        self._known: dict[str, Volume] = {}
        self._draw_count = 0

    def _volumes(self) -> tuple[list[Volume], ...]:
        if self._draw_count % 50 == 0:
            for folder in sorted(self._pool.iterdir()):
                if folder.name not in self._known and not folder.name.startswith("."):
                    self._known[folder.name] = Volume(folder)
        self._draw_count += 1
        volumes = list(self._known.values())
        heads = [v for v in volumes if not v.real and not v.groups and v.objects]
        return [v for v in volumes if v.real and v.objects], heads, [v for v in volumes if v.groups]

    def draw(self, size: int, rng: np.random.Generator) -> Sample:
        """Draw one sample of `size` voxels an edge, with its first prompt."""
        while True:
            kinds = self._volumes()
            share = np.array([s if k else 0 for s, k in zip(self.shares, kinds, strict=True)])
            volumes = kinds[int(rng.choice(len(kinds), p=share / share.sum()))]
            new_sample = self.sample_of(volumes[rng.integers(len(volumes))], size, rng)
            if new_sample is not None:
                return new_sample

    def sample_of(self, volume: Volume, size: int, rng: np.random.Generator) -> Sample | None:
        """Draw one sample of a volume; None if there is no target."""
        targets = [t for t in volume.objects if t.number < FIRST_HELD_OUT]
        lesions = [t for t in targets if t.number < FIRST_SPOT]
        others = [t for t in targets if t.number >= FIRST_SPOT]
        if rng.random() < (0.3 if volume.groups else 0.1):
            return self._blob(volume, size, rng)
        if lesions and (not others or rng.random() < 0.65):
            return self._lesion(volume, lesions[rng.integers(len(lesions))], size, rng)
        return self._other(volume, others[rng.integers(len(others))], size, rng) if others else None

    def _lesion(
        self, volume: Volume, prompt_object: PromptObject, size: int, rng: np.random.Generator
    ) -> Sample | None:
        level = int(rng.choice([0, 1, 2], p=[0.4, 0.25, 0.35]))
        mask = (volume.coarse_labels == prompt_object.number) & (volume.coarse_code > 1 + level)
        if not mask.any():
            level = 0
            mask = volume.coarse_labels == prompt_object.number
        if not mask.any():
            return None
        present = random_presence(volume, rng)
        first = int(rng.integers(len(volume.predictions)))
        analysed_index = int(rng.integers(len(volume.predictions))) if rng.random() < 0.2 else first
        if volume.real and rng.random() < 0.4:
            first = analysed_index = 0
        is_named = rng.random() < 0.65
        is_correction = rng.random() < 0.55
        threshold = rng.uniform(0.2, 0.8)
        if is_correction:
            location = _at_error(volume, first, level, threshold, rng)
        else:
            location = _at_object(volume, mask, size, rng)
        if location is None:
            return None
        centre, spacing = location
        crop = random_crop(centre + rng.normal(0, 3 * spacing, 3), spacing, size, rng)
        code = sample_labels(volume.code, crop)
        object_labels = sample_labels(volume.object_labels, crop)
        target = code > 1 + level
        if not is_correction:
            target &= object_labels == prompt_object.number
        probability = volume.prediction_at(crop, first)
        outline = None
        if is_correction:
            outline = (probability[level].numpy() > threshold) & (code > 0)
            if rng.random() < 0.15:
                outline = with_outline_errors(outline, rng)
        analysed = volume.prediction_at(crop, analysed_index) if rng.random() < 0.75 else None
        scene = make_scene(volume, crop, present, code, analysed, rng)
        region = level if is_named else None
        return make_sample(scene, target, outline, region, rng, local=is_correction)

    def _other(
        self, volume: Volume, prompt_object: PromptObject, size: int, rng: np.random.Generator
    ) -> Sample | None:
        box = prompt_object.box
        centre = np.array([(s.start + s.stop - 1) / 2 for s in box])
        extent = max(s.stop - s.start for s in box)
        spacing = _voxel_edge(extent, size, rng)
        voxels = np.argwhere(volume.object_labels[box] == prompt_object.number)
        voxels = voxels + [s.start for s in box]
        position = centre if rng.random() < 0.5 else voxels[rng.integers(len(voxels))]
        crop = random_crop(position + rng.normal(0, 3 * spacing, 3), spacing, size, rng)
        object_labels = sample_labels(volume.object_labels, crop)
        target = object_labels == prompt_object.number
        code = sample_labels(volume.code, crop)
        is_correction = rng.random() < 0.4
        outline = with_outline_errors(target, rng) & (code > 0) if is_correction else None
        probability = volume.prediction_at(crop, 0) if rng.random() < 0.7 else None
        scene = make_scene(volume, crop, random_presence(volume, rng), code, probability, rng)
        return make_sample(scene, target, outline, None, rng, local=is_correction)

    def _blob(self, volume: Volume, size: int, rng: np.random.Generator) -> Sample | None:
        spacing = float(rng.uniform(0.65, 1.4))
        crop = random_crop(random_brain_voxel(volume, rng), spacing, size, rng)
        code = sample_labels(volume.code, crop)
        distance = ragged_ellipsoid(
            size, spacing, rng, jitter=3, radii=(2.0, 13.0), axes=(0.7, 1.4), smooth=1.0, rough=0.3
        )
        target = (distance < 1) & (code > 0)
        probability = volume.prediction_at(crop, 0) if rng.random() < 0.7 else None
        if probability is not None and target.any() and rng.random() < 0.35:
            probability = torch.maximum(probability, imperfect_prediction(target, rng))
        scene = make_scene(volume, crop, random_presence(volume, rng), code, probability, rng)
        soft = ndimage.gaussian_filter(target.astype(np.float32), rng.uniform(0.4, 1.0))
        offset = rng.normal(0, 1.3, 4) * (rng.random(4) < 0.8)
        offset[rng.integers(4)] += rng.choice([-1.5, 1.5])
        rough = ndimage.gaussian_filter(rng.normal(size=distance.shape), 1.5)
        texture = 1 + rng.uniform(0, 0.4) * rough
        change = torch.from_numpy((offset[:, None, None, None] * soft * texture).astype(np.float32))
        present = torch.tensor(scene.present).float()[:, None, None, None]
        scene = replace(scene, images=(scene.images + change * present * scene.brain).clamp(-5, 5))
        is_correction = rng.random() < 0.4
        outline = with_outline_errors(target, rng) & (code > 0) if is_correction else None
        return make_sample(scene, target, outline, None, rng, local=is_correction)


def _voxel_edge(extent: float, size: int, rng: np.random.Generator) -> float:
    """Choose a voxel edge in mm: that of a first crop, or one that fits the object."""
    if rng.random() < 0.3:
        return float(rng.uniform(1.1, 1.4))
    return float(np.clip(extent * rng.uniform(1.0, 1.8) / size, 0.6, 2.6))


def _at_error(
    volume: Volume, number: int, level: int, threshold: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float] | None:
    """Choose a position at an error of one of the predictions, and a voxel edge in mm."""
    reference = volume.coarse_code > 1 + level
    outline = volume.predictions[number, level] > 255 * threshold
    click = next_click(reference, outline, rng)
    if click is None or (reference ^ outline).sum() < 4:
        return None
    return 2 * click[0] + volume.coarse_to_fine, float(np.exp(rng.uniform(-0.1, 0.45)))


def _at_object(
    volume: Volume, mask: Mask, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Choose the centre of an object or one of its voxels, and a voxel edge in mm."""
    voxels = np.argwhere(mask)
    voxel = voxels[rng.integers(len(voxels))]
    extent = 2.0 * float(np.ptp(voxels, axis=0).max() + 1)
    spacing = _voxel_edge(extent, size, rng)
    if rng.random() < 0.7:
        voxel = (voxels.min(0) + voxels.max(0)) / 2
    return 2 * voxel + volume.coarse_to_fine, spacing


def random_brain_voxel(volume: Volume, rng: np.random.Generator) -> NDArray[np.float64]:
    """Choose a voxel of the brain."""
    while True:
        voxel = rng.integers(0, volume.code.shape)
        if volume.code[tuple(voxel)]:
            return np.asarray(voxel, float)


def imperfect_prediction(target: Mask, rng: np.random.Generator) -> torch.Tensor:
    """Simulate an imperfect prediction of an object, (3, n, n, n)."""
    outline = with_outline_errors(target, rng).astype(np.float32)
    predicted = ndimage.gaussian_filter(outline, rng.uniform(0.7, 2))
    inner = np.minimum.accumulate(rng.uniform(0, 1, 3) * (rng.random(3) < (1, 0.6, 0.4)))
    return torch.from_numpy((predicted * inner[:, None, None, None]).astype(np.float32))


def ragged_ellipsoid(
    size: int, spacing: float, rng: np.random.Generator, *, jitter: float,
    radii: tuple[float, float], axes: tuple[float, float], smooth: float, rough: float,
) -> NDArray[np.float64]:  # fmt: skip
    """Return the distance from an irregular ellipsoid of random size in mm; 1 at its border."""
    offsets = np.indices((size, size, size)) - (size - 1) / 2 - rng.normal(0, jitter, (3, 1, 1, 1))
    radius = float(np.exp(rng.uniform(*np.log(radii)))) / spacing
    distance = np.sqrt(((offsets / (radius * rng.uniform(*axes, (3, 1, 1, 1)))) ** 2).sum(0))
    ragged = ndimage.gaussian_filter(rng.normal(size=distance.shape), max(smooth, radius / 3))
    return np.asarray(distance + rng.uniform(0, rough) * ragged / ragged.std())


def random_presence(volume: Volume, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose the sequences of a sample, (4,) bool: often all that the volume has."""
    if rng.random() < 0.7:
        return volume.present
    selected = volume.present & (rng.random(4) < 0.6)
    return selected if selected.any() else volume.present


def random_crop(
    centre: NDArray[np.float64], spacing: float, size: int, rng: np.random.Generator
) -> Crop:
    """Return a crop with random mirroring, rotation and scaling."""
    skew = rng.normal(0, 0.12, (3, 3))
    matrix = np.linalg.qr(np.eye(3) + skew - skew.T)[0]
    matrix = matrix @ np.diag(np.sign(np.diag(matrix)) * rng.uniform(0.92, 1.08, 3))
    mirror = np.where(rng.random(3) < (0.5, 0.2, 0.2), -1.0, 1.0)
    return Crop(np.asarray(centre, float), spacing * matrix * mirror, size)


def make_scene(
    volume: Volume, crop: Crop, present: NDArray[np.bool_], code: NDArray[np.float32],
    probability: torch.Tensor | None, rng: np.random.Generator,
) -> Scene:  # fmt: skip
    """Return the images of a crop with random intensities; absent sequences are zero."""
    brain = torch.from_numpy(code > 0).float()[None]
    gain = torch.from_numpy(rng.uniform(0.88, 1.12, (4, 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.15, 0.15, (4, 1, 1, 1)).astype(np.float32))
    available = torch.from_numpy(present.astype(np.float32))[:, None, None, None]
    spacing = crop.spacing_mm
    if volume.groups:
        labels = sample_labels(volume.labels, crop).astype(np.uint8)
        raw_images = torch.from_numpy(paint_labels(labels, volume.groups, spacing, rng))
    else:
        raw_images = sample(volume.image, crop)
    images = (raw_images * gain + offset) * brain * available
    return Scene(images, brain, tuple(bool(p) for p in present), probability, spacing)


def with_outline_errors(mask: Mask, rng: np.random.Generator) -> Mask:
    """Add random errors to an outline: a shifted and irregular border."""
    size = float(np.cbrt(max(1, mask.sum())))
    inner = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    wave = ndimage.gaussian_filter(rng.normal(size=mask.shape), rng.uniform(2, 6))
    wave = wave / max(wave.std(), 1e-6)
    limit = rng.normal(0, 0.1 * size) + rng.uniform(0.05, 0.3) * size * wave
    out = inner > limit
    return np.asarray(out if out.any() else mask)


def make_sample(
    scene: Scene, target: Mask, outline: Mask | None, region: int | None,
    rng: np.random.Generator, *, local: bool,
) -> Sample | None:  # fmt: skip
    """Return a sample with its first prompts; None if the target is too small or complete."""
    if target.sum() < 8:
        return None
    empty = np.zeros_like(target)
    new_sample = Sample(scene, Question(empty, empty, outline, region), target, empty, local)
    if not add_prompt(new_sample, rng):
        return None
    if outline is None and rng.random() < 0.25:
        _add_prompts(new_sample, rng)
    return new_sample


def _add_prompts(new_sample: Sample, rng: np.random.Generator) -> None:
    """Add further prompts: foreground inside, background just outside."""
    question = new_sample.question
    foreground, background = question.foreground.copy(), question.background.copy()
    ring = ndimage.binary_dilation(new_sample.target, iterations=5)
    ring &= ~ndimage.binary_dilation(new_sample.target, iterations=2)
    for mask, marked in ((new_sample.target, foreground), (ring, background)):
        voxels = np.argwhere(mask)
        for _ in range(int(rng.integers(0, 4)) if len(voxels) else 0):
            marked[tuple(voxels[rng.integers(len(voxels))])] = True
    new_sample.question = replace(question, foreground=foreground, background=background)
    new_sample.latest_prompts = foreground | background
