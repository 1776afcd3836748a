"""Labels, probabilities and attention as NIfTI, on the reference sequence's native grid.

`candidates.nii.gz` (uint16) contains the candidate `id` of each voxel, which a reopened result is
built from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from zlib_ng.gzip_ng import GzipNGFile

from lesionlens.base import geometry
from lesionlens.base.errors import ExportError
from lesionlens.base.geometry import Floats
from lesionlens.base.grid import Grid
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import CONSIDERED, ConsideredFile, ConsideredRow
from lesionlens.results.export.written import UnconditionalExporter, Written

GZIP_LEVEL = 6
"""Measured on the nine volumes of a head of 200 by 240 by 153 voxels: 1.7 MB in .25 s of processor
time by zlib-ng, level 9 1.6 MB in .4; Python's own zlib 1.7 MB in 1.5, level 1 2.9 MB in .5."""
STEPS, UNCERTAINTY_STEPS = 1024, 256
"""Quantisation steps of probabilities and uncertainty: finer differences are noise, and half of the
file. Labels are computed before.
"""
SCANNER = (1, 1)
"""sform and qform codes for scanner coordinates, as in DICOM."""
NO_EVIDENCE = "nothing was flagged, or the engine cannot predict without single sequences"
SHEAR_LIMIT = 1e-4
"""Largest cosine between axes that a quaternion can represent."""


class NiftiExporter(UnconditionalExporter):
    """Writes segmentation, candidates, probability_*, attention_* and uncertainty `.nii.gz`.

    If evidence was requested, `evidence_*.nii.gz` on the first pass's grid, and `considered.json`.
    """

    name = "nifti"

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...] | Written:
        """Write every volume, two concurrently, because compression releases the GIL."""
        codes = codes_of(analysis)

        def write_job(job: tuple[str, Volume, int | None]) -> Path:
            name, volume, steps = job
            return write_volume(staged / f"{name}.nii.gz", volume, codes=codes, steps=steps)

        with ThreadPoolExecutor(max_workers=2) as pool:
            files = tuple(pool.map(write_job, _named_volumes(analysis)))
        if not analysis.options.evidence:
            return files
        left_out = {} if analysis.volumes.evidence else {"evidence_*.nii.gz": NO_EVIDENCE}
        return Written((*files, _write_considered(analysis, staged)), left_out=left_out)


def _write_considered(analysis: Analysis, staged: Path) -> Path:
    """Write the regions that scored below the threshold."""
    rows = tuple(ConsideredRow.of(region) for region in analysis.findings.considered)
    content = ConsideredFile(considered=rows).model_dump(mode="json", by_alias=True)
    path = staged / CONSIDERED
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def outlines_by_name(analysis: Analysis) -> dict[str, Volume]:
    """Return the outlines by the names of their files: labels and candidates."""
    volumes, ids = analysis.volumes, analysis.findings.components.astype(np.uint16)
    return {
        "segmentation": volumes.all_labels,
        "candidates": Volume(ids, volumes.labels.grid),
    }


def _named_volumes(analysis: Analysis) -> Iterator[tuple[str, Volume, int | None]]:
    """Yield each volume with its file name and quantisation steps, None for no quantisation."""
    volumes = analysis.volumes
    for name, volume in outlines_by_name(analysis).items():
        yield name, volume, None
    for region, volume in volumes.probability.items():
        yield f"probability_{region.value}", volume, STEPS
    for region, volume in volumes.attention.items():
        yield f"attention_{region.value}", volume, STEPS
    if volumes.uncertainty is not None:
        yield "uncertainty", volumes.uncertainty, UNCERTAINTY_STEPS
    if analysis.options.evidence and volumes.evidence is not None:
        evidence = volumes.evidence
        for sequence, contribution in evidence.shares.items():
            yield f"evidence_{sequence.value}", Volume(contribution, evidence.grid), None
        yield "evidence_none", Volume(evidence.base, evidence.grid), None


def codes_of(analysis: Analysis) -> tuple[int, int]:
    """Return sform and qform code of the reference's file."""
    series = analysis.study.series.get(analysis.prepared.reference)
    return SCANNER if series is None else series.nifti_codes


def header_of(volume: Volume, codes: tuple[int, int]) -> nib.Nifti1Header:
    """Return the header of a volume: exact affine in each form with a non-zero code.

    Parameters
    ----------
    volume : Volume
        uint8 labels or float32 values, (I, J, K).
    codes : tuple of int
        sform and qform codes, which define the coordinate system.

    Returns
    -------
    Nifti1Header
        Units mm; qform code 0 if the axes are not orthogonal, which it cannot represent.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(volume.data.dtype)
    header.set_data_shape(volume.data.shape)
    is_orthogonal = geometry.shear_of(volume.affine) < SHEAR_LIMIT
    sform, qform = codes if is_orthogonal else (codes[0], 0)
    header.set_sform(volume.affine, sform or (0 if qform else max(codes)))
    header.set_qform(volume.affine, qform, strip_shears=True)
    header.set_xyzt_units("mm")
    header["descrip"] = b"LesionLens, research use only"
    if volume.data.dtype.kind == "f":
        header["cal_max"] = 1.0
    header.set_slope_inter(1.0, 0.0)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return header


def rounded(values: NDArray[np.float32], steps: int = STEPS) -> NDArray[np.float32]:
    """Return values as a file holds them: multiples of one step."""
    return np.asarray(np.rint(values * np.float32(steps)) / np.float32(steps), np.float32)


def as_stored(values: Floats, grid: Grid, steps: int = STEPS) -> Volume:
    """Round a map in place, as in its file: a reopened result then measures edits alike."""
    for plane in values:
        if plane.any():  # memory of zeros is not yet allocated
            plane[...] = rounded(plane, steps)
    return Volume(values, grid)


def write_volume(
    path: Path, volume: Volume, *, codes: tuple[int, int] = SCANNER, steps: int | None = None
) -> Path:
    """Write one volume.

    Parameters
    ----------
    path : Path
        Path with extension `.nii.gz`.
    volume : Volume
        uint8 labels, or float32 values that must all be finite, (I, J, K).
    steps : int or None
        Values are rounded to this many steps per unit; None for no rounding.

    Raises
    ------
    ExportError
        A value is not finite.
    """
    if volume.data.dtype.kind == "f" and not np.isfinite(volume.data).all():
        raise ExportError(
            found=f"values that are not numbers in {path.name}",
            expected="finite values",
            next_step="Report this as a defect of the engine that made them",
        )
    header = header_of(volume, codes)
    with (
        path.open("wb") as file,
        GzipNGFile("", "wb", GZIP_LEVEL, file, mtime=0) as compressed,  # no name, no time
    ):
        compressed.write(header.binaryblock)
        compressed.write(b"\0" * 4)
        for k in range(volume.data.shape[2]):
            plane = volume.data[:, :, k]
            if steps is not None:
                plane = rounded(plane, steps)
            compressed.write(plane.tobytes(order="F"))
    return path
