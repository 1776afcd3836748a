"""Where one voxel attends: a click on the image, answered on the native grid."""

from __future__ import annotations

from lesionlens.base.errors import UnusableInputError
from lesionlens.inference import native
from lesionlens.records.arrays import Volume
from lesionlens.records.prediction import Trace
from lesionlens.records.study import PreparedStudy


def ask(trace: Trace | None, prepared: PreparedStudy, voxel: tuple[int, int, int]) -> Volume:
    """Return where a voxel of the reference attends.

    Parameters
    ----------
    trace : Trace or None
        Of the analysis.
    prepared : PreparedStudy
        Names both grids.
    voxel : (3,) int
        Index on the native grid.

    Returns
    -------
    Volume
        float32 on the native grid, 0 to 1, maximum 1.

    Raises
    ------
    UnusableInputError
        The voxel lies outside of the image or the brain, or the engine cannot be asked.
    """
    if trace is None or trace.probe_row is None:
        raise UnusableInputError(
            found="a result whose engine keeps no self-attention",
            expected="one with the capability `probe`",
            next_step="Analyse the study again with the engine `lens`",
        )
    shape = prepared.native.shape
    if not all(0 <= v < n for v, n in zip(voxel, shape, strict=True)):
        raise UnusableInputError(
            found=f"the voxel {tuple(voxel)}",
            expected=f"an index within {shape}, the shape of the reference sequence",
            next_step="Count voxels from 0 along the axes of the reference sequence",
        )
    answer = trace.probe_row(native.to_working(voxel, prepared))
    return Volume(native.bring(answer, prepared), prepared.native)
