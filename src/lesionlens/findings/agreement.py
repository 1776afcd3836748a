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
    rest = components == 0
    peak_outside = float(attention.max(where=rest, initial=0.0))
    mass_outside = float(attention.sum(where=rest, dtype=np.float64))
    found = []
    for number, box in enumerate(ndimage.find_objects(components, count), start=1):
        inside = attention[box][components[box] == number] if box else np.zeros(1, np.float32)
        mass = float(inside.sum(dtype=np.float64))
        total = mass + mass_outside
        found.append(
            Agreement(
                peak_inside=bool(inside.max() >= peak_outside),
                mass_inside=mass / total if total > 0 else None,
            )
        )
    return found
