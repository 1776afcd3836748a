"""Write a synthetic head as a study: NIfTI files, or classic MR series in DICOM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tests.phantoms.acquire import AS_IS, AXIAL_SLICES, Acquisition, acquire
from tests.phantoms.headers import NOBODY, PatientIdentity, instances

from lesionlens.base.labels import REFERENCE_ORDER, MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.testing import SyntheticPatient

ALL = tuple(MrSequence)
How = Acquisition | Mapping[MrSequence, Acquisition]


@dataclass(frozen=True, slots=True)
class DicomLayout:
    """Folders and names of a study's DICOM files."""

    flat: bool = False
    """All series mixed in one folder, named by SOP Instance UID; else one folder per series."""
    suffix: str = ""
    """File extension such as ".dcm", or none, as many scanners do."""
    shuffled: bool = False
    """File names and Instance Numbers do not follow the slices' positions."""


def write_nifti(
    patient: SyntheticPatient,
    folder: Path,
    *,
    sequences: tuple[MrSequence, ...] = ALL,
    how: How = AS_IS,
    reference: bool = False,
) -> dict[MrSequence, Path]:
    """Write `t1.nii.gz`, `t1c.nii.gz`, … as int16.

    Parameters
    ----------
    patient : SyntheticPatient
        The synthetic head.
    folder : Path
        Created if missing.
    sequences : tuple of MrSequence
        The sequences to write.
    how : Acquisition, or mapping of MrSequence to Acquisition
        Of all sequences, or of each (those not listed keep the grid of the head).
    reference : bool
        Write the labels as `seg.nii.gz` on the reference's grid as well.

    Returns
    -------
    dict of MrSequence to Path
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for sequence in sequences:
        written[sequence] = folder / f"{sequence.value}.nii.gz"
        save_nifti(patient.sequences[sequence], written[sequence], _of(how, sequence))
    if reference:
        first = next(s for s in REFERENCE_ORDER if s in sequences)
        save_nifti(patient.labels, folder / "seg.nii.gz", _of(how, first))
    return written


def write_dicom(
    patient: SyntheticPatient,
    folder: Path,
    *,
    sequences: tuple[MrSequence, ...] = ALL,
    how: How = AXIAL_SLICES,
    layout: DicomLayout = DicomLayout(),
    identity: PatientIdentity = NOBODY,
) -> dict[MrSequence, tuple[Path, ...]]:
    """Write each sequence as one classic MR Image series, valid in all attributes.

    Parameters
    ----------
    patient, folder, sequences, how
        As in `write_nifti`; i runs along a row's columns, j down the rows, k over slices.
    layout : DicomLayout
        Folders and file names.
    identity : PatientIdentity
        Names and UIDs; equal for studies of equal identity.

    Returns
    -------
    dict of MrSequence to tuple of Path
        Files in the order of k.
    """
    written: dict[MrSequence, tuple[Path, ...]] = {}
    for number, sequence in enumerate(sequences, 1):
        image = acquire(patient.sequences[sequence], _of(how, sequence, AXIAL_SLICES))
        series = instances(image, sequence, number, identity, shuffled=layout.shuffled)
        place = folder if layout.flat else folder / f"S{number:02d}"
        place.mkdir(parents=True, exist_ok=True)
        paths = []
        for instance in series:
            stem = instance.SOPInstanceUID if layout.flat else f"IM{instance.InstanceNumber:04d}"
            path = place / f"{stem}{layout.suffix}"
            instance.save_as(path, enforce_file_format=True)
            paths.append(path)
        written[sequence] = tuple(paths)
    return written


def _of(how: How, sequence: MrSequence, default: Acquisition = AS_IS) -> Acquisition:
    return how if isinstance(how, Acquisition) else how.get(sequence, default)


def save_nifti(volume: Volume, path: Path, how: Acquisition = AS_IS) -> None:
    """Write a volume as acquired: intensities as int16, RAS+ mm in sform and qform.

    Parameters
    ----------
    volume : Volume
        Intensities (float) or labels (integers, unchanged).
    path : Path
        Ends in `.nii` or `.nii.gz`; its folder is created if missing.
    how : Acquisition
        Orientation, spacing, tilt.
    """
    image = acquire(volume, how)
    data: NDArray[np.generic] = image.data
    if data.dtype.kind == "f":
        data = np.clip(np.rint(data), -32768, 32767).astype(np.int16)
    nifti = nib.Nifti1Image(data, image.affine)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.set_sform(image.affine, code=1)
    nifti.set_qform(image.affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nifti, path)
