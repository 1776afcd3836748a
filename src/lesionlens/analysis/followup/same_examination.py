"""Whether two studies are one examination: the same files, or a copy of their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import unreadable
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.study import Series, Study

_RELATIVE_TOLERANCE = 1e-3  # of bright tissue: converters round scaled integers differently
_BRIGHT_PERCENTILE = 99.0  # a few voxels of artefact or padding may be far brighter


def is_same_examination(study: Study, other: Study) -> bool:
    """Return whether two studies are of one examination.

    They are if they share a file, the Study Instance UID, a Series Instance UID, or the voxels of a
    sequence. Voxels are compared in RAS+ order, whatever the files are called, how they are
    compressed, stored or positioned, and whose name they bear: an anonymised copy, or one converted
    to NIfTI, is the same examination. They are read only where the grids have the same shape.

    Raises
    ------
    ReadError
        The voxels of a sequence cannot be read.
    """
    if study.uid is not None and study.uid == other.uid:
        return True
    if _series_uids(study) & _series_uids(other) or _paths(study) & _paths(other):
        return True
    pairs = [(series, other.series[s]) for s, series in study.series.items() if s in other.series]
    return any(_same_voxels(first, second) for first, second in pairs)


def digests_of(study: Study) -> frozenset[str]:
    """Return the SHA-256 of the first file of each series that is analysed.

    Raises
    ------
    ReadError
        A file cannot be read.
    """
    first_files = [series.files[0] for series in study.series.values() if series.files]
    try:
        return frozenset(sha256_of(file.path) for file in first_files)
    except OSError as error:
        raise unreadable(error, study.name) from error


def _series_uids(study: Study) -> set[str]:
    return {series.uid for series in study.series.values() if series.uid}


def _paths(study: Study) -> set[Path]:
    return {file.path.resolve() for series in study.series.values() for file in series.files}


def _same_voxels(series: Series, other: Series) -> bool:
    """Return whether two series hold the same voxels, up to the order in which they are stored."""
    if _shape_ras(series) != _shape_ras(other):
        return False
    try:
        first, second = _values_ras(series), _values_ras(other)
    except OSError as error:
        raise unreadable(error, series.description) from error
    bright = float(np.percentile(np.abs(first), _BRIGHT_PERCENTILE))
    tolerance = _RELATIVE_TOLERANCE * bright
    return bool(np.allclose(first, second, rtol=0.0, atol=tolerance))


def _order(series: Series) -> NDArray[np.float64]:
    from nibabel.orientations import io_orientation

    return np.asarray(io_orientation(series.grid.affine), np.float64)


def _shape_ras(series: Series) -> tuple[int, ...]:
    """Return the shape with axes in the order of RAS+."""
    return tuple(series.grid.shape[int(axis)] for axis in np.argsort(_order(series)[:, 0]))


def _values_ras(series: Series) -> NDArray[np.float32]:
    """Return the (R, A, S) voxels, NaN and infinity as 0."""
    from nibabel.orientations import apply_orientation

    turned = apply_orientation(series.load(), _order(series))
    return np.nan_to_num(np.asarray(turned, np.float32), posinf=0.0, neginf=0.0)
