"""For tests of other packages: `check_engine`, and the synthetic heads of `make_patient`.

A head looks like one only as far as readers, registration, measures and exports need it. Nothing in
it comes from a person.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.errors import CancelledError, UnusableInputError
from lesionlens.base.geometry import Vec3
from lesionlens.base.grid import Grid
from lesionlens.base.labels import REFERENCE_ORDER, Label, MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.records.prompts import PromptRequest
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import engine as engines
from lesionlens.imaging.preparation.prepare import PrepareOptions
from lesionlens.imaging.samples import STUDY as SAMPLE_STUDY

__all__ = [
    "SAMPLE_STUDY",
    "Lesion",
    "PrepareOptions",
    "SyntheticPatient",
    "check_engine",
    "make_patient",
    "prepared_head",
]
_FIELD_OF_VIEW_MM, _CENTRE_MM = (176.0, 212.0, 168.0), (0.0, -16.0, 12.0)
_BRAIN_HALF_MM = np.array((66.0, 82.0, 62.0))
_WHITE, _GREY, _FLUID, _SKULL, _SCALP = range(1, 6)
_LESION_ROWS = {Label.CORE: 6, Label.OEDEMA: 7, Label.ENHANCING: 8}
# scanner units: white, grey, cerebrospinal fluid, skull, scalp, then core, oedema, enhancing
_INTENSITY: Mapping[MrSequence, tuple[float, ...]] = {
    MrSequence.T1: (820, 620, 260, 90, 1050, 380, 520, 600),
    MrSequence.T1C: (830, 650, 270, 90, 1080, 390, 530, 1450),
    MrSequence.T2: (470, 640, 1500, 80, 700, 1250, 1050, 820),
    MrSequence.FLAIR: (560, 700, 170, 80, 650, 720, 1250, 1050),
}
_CLOSE = 1e-4


@dataclass(frozen=True, slots=True)
class Lesion:
    """A ball-like lesion: core within an enhancing ring within oedema."""

    centre_mm: Vec3 = (-28.0, 8.0, 26.0)
    """(3,) float: patient RAS+ mm: a negative first coordinate is the patient's left."""
    radius_mm: float = 18.0
    """Radius of the whole lesion; the ring ends at 0.65 of it, the core at 0.4."""


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticPatient:
    """A synthetic head with its reference labels."""

    sequences: Mapping[MrSequence, Volume]
    """All four: float32, scanner units, on one RAS+ grid; air is near 0."""
    labels: Volume
    """Volume of uint8: 0 background, 1 core, 2 oedema, 3 enhancing."""
    brain: Volume
    """Volume of bool: brain with ventricles and lesion, without skull."""
    seed: int


def make_patient(
    seed: int = 0,
    *,
    spacing_mm: float = 2.0,
    lesions: tuple[Lesion, ...] = (Lesion(),),
    skull: bool = False,
    noise: float = 20.0,
) -> SyntheticPatient:
    """Generate a head with lesions; the left ventricle is larger, so that the sides differ.

    Parameters
    ----------
    seed : int
        Same seed and options, same voxels.
    spacing_mm : float
        Edge of the cubes of the RAS+ grid: 2 makes (88, 106, 84) voxels, 4 a quick (44, 53, 42).
    lesions : tuple of Lesion
        Later ones overwrite earlier ones; none gives a head without a lesion.
    skull : bool
        Add skull and scalp round the brain; without them it looks skull-stripped (air is 0).
    noise : float
        Standard deviation, scanner units; Rician, so that air is not negative.

    >>> make_patient(spacing_mm=4.0).labels.data.shape
    (44, 53, 42)
    """
    rng = np.random.default_rng(seed)
    i, j, k = (round(length / spacing_mm) for length in _FIELD_OF_VIEW_MM)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = np.asarray(_CENTRE_MM) - spacing_mm * (np.array((i, j, k)) - 1) / 2
    grid = Grid((i, j, k), affine)
    axes = [affine[a, 3] + spacing_mm * np.arange(n) for a, n in enumerate(grid.shape)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))

    def radius(centre: Iterable[float], half: Iterable[float]) -> NDArray[np.float64]:
        # the distance from an ellipsoid's centre: 1 on its surface
        parts = [((p - c) / h) ** 2 for p, c, h in zip(points, centre, half, strict=True)]
        return np.asarray(np.sqrt(sum(parts)))

    def smooth(width_mm: float) -> NDArray[np.float64]:
        noise = rng.normal(size=grid.shape)
        field = ndimage.gaussian_filter(noise, width_mm / spacing_mm, mode="wrap")
        return np.asarray(field / field.std())

    distance = radius(_CENTRE_MM, _BRAIN_HALF_MM)
    brain, folds = distance < 1, 0.07 * smooth(6.0)
    tissue = np.zeros(grid.shape, np.uint8)
    tissue[brain] = _FLUID
    tissue[distance + 0.5 * folds < 0.95] = _GREY
    tissue[distance + folds < 0.78] = _WHITE
    for side, size in ((-1.0, 1.25), (1.0, 1.0)):
        tissue[radius((side * 13.0, -14.0, 20.0), (6.0 * size, 26.0 * size, 8.0)) < 1] = _FLUID
        nucleus = radius((side * 24.0, -6.0, 8.0), (7.0, 18.0, 9.0)) < 1
        tissue[nucleus & (tissue == _WHITE)] = _GREY
    tissue[(np.abs(points[0]) < 1.5) & brain & (points[2] > 30)] = _FLUID
    tissue[~brain] = 0
    labels = np.zeros(grid.shape, np.uint8)
    for lesion in lesions:
        edges = np.array((1.0, 1.1, 0.9)) * lesion.radius_mm
        distance = radius(lesion.centre_mm, edges) + 0.08 * smooth(5.0)
        for share, label in ((1, Label.OEDEMA), (0.65, Label.ENHANCING), (0.4, Label.CORE)):
            labels[distance < share] = label
    labels[~brain] = Label.BACKGROUND
    if skull:
        air = tissue == 0
        for row, width in ((_SCALP, 17.0), (_SKULL, 10.0), (_FLUID, 3.0)):
            tissue[air & (radius(_CENTRE_MM, _BRAIN_HALF_MM + width) < 1)] = row
    for label, row in _LESION_ROWS.items():
        tissue[labels == label] = row
    sequences = {}
    for sequence in MrSequence:
        clean = np.asarray((0.0, *_INTENSITY[sequence]))[tissue]
        blurred = ndimage.gaussian_filter(clean, 0.6) * (tissue > 0)
        real, imaginary = rng.normal(0.0, noise, (2, *grid.shape))
        voxels = np.hypot(blurred + real, imaginary) * (tissue > 0)
        sequences[sequence] = Volume(voxels.astype(np.float32), grid)
    return SyntheticPatient(sequences, Volume(labels, grid), Volume(brain, grid), seed)


def prepared_head(
    sequences: Iterable[str] = tuple(MrSequence), patient: SyntheticPatient | None = None
) -> PreparedStudy:
    """Return a prepared head with these sequences: by default of 4 mm voxels, with one lesion."""
    head = patient or make_patient(spacing_mm=4.0)
    present = np.array([sequence in set(sequences) for sequence in MrSequence])
    channels = np.stack([head.sequences[sequence].data for sequence in MrSequence])
    channels = (channels * present[:, None, None, None]).astype(np.float32)
    reference = next(s for s in REFERENCE_ORDER if present[list(MrSequence).index(s)])
    brain, grid = head.brain.data, head.labels.grid
    return PreparedStudy(channels, present, brain, grid, grid, np.eye(4), reference)


def check_engine(engine: engines.Engine, *, patience_s: float = 10.0) -> None:
    """Check that an engine keeps the contract; how well it finds tumours is not checked.

    It must be ready to predict, and stop `patience_s` seconds after a cancellation at the latest.
    The AssertionError has a line for each broken requirement, see docs/how-to/engines.md.
    """
    cancelling = partial(_check_cancelling, patience_s=patience_s)
    checks = (_check_output, _check_sides, _check_repeatable, _check_subsets, _check_prompts)
    broken = []
    for check in (*checks, cancelling):
        try:
            check(engine)
        except Exception as error:  # noqa: BLE001  # whatever an engine raises breaks the contract
            broken.append(str(error))
    if broken:
        raise AssertionError("\n".join(broken))


def _require(holds: bool, requirement: str) -> None:
    if not holds:
        raise AssertionError(f"requires {requirement}")


def _whole(engine: engines.Engine, study: PreparedStudy) -> NDArray[np.float32]:
    return engines.predict(engine, study, context=SILENT).probability[Region.WT]


def _check_output(engine: engines.Engine) -> None:
    """Check name, regions, types and ranges, also where sequences are missing."""
    _require(bool(engine.info.name and engine.info.version), "a name and a version")
    study = prepared_head()
    for region, values in engine.predict(study, context=SILENT).probability.items():
        _require(not values[~study.brain].any(), f"{region} to be 0 outside the brain")
    _whole(engine, study)
    for present in (("flair",), ("t1c",), ("t1", "t2")):
        with suppress(UnusableInputError):  # what it cannot analyse, it refuses in words
            _whole(engine, prepared_head(present))


def _check_sides(engine: engines.Engine) -> None:
    """Check that a prediction moves with the head, and changes only where the images change."""
    study = prepared_head()
    affine = study.working.affine.copy()
    affine[:3, 3] += (17.0, -31.0, 44.0)
    grid, whole = Grid(study.working.shape, affine), _whole(engine, study)
    moved = _whole(engine, replace(study, working=grid, native=grid))
    _require(np.allclose(moved, whole, atol=_CLOSE), "the same prediction for a moved head")
    lesion, healthy = make_patient(spacing_mm=4.0).labels.data > 0, np.array(study.channels)
    healthy[:, lesion] = np.median(healthy[:, study.brain & ~lesion], axis=1, keepdims=True)
    change = np.abs(whole - _whole(engine, replace(study, channels=healthy)))
    for axis in range(3):
        mirrored = float(change[np.flip(lesion, axis) & ~lesion].mean())
        here = float(change[lesion].mean()) + _CLOSE
        _require(mirrored <= here, f"a change where the lesion is, not mirrored on axis {axis}")


def _check_repeatable(engine: engines.Engine) -> None:
    """Check that a study gives the same again, after another one that gives its own."""
    study, copy = prepared_head(), prepared_head()
    first = _whole(engine, study)
    flipped = np.where(study.brain, study.channels[:, ::-1, ::-1], 0).astype(np.float32)
    other = _whole(engine, replace(study, channels=flipped))
    _require(not np.array_equal(other, first), "a prediction that depends on the images")
    _require(np.allclose(_whole(engine, study), first, atol=_CLOSE), "the same for the same study")
    _require(np.array_equal(study.channels, copy.channels), "images that are left as they were")


def _check_cancelling(engine: engines.Engine, *, patience_s: float) -> None:
    """Check that progress is reported, and that a cancelled prediction stops soon."""
    stop, reports = threading.Event(), list[tuple[float, str, float]]()

    def report(stage: str, fraction: float) -> None:
        reports.append((time.monotonic(), stage, fraction))
        stop.set()

    with suppress(CancelledError):  # a nearly finished prediction may end normally
        engine.predict(prepared_head(), context=RunContext(report, stop))
    late_s = time.monotonic() - reports[0][0] if reports else 0.0
    _require(late_s < patience_s, f"a stop within {patience_s:g} s, not {late_s:.1f}")
    _require(
        bool(reports) and all(stage and 0 <= share <= 1 for _, stage, share in reports),
        "progress, each report with a stage and a fraction from 0 to 1",
    )
    with suppress(CancelledError):
        engine.predict(prepared_head(), context=RunContext(cancel=stop))
        _require(False, "CancelledError where it is cancelled before the start")


def _check_subsets(engine: engines.Engine) -> None:
    """Check `predict_subsets`, if it is there: the same from all sequences, another from none."""
    if not hasattr(engine, "predict_subsets"):
        return
    study = prepared_head()
    full = engine.predict(study, context=SILENT).unperturbed
    inputs = [InputPerturbation(), InputPerturbation.showing(())]
    every, none = engines.predict_subsets(engine, study, inputs, context=SILENT).probability
    close = full is not None and np.allclose(every, full.probability[0], atol=_CLOSE)
    _require(close, "`unperturbed` as predicted from all sequences")
    differs = not np.array_equal(every, none) or bool(every.min() == every.max())
    _require(differs, "another prediction without any sequence")


def _check_prompts(engine: engines.Engine) -> None:
    """Check `prompt`, if it is there: binding, repeatable, refused if contradictory."""
    if not hasattr(engine, "prompt"):
        return
    study = prepared_head()
    probability = engines.predict(engine, study, context=SILENT).probability
    inside = np.argwhere(study.brain)
    foreground, background = inside[len(inside) // 2][None], inside[len(inside) // 3][None]
    outline = np.zeros(study.brain.shape, bool)
    outline[tuple(background[0])] = True
    request = PromptRequest(foreground, background, outline)
    response, again = (
        engines.prompt(engine, study, request, probability, context=SILENT) for _ in range(2)
    )
    mask = response.mask_over(outline, study.working.shape)
    _require(bool(mask[tuple(foreground[0])]), "a foreground prompt inside the outline")
    _require(not mask[tuple(background[0])], "a background prompt outside the outline")
    same = np.allclose(response.probability, again.probability, atol=_CLOSE)
    _require(same, "the same response to the same prompts")
    changed = (mask != outline)[response.box] & response.settled
    _require(not changed.any(), "an unchanged outline where it is settled")
    with suppress(UnusableInputError):
        both = PromptRequest(foreground, foreground)
        engines.prompt(engine, study, both, probability, context=SILENT)
        _require(False, "a refusal of a voxel that is foreground and background")
