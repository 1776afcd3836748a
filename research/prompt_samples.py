"""What the prompt network trains on: a place in a volume, a thing there, an outline and prompts.

Nearly half of the samples begin with an outline and its realistic errors: what the analysis network
makes of fewer sequences, or of all of them. A simulated reader points at the largest error.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from prompt_anatomies import painted
from scipy import ndimage

from lesionlens.base.geometry import TOUCHING
from lesionlens.network.prompt.crop import Crop, Question, Scene, sample
from lesionlens.network.synth.instances import ENHANCEMENT, WHITE_SPOTS

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
        about = json.loads((folder / "about.json").read_text())
        self.name, self.real = folder.name, about["real"]
        self.present = np.array(about["present"], bool)
        self.subsets = [np.array(one, bool) for one in about["subsets"]]
        self.groups = about.get("groups")
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
        near = [
            np.clip(np.rint(2 * np.arange(c) + o).astype(int), 0, f - 1)
            for c, f, o in zip(coarse, fine, self.coarse_to_fine, strict=True)
        ]
        self.coarse_code = np.asarray(self.code[np.ix_(*near)])
        self.coarse_things = np.asarray(self.things[np.ix_(*near)])

    def guess_at(self, place: Crop, number: int) -> torch.Tensor:
        """One of the guesses (3, n, n, n) at a place, 0 to 1."""
        if self.groups:
            return torch.zeros(3, *(place.size,) * 3)
        centre = (place.centre - self.coarse_to_fine) / 2
        coarse = Crop(centre, place.step / 2, place.size)
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
            found, _ = ndimage.label(mask & (things == 0), TOUCHING)
            sizes = np.bincount(found.ravel())
            sizes[0] = 0
            for rank, one in enumerate(np.argsort(-sizes)[:60]):
                if sizes[one] >= 20:
                    things[found == one] = first + rank
        aside = folder / f"things-{os.getpid()}.npy"
        np.save(aside, things)
        aside.replace(file)
    things = np.load(file, mmap_mode="r")
    sizes = np.bincount(np.asarray(things).ravel())
    boxes = ndimage.find_objects(np.asarray(things))
    found = [
        Thing(n, boxes[n - 1], int(sizes[n])) for n in np.flatnonzero(sizes) if n and sizes[n] >= 20
    ]
    return things, found


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
        at = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    else:
        places = np.argwhere(depth >= rng.uniform(0.3, 1.0) * depth.max())
        at = places[rng.integers(len(places))]
    at = at - 1 + np.array([s.start for s in box])
    return at, bool(target[tuple(at)])


def _scribble(mask: Mask, at: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a short line from a voxel to another of the same part."""
    parts, _ = ndimage.label(mask)
    same = np.argwhere(parts == parts[tuple(at)])
    end = same[rng.integers(len(same))]
    steps = max(2, int(np.abs(end - at).max()) + 1)
    line = np.rint(np.linspace(at, end, min(steps, 16))).astype(int)
    return line[parts[tuple(line.T)] == parts[tuple(at)]]


def mark(sample_: Sample, rng: np.random.Generator) -> bool:
    """Add the reader's next prompt to a sample; False where nothing is wrong."""
    question = sample_.question
    before = question.outline if question.outline is not None else np.zeros_like(sample_.target)
    found = next_click(sample_.target, before, rng)
    if found is None:
        return False
    at, belongs = found
    voxels = at[None]
    if rng.random() < 0.2:
        voxels = _scribble(sample_.target ^ before, at, rng)
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
        every = list(self._known.values())
        heads = [v for v in every if not v.real and not v.groups and v.list]
        return [v for v in every if v.real and v.list], heads, [v for v in every if v.groups]

    def draw(self, size: int, rng: np.random.Generator) -> Sample:
        """Draw one sample of `size` voxels an edge, with its first prompt."""
        while True:
            kinds = self._volumes()
            share = np.array([s if k else 0 for s, k in zip(self.shares, kinds, strict=True)])
            some = kinds[int(rng.choice(len(kinds), p=share / share.sum()))]
            made = self.made(some[rng.integers(len(some))], size, rng)
            if made is not None:
                return made

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
        shown = int(rng.integers(len(volume.guess))) if rng.random() < 0.2 else first
        if volume.real and rng.random() < 0.4:
            first = shown = 0
        named = rng.random() < 0.65
        corrected = rng.random() < 0.55
        cut = rng.uniform(0.2, 0.8)
        chosen = (
            _at_error(volume, first, level, cut, rng)
            if corrected
            else _at_thing(volume, mask, size, rng)
        )
        if chosen is None:
            return None
        at, spacing = chosen
        place = varied(at + rng.normal(0, 3 * spacing, 3), spacing, size, rng)
        code = sample(volume.code[None], place, nearest=True)[0].numpy()
        things = sample(volume.things[None], place, nearest=True)[0].numpy()
        target = code > 1 + level
        if not corrected:
            target &= things == thing.number
        chances = volume.guess_at(place, first)
        outline_here = None
        if corrected:
            outline_here = (chances[level].numpy() > cut) & (code > 0)
            if rng.random() < 0.15:
                outline_here = clumsy(outline_here, rng)
        analysed = volume.guess_at(place, shown) if shown != first else chances
        scene = scene_of(
            volume, place, present, code, analysed if rng.random() < 0.75 else None, rng
        )
        return asked_of(scene, target, outline_here, level if named else None, corrected, rng)

    def _other(
        self, volume: Volume, thing: Thing, size: int, rng: np.random.Generator
    ) -> Sample | None:
        box = thing.box
        middle = np.array([(s.start + s.stop - 1) / 2 for s in box])
        extent = max(s.stop - s.start for s in box)
        spacing = _edge(extent, size, rng)
        places = np.argwhere(volume.things[box] == thing.number) + [s.start for s in box]
        at = middle if rng.random() < 0.5 else places[rng.integers(len(places))]
        place = varied(at + rng.normal(0, 3 * spacing, 3), spacing, size, rng)
        things = sample(volume.things[None], place, nearest=True)[0].numpy()
        target = things == thing.number
        code = sample(volume.code[None], place, nearest=True)[0].numpy()
        corrected = rng.random() < 0.4
        outline = clumsy(target, rng) & (code > 0) if corrected else None
        chances = volume.guess_at(place, 0) if rng.random() < 0.7 else None
        scene = scene_of(volume, place, sequences_shown(volume, rng), code, chances, rng)
        return asked_of(scene, target, outline, None, corrected, rng)

    def _blob(self, volume: Volume, size: int, rng: np.random.Generator) -> Sample | None:
        at = in_brain(volume, rng)
        spacing = float(rng.uniform(0.65, 1.4))
        place = varied(at, spacing, size, rng)
        code = sample(volume.code[None], place, nearest=True)[0].numpy()
        along = np.indices((size, size, size)) - (size - 1) / 2 - rng.normal(0, 3, (3, 1, 1, 1))
        radius = float(np.exp(rng.uniform(np.log(2.0), np.log(13.0)))) / spacing
        far = np.sqrt(((along / (radius * rng.uniform(0.7, 1.4, (3, 1, 1, 1)))) ** 2).sum(0))
        rough = ndimage.gaussian_filter(rng.normal(size=far.shape), max(1.0, radius / 3))
        far = far + rng.uniform(0, 0.3) * rough / rough.std()
        target = (far < 1) & (code > 0)
        chances = volume.guess_at(place, 0) if rng.random() < 0.7 else None
        if chances is not None and target.any() and rng.random() < 0.35:
            chances = torch.maximum(chances, half_seen(target, rng))
        scene = scene_of(volume, place, sequences_shown(volume, rng), code, chances, rng)
        soft = ndimage.gaussian_filter(target.astype(np.float32), rng.uniform(0.4, 1.0))
        offset = rng.normal(0, 1.3, 4) * (rng.random(4) < 0.8)
        offset[rng.integers(4)] += rng.choice([-1.5, 1.5])
        texture = 1 + rng.uniform(0, 0.4) * ndimage.gaussian_filter(rng.normal(size=far.shape), 1.5)
        change = torch.from_numpy((offset[:, None, None, None] * soft * texture).astype(np.float32))
        there = torch.tensor(scene.present).float()[:, None, None, None]
        scene = replace(scene, images=(scene.images + change * there * scene.brain).clamp(-5, 5))
        corrected = rng.random() < 0.4
        outline = clumsy(target, rng) & (code > 0) if corrected else None
        return asked_of(scene, target, outline, None, corrected, rng)


def _edge(extent: float, size: int, rng: np.random.Generator) -> float:
    """Choose a voxel edge: a first look that knows no size, or one that fits the thing."""
    if rng.random() < 0.3:
        return float(rng.uniform(1.1, 1.4))
    return float(np.clip(extent * rng.uniform(1.0, 1.8) / size, 0.6, 2.6))


def _at_error(
    volume: Volume, number: int, level: int, cut: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float] | None:
    """Choose a place at an error of one of the guesses, and a voxel edge."""
    truth = volume.coarse_code > 1 + level
    outline = volume.guess[number, level] > 255 * cut
    found = next_click(truth, outline, rng)
    if found is None or (truth ^ outline).sum() < 4:
        return None
    return 2 * found[0] + volume.coarse_to_fine, float(np.exp(rng.uniform(-0.1, 0.45)))


def _at_thing(
    volume: Volume, mask: Mask, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Choose a place round the middle of a thing, or round one of its voxels, and a voxel edge."""
    places = np.argwhere(mask)
    at = places[rng.integers(len(places))]
    extent = 2.0 * float(np.ptp(places, axis=0).max() + 1)
    spacing = _edge(extent, size, rng)
    if rng.random() < 0.7:
        at = (places.min(0) + places.max(0)) / 2
    return 2 * at + volume.coarse_to_fine, spacing


def in_brain(volume: Volume, rng: np.random.Generator) -> NDArray[np.float64]:
    """Choose any voxel of the brain."""
    while True:
        at = rng.integers(0, volume.code.shape)
        if volume.code[tuple(at)]:
            return at.astype(float)


def half_seen(target: Mask, rng: np.random.Generator) -> torch.Tensor:
    """Let the analysis flag a thing with its own errors; (3, n, n, n)."""
    seen = ndimage.gaussian_filter(clumsy(target, rng).astype(np.float32), rng.uniform(0.7, 2))
    inner = np.minimum.accumulate(rng.uniform(0, 1, 3) * (rng.random(3) < (1, 0.6, 0.4)))
    return torch.from_numpy((seen * inner[:, None, None, None]).astype(np.float32))


def sequences_shown(volume: Volume, rng: np.random.Generator) -> NDArray[np.bool_]:
    if rng.random() < 0.7:
        return volume.present
    kept = volume.present & (rng.random(4) < 0.6)
    return kept if kept.any() else volume.present


def varied(at: NDArray[np.float64], spacing: float, size: int, rng: np.random.Generator) -> Crop:
    """Mirror, turn and stretch a little."""
    turn = rng.normal(0, 0.12, (3, 3))
    matrix = np.linalg.qr(np.eye(3) + turn - turn.T)[0]
    matrix = matrix @ np.diag(np.sign(np.diag(matrix)) * rng.uniform(0.92, 1.08, 3))
    mirror = np.where(rng.random(3) < (0.5, 0.2, 0.2), -1.0, 1.0)
    return Crop(np.asarray(at, float), spacing * matrix * mirror, size)


def scene_of(
    volume: Volume, place: Crop, present: NDArray[np.bool_], code: NDArray[np.float32],
    chances: torch.Tensor | None, rng: np.random.Generator,
) -> Scene:  # fmt: skip
    brain = torch.from_numpy(code > 0).float()[None]
    gain = torch.from_numpy(rng.uniform(0.88, 1.12, (4, 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.15, 0.15, (4, 1, 1, 1)).astype(np.float32))
    there = torch.from_numpy(present.astype(np.float32))[:, None, None, None]
    spacing = float(np.abs(np.linalg.det(place.step)) ** (1 / 3))
    if volume.groups:
        labels = sample(volume.labels[None], place, nearest=True)[0].numpy().astype(np.uint8)
        seen = torch.from_numpy(painted(labels, volume.groups, spacing, rng))
    else:
        seen = sample(volume.image, place)
    images = (seen * gain + offset) * brain * there
    return Scene(images, brain, tuple(bool(p) for p in present), chances, spacing)


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
    scene: Scene, target: Mask, outline: Mask | None, region: int | None, local: bool,
    rng: np.random.Generator,
) -> Sample | None:  # fmt: skip
    if target.sum() < 8:
        return None
    none = np.zeros_like(target)
    made = Sample(scene, Question(none, none, outline, region), target, none, local)
    if not mark(made, rng):
        return None
    if outline is None and rng.random() < 0.25:
        _several(made, rng)
    return made


def _several(made: Sample, rng: np.random.Generator) -> None:
    """Add more prompts at once: within, and against just outside."""
    foreground, background = made.question.foreground.copy(), made.question.background.copy()
    ring = ndimage.binary_dilation(made.target, iterations=5)
    ring &= ~ndimage.binary_dilation(made.target, iterations=2)
    for mask, marked in ((made.target, foreground), (ring, background)):
        places = np.argwhere(mask)
        for _ in range(int(rng.integers(0, 4)) if len(places) else 0):
            marked[tuple(places[rng.integers(len(places))])] = True
    made.question = replace(made.question, foreground=foreground, background=background)
    made.newest = foreground | background
