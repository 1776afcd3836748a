"""Provenance: file hashes, time stamps and package versions."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_RESULT_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "SimpleITK",
    "nibabel",
    "pydicom",
    "scikit-image",
    "monai",
)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def joint_sha256(digests: Iterable[str]) -> str:
    """Return the digest of a set of files, from theirs and independent of their order."""
    return hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()


def utc_now() -> str:
    """Return the current UTC time, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and the packages that affect results."""
    by_name = {name: version_of(name) for name in ("lesionlens", *_RESULT_PACKAGES)}
    installed = {name: version for name, version in by_name.items() if version is not None}
    return {"python": platform.python_version(), **installed}


@cache
def version_of(distribution: str) -> str | None:
    """Return the installed version of a distribution, None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
