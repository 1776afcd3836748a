"""The files of a study, and whether a result was made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

from lesionlens.base.errors import ReadError
from lesionlens.base.files import is_dir, is_file, without_volume_suffix
from lesionlens.base.provenance import joint_sha256, sha256_of
from lesionlens.base.records.analysis import RunInfo
from lesionlens.results.review.reopen import is_result, read_run


def study_files(study: Path) -> tuple[Path, ...]:
    """Return the files of a study, sorted: all below its folder, or one file and its sidecar."""
    if is_file(study):
        sidecar = study.with_name(f"{without_volume_suffix(study.name)}.json")
        return tuple(path for path in (study, sidecar) if is_file(path))
    paths = sorted(study.rglob("*")) if is_dir(study) else ()
    return tuple(filter(is_file, paths))


def fingerprint(study: Path) -> str:
    """Return a digest of the names, sizes and times of a study's files.

    Contents are not read, which would take as long as opening the study. A file that vanishes
    meanwhile, such as the temporary one of a transfer, does not count.
    """
    root = study.parent if is_file(study) else study
    digest = hashlib.sha256()
    for path in study_files(study):
        with suppress(OSError):
            stat = path.stat()
            line = f"{path.relative_to(root).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def analysed_files(result: Path) -> frozenset[str]:
    """Return the SHA-256 of the files that a result was made of; empty if it cannot be read."""
    run = run_of(result) if is_result(result) else None
    return frozenset() if run is None else run.digests


def analysis_key(result: Path) -> str | None:
    """Return start and engine of the analysis that made a result; None if it cannot be read.

    A review of the result keeps them.
    """
    run = run_of(result)
    if run is None:
        return None
    engine = run.engine
    parts = (run.started, engine.name, engine.version, engine.weights_sha256)
    return " ".join(part for part in parts if part)


def run_of(result: Path) -> RunInfo | None:
    """Return how a result was made; None if it cannot be read."""
    try:
        return read_run(result)
    except (ReadError, OSError):
        return None


def inputs_digest(result: Path) -> str | None:
    """Return a digest of the files that a result was made of; None without a readable result."""
    hashes = analysed_files(result)
    return joint_sha256(hashes) if hashes else None


def holds_inputs_of(study: Path, result: Path) -> bool:
    """Return whether a study has all files that a result was made of, by their content.

    Names, sizes and times of two patients' files may be equal (uncompressed, unpacked from an
    archive).
    """
    analysed = analysed_files(result)
    return bool(analysed) and holds_files(study, analysed)


def holds_files(study: Path, digests: Set[str]) -> bool:
    """Return whether a study has all files with these SHA-256."""
    return digests <= {sha256_of(path) for path in study_files(study)}


def is_of_other_files(study: Path, result: Path) -> bool:
    """Return whether there is a result, and it was made of none of a study's files."""
    analysed = analysed_files(result)
    return bool(analysed) and all(sha256_of(path) not in analysed for path in study_files(study))
