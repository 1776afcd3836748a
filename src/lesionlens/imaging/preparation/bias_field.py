"""Bias field correction (N4) of each sequence.

The field is estimated on a coarse grid within the brain and divided out on the working grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from lesionlens.base.geometry import Floats, Mask
from lesionlens.base.grid import Grid
from lesionlens.base.process.itk_threads import one_itk_thread
from lesionlens.base.records.study import StepName
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import cache
from lesionlens.imaging.preparation.cache import ArrayForm, Arrays
from lesionlens.imaging.preparation.draft import Draft
from lesionlens.imaging.preparation.registration import on_ras_grid
from lesionlens.imaging.preparation.resampling import resample

COARSE_MM = 5.0
LEVELS = 3
ITERATIONS = 15
"""Maximum iterations per level; each level halves the spacing of the control points."""
_MIN_VOX = 500


@dataclass(frozen=True, slots=True, eq=False)
class BiasField:
    """The bias field of one sequence."""

    log: Floats
    """(I, J, K) float32: natural logarithm of the field on `grid`, zero mean in the brain."""
    grid: Grid
    """Coarse isotropic grid over the working grid."""
    strength: float
    """95th over 5th percentile of the field within the brain; 1 means no shading."""
    variation: tuple[float, float]
    """Coefficient of variation in the brain, before and after."""

    @property
    def text(self) -> str:
        """The figures in one sentence."""
        before, after = self.variation
        return (
            f"N4: shading of {self.strength:.2f} to 1 within the brain removed; coefficient of "
            f"variation {before:.2f} before, {after:.2f} after."
        )


def form(frame_uid: str | None) -> ArrayForm[BiasField | None]:
    """Return the cache format of bias fields, without the study's frame of reference."""

    def read(arrays: Arrays) -> BiasField:
        strength, before, after = arrays["figures"].tolist()
        log = arrays["log"]
        grid = Grid((log.shape[0], log.shape[1], log.shape[2]), arrays["affine"], frame_uid)
        return BiasField(log, grid, strength, (before, after))

    def write(field: BiasField | None) -> Arrays:
        if field is None:
            return {}
        figures = np.array([field.strength, *field.variation])
        return {"log": field.log, "affine": field.grid.affine, "figures": figures}

    return ArrayForm(frozenset({"log", "affine", "figures"}), read, write)


def estimate(values: Floats, brain: Mask, grid: Grid) -> BiasField | None:
    """Estimate the bias field of one sequence within the brain.

    Parameters
    ----------
    values : (I, J, K) float32
        On `grid`, scanner units.
    brain : (I, J, K) bool
        Region of the estimate; voxels <= 0 are ignored.
    grid : Grid
        Axis-aligned, isotropic.

    Returns
    -------
    BiasField or None
        None if too little of the brain is visible. Deterministic to the last bit, with any number
        of threads.

    Notes
    -----
    Tustison et al., IEEE TMI 2010, 29(6):1310-1320, doi 10.1109/TMI.2010.2046908.
    """
    small, coarse = on_ras_grid(values, grid, COARSE_MM)
    coverage = resample((brain & (values > 0)).astype(np.float32), grid, coarse)
    visible = np.asarray((coverage > 0.7) & (small > 0))
    if int(visible.sum()) < _MIN_VOX:
        return None
    log = _n4(small, visible)
    log = np.clip(log, *np.quantile(log[visible], (0.001, 0.999))) - log[visible].mean()
    low, high = np.exp(np.quantile(log[visible], (0.05, 0.95)))
    before, after = small[visible], small[visible] / np.exp(log[visible])
    return BiasField(
        log=log.astype(np.float32),
        grid=coarse,
        strength=float(high / low),
        variation=(float(before.std() / before.mean()), float(after.std() / after.mean())),
    )


def _n4(values: Floats, visible: Mask) -> Floats:
    """Return the logarithm of the field on the whole coarse grid."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    mask = sitk.GetImageFromArray(np.ascontiguousarray(visible.T).astype(np.uint8))
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations([ITERATIONS] * LEVELS)
    method.SetConvergenceThreshold(1e-3)
    method.SetNumberOfWorkUnits(1)  # as in `register`: bit-identical on every run
    with one_itk_thread():  # its spline is fitted by a separate filter
        method.Execute(image, mask)
    log: Floats = sitk.GetArrayFromImage(method.GetLogBiasFieldAsImage(image)).T
    return log


def corrected(values: Floats, grid: Grid, field: BiasField) -> Floats:
    """Divide an image by a bias field."""
    return np.asarray(values / np.exp(resample(field.log, field.grid, grid)), dtype=np.float32)


def correct_bias(draft: Draft, context: RunContext) -> None:
    """Correct the bias field of every sequence of a draft, in place."""
    images = [(s, values) for s, values in draft.images.items() if values.any()]
    for number, (sequence, values) in enumerate(images, 1):
        context.check(StepName.BIAS)
        field = _cached_field(draft, values)
        if field is None:
            message = "Skipped: too little of the brain is visible."
            draft.add_step(StepName.BIAS, sequence, message, done=False)
        else:
            values[...] = corrected(values, draft.working, field)
            figure = field.strength
            draft.add_step(StepName.BIAS, sequence, field.text, figure=figure, on_request=True)
        context.progress(StepName.BIAS, number / len(images))


def _cached_field(draft: Draft, values: Floats) -> BiasField | None:
    """Estimate the bias field, or load the cached one of the same voxels."""
    key, working = None, draft.working
    if draft.options.cache:
        images = {"image": values, "brain": draft.brain}
        volumes = {name: (cache.digest_of(array), working.affine) for name, array in images.items()}
        key = cache.key_of(volumes, "bias by one thread")
    return cache.cached(
        key, lambda: estimate(values, draft.brain, working), form(working.frame_uid)
    )
