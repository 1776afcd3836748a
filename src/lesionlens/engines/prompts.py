"""Answer prompts: crop round them, run the prompt network, and change no more than was asked.

Where an outline was there, only what is joined to a prompt that contradicts it, of that prompt's
sign and within `REACH_MM`, may change: so no prompt spoils an outline elsewhere. From nothing, the
answer is what is joined to a prompt for it. Prompts are binding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.geometry import Box
from lesionlens.base.labels import Region
from lesionlens.base.records.prompts import Points, PromptedRegion, PromptQuestion
from lesionlens.network.prompt.crop import Place, Question, Scene, network_input, paste, sample
from lesionlens.network.prompt.model import PromptAnswer, PromptInput, PromptNetwork

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
REACH_MM: dict[Region | None, float] = {
    Region.WT: 24.0, Region.TC: 16.0, Region.ET: 12.0, None: 16.0}  # fmt: skip
"""An outline that was there changes no further from a prompt, by the region that is meant, nor
further than the nearest part of it is long."""
_SURER = 0.35  # by how much surer a change must be at that distance than at the prompt
_CORRECTED, _ANEW = 48, 64  # voxels along an edge of the crop, with an outline and without
_FINEST, _COARSEST = 1.0, 3.0  # mm
_ROOM = 1.3  # how much wider than the thing a crop is
_UNKNOWN_MM = 1.25  # edge where nothing says how large the thing is
_TOGETHER_MM = 32.0  # prompts this near to each other are answered in one crop
_LEAST = 0.05  # probability below which nothing stands out
_NEAR_MM = 3.0
_CHANGED, _LEAST_CHANGED = 0.35, 300  # of the outline in the crop, and voxels, at most a prompt
_LEAST_MM = 4.0  # the shortest reach
_CUT_OFF = 0.01  # share of the crop's faces that an answer may touch before it is seen wider
_ALL = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, slots=True, eq=False)
class PromptStudy:
    """What is known of a study before a prompt, on voxels of 1 mm over the brain's box."""

    images: NDArray[np.floating]
    """(4, I, J, K): z-scored in the brain, zero outside of it and where absent."""
    brain: Mask
    """(I, J, K)."""
    present: tuple[bool, ...]
    """(4,)."""
    chances: NDArray[np.floating] | None = None
    """(3, I, J, K): probability of WT, TC, ET by the analysis; None where there was none."""


class Prompter:
    """Answers prompts with one network, on one device.

    Parameters
    ----------
    network : PromptNetwork
        In evaluation mode.
    """

    def __init__(self, network: PromptNetwork) -> None:
        self._network = network

    def answer(self, study: PromptStudy, asked: PromptQuestion) -> PromptedRegion:
        """Answer the prompts.

        Raises
        ------
        UnusableInputError
            No prompt says what belongs to the thing, prompts contradict each other, lie outside
            the brain, or nothing stands out there.
        """
        _check(study, asked)
        if asked.outline is None:
            return self._anew(study, asked)
        return self._corrected(study, asked, asked.outline)

    def _anew(self, study: PromptStudy, asked: PromptQuestion) -> PromptedRegion:
        place = _place_for(study, asked)
        box, chance, attention = self._predict_at(study, asked, place)
        again = _better_place(chance, box, place, asked.wanted)
        if again is not None:
            box, chance, attention = self._predict_at(study, asked, again)
        wanted = asked.wanted - [side.start for side in box]
        chance = _joined(_standing_out(chance, wanted), wanted, _kept_with(study, asked, box))
        out = np.zeros(study.brain.shape, np.float32)
        out[box] = chance
        return PromptedRegion(_bound(out, asked), attention, np.zeros_like(study.brain))

    def _corrected(
        self, study: PromptStudy, asked: PromptQuestion, outline: Mask
    ) -> PromptedRegion:
        now, attention = outline.copy(), np.zeros(study.brain.shape, np.float32)
        out, settled = outline.astype(np.float32), np.ones_like(outline)
        groups = list(_groups(asked, outline))
        for group in groups:
            middle = (group.min(0) + group.max(0)) / 2
            extent = float(np.ptp(group, axis=0).max()) + 2 * REACH_MM[asked.region] + 4
            spacing = extent / (_CORRECTED - 1)
            place = Place.straight(middle, spacing, _CORRECTED)
            box, chance, seen = self._predict_at(study, replace(asked, outline=now), place)
            attention += seen / len(groups)
            free = _may_change(chance, now, group, asked, box)
            out[box] = np.where(free, chance, out[box])
            settled[box] &= ~free
            now[box] = out[box] >= 0.5
        return PromptedRegion(_bound(out, asked), attention, settled)

    def _predict_at(
        self, study: PromptStudy, asked: PromptQuestion, place: Place
    ) -> tuple[Box, Floats, Floats]:
        """Run the network at one place; its box, probability there, and attention everywhere."""
        spacing = float(place.step[0, 0])
        images = sample(study.images, place)
        brain = sample(study.brain[None], place).round()
        chances = None if study.chances is None else sample(study.chances, place)
        scene = Scene(images * brain, brain, study.present, chances, spacing)
        drawn = None
        if asked.outline is not None:
            drawn = sample(asked.outline[None], place)[0].numpy() >= 0.5
        question = Question(
            _marked(asked.wanted, place), _marked(asked.unwanted, place), drawn, _index(asked)
        )
        found = self._run(scene, question)
        box, logits = paste(found.logits[0, 0].float(), place, study.brain.shape)
        chance = (1 / (1 + np.exp(-logits))) * study.brain[box]
        return box, chance.astype(np.float32), _attended(found, place, study.brain)

    @torch.inference_mode()
    def _run(self, scene: Scene, question: Question) -> PromptAnswer:
        device = next(self._network.parameters()).device
        maps, facts = network_input(scene, question)
        x = PromptInput(maps.to(device, memory_format=torch.channels_last_3d), facts.to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = self._network(x, trace=True)
        kept = found.attention
        return PromptAnswer(found.logits.cpu(), None if kept is None else kept.float().cpu())


def _index(asked: PromptQuestion) -> int | None:
    return None if asked.region is None else list(Region).index(asked.region)


def _check(study: PromptStudy, asked: PromptQuestion) -> None:
    if not len(asked.wanted) and asked.outline is None:
        raise _refused(
            "no prompt that says what belongs to it" if len(asked.unwanted) else "no prompt",
            "at least one point or scribble inside the thing, or an outline to correct",
        )
    if not len(asked.wanted) and not len(asked.unwanted):
        raise _refused(
            "an outline without a prompt", "a point or a scribble that says what is wrong"
        )
    both = set(map(tuple, asked.wanted.tolist())) & set(map(tuple, asked.unwanted.tolist()))
    if both:
        raise _refused("a voxel that is both part of it and not", "one answer for each place")
    shape = np.array(study.brain.shape)
    for points in (asked.wanted, asked.unwanted):
        if len(points) and not ((points >= 0) & (points < shape)).all():
            raise _refused("a prompt outside the brain", "prompts inside it")
    if len(asked.wanted) and not study.brain[tuple(asked.wanted.T)].all():
        raise _refused("a prompt outside the brain", "prompts inside it")


def _refused(found: str, expected: str) -> UnusableInputError:
    return UnusableInputError(
        found=found,
        expected=expected,
        next_step="Point at the middle of what is meant, or of what is wrong",
    )


def _groups(asked: PromptQuestion, outline: Mask) -> Iterator[Points]:
    """Part the prompts that contradict an outline into those that fit into one crop."""
    wrong = [p for p in asked.wanted if not outline[tuple(p)]]
    wrong += [p for p in asked.unwanted if outline[tuple(p)]]
    while wrong:
        near = [p for p in wrong if np.abs(p - wrong[0]).max() <= _TOGETHER_MM / 2]
        wrong = [p for p in wrong if np.abs(p - wrong[0]).max() > _TOGETHER_MM / 2]
        yield np.array(near)


def _marked(points: Points, place: Place) -> Mask:
    out = np.zeros((place.size,) * 3, bool)
    out[tuple(place.inside(points).T)] = True
    return out


def _place_for(study: PromptStudy, asked: PromptQuestion) -> Place:
    """Choose where to look first: at what the analysis flagged there, else round the prompts."""
    low, high = asked.wanted.min(0), asked.wanted.max(0)
    least = float((high - low).max()) + 16.0
    known = _known_extent(study, asked)
    if known is None:
        spacing = max(_UNKNOWN_MM, least / _ANEW)
        return Place.straight((low + high) / 2, min(spacing, _COARSEST), _ANEW)
    first, last = np.minimum(known[0], low), np.maximum(known[1], high)
    wanted = max(_ROOM * float((last - first).max()), least) / _ANEW
    return Place.straight((first + last) / 2, float(np.clip(wanted, _FINEST, _COARSEST)), _ANEW)


def _known_extent(study: PromptStudy, asked: PromptQuestion) -> tuple[Points, Points] | None:
    """Find the corners of what the analysis flagged under the prompts, on every second voxel."""
    if study.chances is None:
        return None
    flagged = study.chances[_index(asked) or 0, ::2, ::2, ::2] >= 0.5
    parts, _ = ndimage.label(flagged, _ALL)
    half = np.minimum(asked.wanted // 2, np.array(parts.shape) - 1)
    here = set(np.unique(parts[tuple(half.T)]).tolist()) - {0}
    if not here:
        return None
    boxes = ndimage.find_objects(parts)
    corners = [[(s.start, s.stop - 1) for s in boxes[n - 1]] for n in here]
    every = np.array(corners)
    return 2 * every[:, :, 0].min(0), 2 * every[:, :, 1].max(0) + 1


def _better_place(chance: Floats, box: Box, place: Place, wanted: Points) -> Place | None:
    """Return a wider place where an answer is cut off, a closer one where it is small."""
    spacing = float(place.step[0, 0])
    drawn = chance >= 0.5
    corner = np.array([side.start for side in box])
    if not drawn.any():
        return None
    drawn = _part_of(drawn, wanted - corner)
    if not drawn.any():
        return None
    faces = [drawn.take(end, axis).mean() for axis in range(3) for end in (0, -1)]
    sides = ndimage.find_objects(drawn.astype(np.uint8))[0]
    low = corner + [side.start for side in sides]
    high = corner + [side.stop - 1 for side in sides]
    middle, extent = (low + high) / 2, float((high - low).max())
    if max(faces) > _CUT_OFF and spacing < _COARSEST:
        return Place.straight(middle, min(1.5 * spacing, _COARSEST), place.size)
    closer = max(_FINEST, _ROOM * extent / place.size)
    return Place.straight(middle, closer, place.size) if closer < spacing / 1.2 else None


def _part_of(mask: Mask, points: Points) -> Mask:
    """Return the parts of a mask that hold one of the points."""
    parts, count = ndimage.label(mask, _ALL)
    within = points[((points >= 0) & (points < np.array(mask.shape))).all(1)]
    keep = np.zeros(count + 1, bool)
    keep[parts[tuple(within.T)]] = True
    keep[0] = False
    return np.asarray(keep[parts])


def _standing_out(chance: Floats, wanted: Points) -> Floats:
    """Lower the threshold to what is at the prompts, where that is below one half."""
    inside = wanted[((wanted >= 0) & (wanted < np.array(chance.shape))).all(1)]
    highest = 0.0
    for point in inside:
        near = tuple(slice(max(0, int(p - _NEAR_MM)), int(p + _NEAR_MM) + 1) for p in point)
        highest = max(highest, float(chance[near].max()))
    if highest < _LEAST:
        raise _refused(
            "nothing that stands out at this place", "a prompt inside something that does"
        )
    if highest >= 0.6:
        return chance
    level = 0.6 * highest
    shifted = np.clip(chance, 1e-6, 1 - 1e-6)
    odds = shifted / (1 - shifted) * ((1 - level) / level)
    return np.asarray(np.where(chance > 0, odds / (1 + odds), 0), np.float32)


def _kept_with(study: PromptStudy, asked: PromptQuestion, box: Box) -> Mask | None:
    """Return where parts of a region need not be joined: the flagged lesion under the prompts."""
    if study.chances is None or not _index(asked):
        return None
    lesion = study.chances[0][box] >= 0.5
    return _part_of(lesion, asked.wanted - [side.start for side in box])


def _joined(chance: Floats, wanted: Points, lesion: Mask | None) -> Floats:
    """Keep what is joined to the prompts, and the fading border round it."""
    drawn = chance >= 0.5
    near = ndimage.binary_dilation(_marks(wanted, chance.shape), _ALL, iterations=2)
    parts, count = ndimage.label(drawn, _ALL)
    keep = np.zeros(count + 1, bool)
    keep[parts[near]] = True
    if lesion is not None:
        keep[parts[lesion]] = True
    keep[0] = False
    apart = drawn & ~keep[parts]
    return np.asarray(np.where(apart, np.minimum(chance, 0.49), chance), np.float32)


def _marks(points: Points, shape: tuple[int, ...]) -> Mask:
    out = np.zeros(shape, bool)
    within = points[((points >= 0) & (points < np.array(shape))).all(1)]
    out[tuple(within.T)] = True
    return out


def _may_change(
    chance: Floats, outline: Mask, group: Points, asked: PromptQuestion, box: Box
) -> Mask:
    """Return which voxels of a crop may change: joined to a prompt, of its sign, near it."""
    corner = np.array([side.start for side in box])
    before = outline[box]
    wanted = {tuple(p) for p in asked.wanted.tolist()}
    free = np.zeros_like(before)
    for belongs in (True, False):
        points = np.array([p for p in group if (tuple(p) in wanted) == belongs]).reshape(-1, 3)
        if not len(points):
            continue
        marks = _marks(points - corner, before.shape)
        far = ndimage.distance_transform_edt(~marks)
        reach = _reach(before, far, REACH_MM[asked.region])
        least = (0.5 + _SURER * far / reach).astype(np.float32)
        change = ((chance >= least) & ~before) if belongs else ((1 - chance > least) & before)
        change &= far <= reach
        sure = (chance if belongs else 1 - chance) - least
        change = _bounded(change, sure, before)
        parts, count = ndimage.label(change | marks)
        keep = np.zeros(count + 1, bool)
        keep[parts[marks]] = True
        keep[0] = False
        free |= keep[parts]
    return free


def _bounded(change: Mask, sure: Floats, outline: Mask) -> Mask:
    """Keep the surest of a change that is large against the outline near it."""
    most = max(_LEAST_CHANGED, int(_CHANGED * np.count_nonzero(outline)))
    if not outline.any() or np.count_nonzero(change) <= most:
        return change
    return np.asarray(change & (sure >= np.partition(sure[change], -most)[-most]))


def _reach(outline: Mask, far: Floats, most: float) -> float:
    """Shorten the reach to the size of the part of the outline that is nearest to the prompt."""
    if not outline.any():
        return most
    parts, _ = ndimage.label(outline, _ALL)
    nearest = int(parts.flat[np.where(outline, far, np.inf).argmin()])
    if float(far[parts == nearest].min()) > most:
        return most  # another thing
    sides = ndimage.find_objects(parts, max_label=nearest)[nearest - 1]
    return float(np.clip(max(side.stop - side.start for side in sides), _LEAST_MM, most))


def _bound(chance: Floats, asked: PromptQuestion) -> Floats:
    """Let the prompts have the last word."""
    chance[tuple(asked.wanted.T)] = 1.0
    chance[tuple(asked.unwanted.T)] = 0.0
    return chance


def _attended(found: PromptAnswer, place: Place, brain: Mask) -> Floats:
    out = np.zeros(brain.shape, np.float32)
    if found.attention is None:
        return out
    coarse = found.attention[0]
    step = place.size / coarse.shape[0]
    tokens = Place(place.centre, place.step * step, coarse.shape[0])
    box, values = paste(coarse, tokens, brain.shape)
    out[box] = values * brain[box]
    total = float(out.sum(dtype=np.float64))
    return out / np.float32(total) if total else out
