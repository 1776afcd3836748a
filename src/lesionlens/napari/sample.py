"""The two samples of File → Open Sample: a real patient as NIfTI, a synthetic one as DICOM."""

from __future__ import annotations

from lesionlens.imaging import samples
from lesionlens.napari.loading import LayerData
from lesionlens.napari.reader import read


def nifti() -> list[LayerData]:
    """Return the real patient's layers, read from NIfTI."""
    return read(str(samples.STUDY))


def dicom() -> list[LayerData]:
    """Return the synthetic patient's layers, read from DICOM."""
    return read(str(samples.DICOM_STUDY))
