"""The sample patients of the package: a real one as NIfTI, a synthetic one as DICOM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from lesionlens.base.provenance import sha256_of

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED, _CLONE = _PACKAGE / "sample_data", _PACKAGE.parents[1] / "sample_data"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _CLONE
"""In the package where it was installed from a wheel, else at the top of the repository."""
STUDY, DICOM_STUDY = FOLDER / "study", FOLDER / "study_dicom"
REFERENCE = FOLDER / "study_reference" / "segmentation.nii.gz"
"""Expert segmentation of the real patient, `STUDY`."""


@cache
def digests() -> frozenset[str]:
    """Return the SHA-256 of the real patient's files, which must not be used for training."""
    return frozenset(map(sha256_of, _real()))


def digests_of(files: Iterable[Path]) -> Iterator[str]:
    """Yield the SHA-256 of files that may be the real patient's, judged by size."""
    sizes = {file.stat().st_size for file in _real()}
    yield from (sha256_of(file) for file in files if file.stat().st_size in sizes)


def _real() -> tuple[Path, ...]:
    return (REFERENCE, *STUDY.glob("*.nii.gz"))
