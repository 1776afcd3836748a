"""Agreement of the attention map with the candidates: pointing game and attention mass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.base.records.findings import MapAgreement

_BLOCK_MM = 3.0  # edge of the blocks for the nearest-candidate search


def of_components(
    components: NDArray[np.int32],
    count: int,
    attention: NDArray[np.float32] | None,
    spacing_mm: NDArray[np.float64],
) -> list[MapAgreement]:
    """Return, for each component, whether the map's peak and mass are inside.

    Several candidates share one map, and the largest receives most of it. Therefore each candidate
    is assessed on the voxels that are nearest to it: is the peak inside, and what share of the
    attention? A peak below the map's mean does not count. With one candidate this is the usual
    pointing game and mass.

    Parameters
    ----------
    components : (I, J, K) int32
        1 to `count`, 0 elsewhere.
    attention : (I, J, K) float32 or None
        Non-negative, same grid; zero outside the brain.
    spacing_mm : (3,) float64
        Voxel edges, as `Grid.nominal_spacing_mm` has them: blocks of a grid that was read from a
        float32 header have the same size.

    Returns
    -------
    list of MapAgreement
        In the components' order; empty fields if there is no map, or an empty one.

    Notes
    -----
    Pointing game: Zhang et al. 2018, doi:10.1007/s11263-017-1059-x, section 4.2, without their
    margin.
    """
    if attention is None or not attention.any():
        return [MapAgreement(None, None)] * count
    attended = attention > 0
    weight, component_at = attention[attended], components[attended]
    has_several = count > 1 and components.any()
    nearest = _nearest_component(components, spacing_mm)[attended] if has_several else 1
    nearest_outside = np.where(component_at == 0, nearest, 0)
    owners = component_at, nearest_outside
    masses, outside_masses = (np.bincount(owner, weight, count + 1) for owner in owners)
    mean_attention = float(weight.mean(dtype=np.float64))
    agreements = []
    for number in range(1, count + 1):
        peak, outside_peak = (weight.max(where=o == number, initial=0.0) for o in owners)
        total = masses[number] + outside_masses[number]
        agreements.append(
            MapAgreement(
                peak_inside=bool(peak >= max(outside_peak, mean_attention)),
                mass_inside=float(masses[number] / total) if total > 0 else None,
            )
        )
    return agreements


def _nearest_component(
    components: NDArray[np.int32], spacing_mm: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Return the number of the nearest component for each voxel, computed in small blocks."""
    step = np.maximum(1, (_BLOCK_MM / np.asarray(spacing_mm)).astype(int))
    coarse = np.zeros(-(-np.array(components.shape) // step), np.int32)
    voxels = np.argwhere(components)
    coarse[tuple((voxels // step).T)] = components[tuple(voxels.T)]
    index = ndimage.distance_transform_edt(
        coarse == 0, sampling=spacing_mm * step, return_distances=False, return_indices=True
    )
    blocks = np.ix_(*(np.arange(n) // s for n, s in zip(components.shape, step, strict=True)))
    return np.asarray(coarse[tuple(index)][blocks])
