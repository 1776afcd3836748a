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
from zlib_ng.gzip_ng import GzipNGFile

from lesionlens.base import geometry
from lesionlens.base.errors import ExportError
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.files import CONSIDERED, ConsideredFile, ConsideredRow
from lesionlens.results.export.written import UnconditionalExporter, Written

GZIP_LEVEL = 4
"""Measured on the volumes of two heads (zlib-ng): levels 2, 4 and 6 give 7.6, 6.9 and 6.6 MB in
0.70, 0.76 and 0.95 s of processor time."""
STEPS = 2**14
"""Steps per unit of a stored map: half a step is 3e-5, and 0.5 and 1 are stored exactly."""
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

        def write_job(job: tuple[str, Volume]) -> Path:
            name, volume = job
            return write_volume(staged / f"{name}.nii.gz", volume, codes=codes)

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


def _named_volumes(analysis: Analysis) -> Iterator[tuple[str, Volume]]:
    """Yield each volume with the name of its file."""
    volumes = analysis.volumes
    yield from outlines_by_name(analysis).items()
    for region, volume in volumes.probability.items():
        yield f"probability_{region.value}", volume
    for region, volume in volumes.attention.items():
        yield f"attention_{region.value}", volume
    if volumes.uncertainty is not None:
        yield "uncertainty", volumes.uncertainty
    if analysis.options.evidence and volumes.evidence is not None:
        evidence = volumes.evidence
        for sequence, contribution in evidence.shares.items():
            yield f"evidence_{sequence.value}", Volume(contribution, evidence.grid)
        yield "evidence_none", Volume(evidence.base, evidence.grid)


def codes_of(analysis: Analysis) -> tuple[int, int]:
    """Return sform and qform code of the reference's file."""
    series = analysis.study.series.get(analysis.prepared.reference)
    return SCANNER if series is None else series.nifti_codes


def header_of(volume: Volume, codes: tuple[int, int]) -> nib.Nifti1Header:
    """Return the header of a volume: its exact affine, and the nearest rigid one as the qform.

    ITK, and so ITK-SNAP and ANTs, opens a file with a sheared sform by its qform alone.

    Parameters
    ----------
    volume : Volume
        Integer labels, or a map of float32 values, (I, J, K).
    codes : tuple of int
        sform and qform codes, which define the coordinate system.

    Returns
    -------
    Nifti1Header
        Units mm; a map is stored as int16 with the slope 1 / `STEPS`; the qform's code is never 0,
        the sform's only where the qform is exact.
    """
    header = nib.Nifti1Header()
    is_map = volume.data.dtype.kind == "f"
    header.set_data_dtype(np.int16 if is_map else volume.data.dtype)
    header.set_data_shape(volume.data.shape)
    is_exact = codes[1] and geometry.shear_of(volume.affine) < SHEAR_LIMIT
    header.set_sform(volume.affine, codes[0] or (0 if is_exact else max(codes)))
    header.set_qform(volume.affine, codes[1] or codes[0], strip_shears=True)
    header.set_xyzt_units("mm")
    header["descrip"] = b"LesionLens, research use only"
    if is_map:
        header["cal_max"] = 1.0
    header.set_slope_inter(1 / STEPS if is_map else 1.0, 0.0)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return header


def write_volume(path: Path, volume: Volume, *, codes: tuple[int, int] = SCANNER) -> Path:
    """Write one volume.

    Parameters
    ----------
    path : Path
        Path with extension `.nii.gz`.
    volume : Volume
        Integer labels, or a map of float32 values from -1 to 1, (I, J, K).

    Raises
    ------
    ExportError
        A value of a map is not finite or beyond -1 to 1.
    """
    is_map = volume.data.dtype.kind == "f"
    if is_map and not (np.abs(volume.data) <= 1).all():
        raise ExportError(
            found=f"values that are not numbers from -1 to 1 in {path.name}",
            expected="a map of probability, attention, uncertainty or evidence",
            next_step="Report this as a defect of the engine that made it",
        )
    with (
        path.open("wb") as file,
        GzipNGFile("", "wb", GZIP_LEVEL, file, mtime=0) as compressed,  # no name, no time
    ):
        compressed.write(header_of(volume, codes).binaryblock + b"\0" * 4)
        for k in range(volume.data.shape[2]):
            plane = volume.data[:, :, k]
            stored = np.rint(plane * np.float32(STEPS)).astype(np.int16) if is_map else plane
            compressed.write(stored.tobytes(order="F"))
    return path
