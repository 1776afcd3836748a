"""What a candidate looks like, by calibrated probabilities of the kinds of lesions.

It describes an appearance; it is no diagnosis.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lesionlens.analysis.findings.anatomy import Head
from lesionlens.analysis.findings.kind_features import features_by_id
from lesionlens.analysis.findings.kind_model import appearance_of, key_of, load_models
from lesionlens.base.records.findings import Candidate
from lesionlens.base.records.study import PreparedStudy


def with_kinds(
    candidates: Sequence[Candidate],
    components: NDArray[np.int32],
    prepared: PreparedStudy,
    head: Head | None,
    only: Collection[int] | None = None,
) -> tuple[Candidate, ...]:
    """Return candidates with what they look like.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of one study.
    components : (I, J, K) int32
        Id of the candidate at each voxel of the native grid, 0 elsewhere.
    prepared : PreparedStudy
        The study.
    head : Head or None
        From `anatomy.head_of`, as other measures have it.
    only : collection of int or None
        Ids of those that are measured; the others are returned unchanged. None for all.

    Returns
    -------
    tuple of Candidate
        `kind` is None without a brain mask, and of a candidate too small for the 2 mm lattice.
    """
    wanted = {one.id for one in candidates} if only is None else set(only)
    found = features_by_id(prepared, head, components, wanted)
    model = load_models()[key_of(prepared.sequences)]
    kinds = {n: None if one is None else appearance_of(one, model) for n, one in found.items()}
    return tuple(replace(c, kind=kinds[c.id]) if c.id in kinds else c for c in candidates)
