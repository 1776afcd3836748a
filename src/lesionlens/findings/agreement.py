"""How the attention map fits the candidates: the pointing game and the mass inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lesionlens.records.findings import Agreement


def of_components(
    components: NDArray[np.int32], count: int, attention: NDArray[np.float32] | None
) -> list[Agreement]:
    """Ask, for each component, whether the map points at it.

    With several candidates the map has to serve them all, so each is judged as if the others'
    voxels were not there: of the attention that lies in no other candidate, does the peak lie in
    this one, and which share? With one candidate this is the usual pointing game and mass.

    Parameters
    ----------
    components : (I, J, K) int32
        1 to `count`, 0 elsewhere.
    count : int
        Number of components.
    attention : (I, J, K) float32 or None
        Non-negative, same grid.

    Returns
    -------
    list of Agreement
        In the components' order; empty fields where there is no map, or one without any weight.

    Notes
    -----
    Pointing game: Zhang et al. 2018, doi:10.1007/s11263-017-1059-x, section 4.2, without their
    margin.
    """
    if attention is None or not attention.any():
        return [Agreement(None, None)] * count
    numbers = np.arange(count + 1)
    peaks = np.asarray(ndimage.maximum(attention, components, numbers))
    sums = np.bincount(components.ravel(), attention.ravel(), minlength=count + 1)
    outside, peak_outside = sums[0], peaks[0]
    return [
        Agreement(
            peak_inside=bool(peaks[n] >= peak_outside),
            mass_inside=float(sums[n] / (sums[n] + outside)) if sums[n] + outside > 0 else None,
        )
        for n in numbers[1:]
    ]
