"""The suffix of NIfTI files, `.nii` or `.nii.gz` in any case."""

from __future__ import annotations

import re

NIFTI_SUFFIXES = (".nii.gz", ".nii")
_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def is_nifti_name(name: str) -> bool:
    """Return whether a file name ends as that of a NIfTI file."""
    return name.lower().endswith(NIFTI_SUFFIXES)


def without_nifti_suffix(name: str) -> str:
    """Return a file name without NIfTI's suffix; unchanged if it has none.

    Examples
    --------
    >>> without_nifti_suffix("sub-01_T1w.NII.gz")
    'sub-01_T1w'
    """
    return _SUFFIX.sub("", name)
