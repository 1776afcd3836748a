"""The two samples of File → Open Sample: a real patient as NIfTI, a synthetic one as DICOM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlens.imaging import samples

if TYPE_CHECKING:
    from pathlib import Path

    from lesionlens.napari.loading import LayerData


def nifti() -> list[LayerData]:
    """Return the real patient's layers, read from NIfTI."""
    return _read(samples.STUDY)


def dicom() -> list[LayerData]:
    """Return the synthetic patient's layers, read from DICOM."""
    return _read(samples.DICOM_STUDY)


def _read(path: Path) -> list[LayerData]:
    from lesionlens.napari.reader import read  # noqa: PLC0415

    return read(str(path))
