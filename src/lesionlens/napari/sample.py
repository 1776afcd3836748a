"""The two samples of File → Open Sample: one synthetic patient as NIfTI and as DICOM."""

from __future__ import annotations

from lesionlens.napari.loading import SAMPLES, LayerData


def nifti() -> list[LayerData]:
    """Return the sample patient's layers, read from NIfTI."""
    return _read("study")


def dicom() -> list[LayerData]:
    """Return the sample patient's layers, read from DICOM."""
    return _read("study_dicom")


def _read(name: str) -> list[LayerData]:
    from lesionlens.napari.reader import read  # noqa: PLC0415

    return read(str(SAMPLES / name))
