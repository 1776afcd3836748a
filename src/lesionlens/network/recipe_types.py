"""Numbers of a training recipe, each with its lowest and highest value; others are 0 or more."""

from __future__ import annotations

import math
from typing import Annotated

Share = Annotated[float, (0, 1)]
Count = Annotated[int, (1, math.inf)]
Seed = Annotated[int, (0, 10**9)]
_Edge = Annotated[int, (8, math.inf)]
GridShape = tuple[_Edge, _Edge, _Edge]
"""Voxels along I, J, K."""
_EdgeMm = Annotated[float, (0.1, 10.0)]
EdgeRange = tuple[_EdgeMm, _EdgeMm]
"""Range of voxel edges, mm."""
