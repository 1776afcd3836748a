"""From files to layers: recognise scans, and load the sequences of a study as layer data.

Heavy packages are imported only when a path is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionlens.base.errors import LesionLensError
from lesionlens.base.files import is_volume_name
from lesionlens.base.run_context import SILENT, RunContext

if TYPE_CHECKING:
    from lesionlens.base.labels import MrSequence
    from lesionlens.base.records.study import Series, Study

LayerData = tuple[Any, dict[str, Any], str]
KEY = "lesionlens"
"""Key of study, sequence and original affine in a layer's metadata."""

NAMES_LOOKED_AT = 200
_READ_THREADS = 2
_NOT_SCANS = (".txt", ".json", ".csv", ".png", ".jpg", ".tif", ".tiff", ".py", ".zarr", ".html")


def study_paths(paths: Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the paths to open for dropped files and folders.

    A DICOMDIR, or a single image of a series, stands for its folder.

    Returns
    -------
    tuple of Path
        Empty unless every path looks like a scan by name and header.
    """
    candidates = tuple(Path(path) for path in paths)
    if not all(map(_looks_like_scan, candidates)):
        return ()
    if len(candidates) == 1 and _is_part_of_series(candidates[0]):
        return (candidates[0].parent,)
    return candidates


def read_study(
    paths: Path | Sequence[Path],
    *,
    named: Mapping[MrSequence, str | Path] | None = None,
    study_uid: str | None = None,
    same_patient: bool = False,
    result: Path | None = None,
    context: RunContext = SILENT,
) -> list[LayerData]:
    """Open a study and load its sequences as layer data; callable from any thread.

    Parameters
    ----------
    paths : Path, or a sequence of them
        Folder or file; several form one study.
    named : mapping of MrSequence to str or Path
        Series assigned by the user.
    study_uid : str or None
        Study to open, if the folder contains several.
    result : Path or None
        Saved result whose series are opened, whichever were chosen since. If it is damaged or of
        another study, which is reported when it is reopened, the study is opened as it is.

    Returns
    -------
    list of (data, keywords, "image")
        On axis-aligned RAS+ grids in mm; the first sequence in reference order is last, on top.
    """
    from lesionlens.imaging.reading.open import open_study

    study = open_study(
        paths,
        named=named,
        study_uid=study_uid,
        same_patient=same_patient,
        context=context,
    )
    if result is not None:
        study = _as_analysed(study, result)
    return layers_of(study, context)


def _as_analysed(study: Study, result: Path) -> Study:
    """Return a study with the series of a result, or as it is if it is not the result's study."""
    from lesionlens.results.review.pairing import paired
    from lesionlens.results.review.reopen import read_result, result_folder

    try:
        return paired(read_result(result_folder(result), maps=False), study)
    except LesionLensError:
        return study


def layers_of(study: Study, context: RunContext) -> list[LayerData]:
    """Load every sequence as layer data; the first in reference order is last."""
    from concurrent.futures import ThreadPoolExecutor

    from lesionlens.base.labels import REFERENCE_ORDER

    sequences = [s for s in REFERENCE_ORDER if s in study.series]

    def read(sequence: MrSequence) -> LayerData:
        context.check("reading the images")
        return _layer(study, sequence, study.series[sequence], top=sequence is sequences[0])

    layers = []
    with ThreadPoolExecutor(_READ_THREADS) as pool:  # decompression releases the GIL
        futures = [pool.submit(read, sequence) for sequence in sequences]
        try:
            for number, (sequence, future) in enumerate(zip(sequences, futures, strict=True)):
                context.progress(f"read {sequence.display_name}", number / len(sequences))
                layers.append(future.result())
        finally:
            for future in futures:
                future.cancel()
    context.progress("read", 1.0)
    return layers[::-1]


def _layer(study: Study, sequence: MrSequence, series: Series, *, top: bool) -> LayerData:
    from lesionlens.base.records.arrays import Volume
    from lesionlens.napari.model.overlays.maps import (
        as_acquired,
        axis_aligned,
        image_keywords,
    )

    source = Volume(series.load(), series.grid)
    volume = axis_aligned(source)
    keywords = image_keywords(volume.data, volume.grid)
    keywords |= {
        "name": sequence.display_name,
        "visible": top,
        "metadata": {
            KEY: {
                "study": study,
                "sequence": sequence.value,
                "affine": series.grid.affine.tolist(),
                "acquired": as_acquired(source),
            }
        },
    }
    return smallest_dtype(volume.data), keywords, "image"


def smallest_dtype(data: Any) -> Any:
    """Return voxels in the smallest exact integer type, otherwise unchanged.

    Scanners write integers, which take half the memory of floats.

    Returns
    -------
    (I, J, K) uint8, int16, uint16 or float32
    """
    import numpy as np

    low, high = float(data.min(initial=0.0)), float(data.max(initial=0.0))
    for kind in (np.uint8, np.int16, np.uint16):
        span = np.iinfo(kind)
        if span.min <= low and high <= span.max:  # false for NaN
            compact = data.astype(kind)
            return compact if np.array_equal(compact, data) else data
    return data


def _looks_like_scan(path: Path) -> bool:
    """Whether a file, or one of the first files below a folder, is NIfTI or DICOM."""
    return any(map(_is_scan, islice(_files(path), NAMES_LOOKED_AT) if path.is_dir() else [path]))


def _is_part_of_series(path: Path) -> bool:
    """Whether a file is an index or one slice of a series."""
    if path.is_dir() or is_volume_name(path.name):
        return False
    from lesionlens.imaging.reading.dicom.files import MULTI_FRAME, sop_class

    return path.name.upper() == "DICOMDIR" or sop_class(path) not in MULTI_FRAME


def _files(folder: Path) -> Iterator[Path]:
    for base, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if base.endswith(".zarr"):
            inner.clear()
            continue
        for name in sorted(names):
            yield Path(base) / name


def _is_scan(path: Path) -> bool:
    name = path.name.lower()
    if is_volume_name(name) or name == "dicomdir":
        return True
    if name.startswith(".") or name.endswith(_NOT_SCANS):
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:  # missing or unreadable
        return False
