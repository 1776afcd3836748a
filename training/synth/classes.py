"""Tissue classes of the shipped head label maps, and their tissue composition."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

AIR, CORTEX, WHITE, FLUID, VENTRICLE, THALAMUS, STRIATUM, PALLIDUM = range(8)
STEM, DIENCEPHALON, CHIASM, CEREBELLAR_CORTEX, CEREBELLAR_WHITE, VESSEL = range(8, 14)
OUTER_FLUID, SOFT, BONE, MARROW, SKIN, MUCOSA, SINUS, EYE, OTHER, CORD = range(14, 24)
"""Values in `anatomies.npz`. Fluid within the brain's outline (sulci, cisterns) is `FLUID`, that
beyond it `OUTER_FLUID`; what follows lies outside of the brain."""
COUNT = 24
BRAIN = tuple(range(CORTEX, OUTER_FLUID))
"""Classes within the brain's outline."""

Recipe = Mapping[int, tuple[float, float, float, float, float]]
RECIPES: Recipe = MappingProxyType({
    CORTEX: (1, 0, 0, 0, 0),
    WHITE: (0, 1, 0, 0, 0),
    FLUID: (0, 0, 1, 0, 0),
    VENTRICLE: (0, 0, 0, 1, 0),
    THALAMUS: (0, 0.25, 0, 0, 0.75),
    STRIATUM: (0.5, 0, 0, 0, 0.5),
    PALLIDUM: (0, 0.5, 0, 0, 0.5),
    STEM: (0, 0.75, 0, 0, 0.25),
    DIENCEPHALON: (0, 0.6, 0, 0, 0.4),
    CHIASM: (0, 1, 0, 0, 0),
    CEREBELLAR_CORTEX: (0.85, 0.15, 0, 0, 0),
    CEREBELLAR_WHITE: (0, 1, 0, 0, 0),
    VESSEL: (0.3, 0, 0.7, 0, 0),
})  # fmt: skip
"""Shares of cortex, white matter, outer CSF, ventricle and deep grey in each class; else CSF."""

SITE_WEIGHTS: Mapping[int, float] = MappingProxyType({
    CORTEX: 0.5,
    WHITE: 1.0,
    VENTRICLE: 0.15,
    THALAMUS: 2.5,
    STRIATUM: 0.8,
    PALLIDUM: 0.8,
    STEM: 2.0,
    DIENCEPHALON: 1.5,
    CHIASM: 40.0,
    CEREBELLAR_CORTEX: 0.4,
    CEREBELLAR_WHITE: 0.8,
})  # fmt: skip
"""Probability of a tumour starting in a voxel of a class, relative to white matter. About .04 of
the positions are in thalamus, .05 in brain stem, .08 in cerebellum and .01 in the chiasm.
"""
