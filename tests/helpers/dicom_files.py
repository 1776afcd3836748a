"""Changes of DICOM files that were written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom


@contextmanager
def edited_dicom(file: Path) -> Iterator[pydicom.FileDataset]:
    """Read a DICOM file for the block, and write it back with the changes that the block made."""
    dataset = pydicom.dcmread(file)
    yield dataset
    dataset.save_as(file)
