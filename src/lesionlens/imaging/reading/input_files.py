"""The files of a study as input of an analysis: their digests, and whether they stay unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lesionlens.base.errors import ReadError, unreadable
from lesionlens.base.files import FileState, file_state
from lesionlens.base.labels import MrSequence
from lesionlens.base.provenance import joint_sha256, sha256_of
from lesionlens.base.records.study import Series, Study
from lesionlens.base.text import abbreviated_list


@dataclass(frozen=True, slots=True)
class InputFiles:
    """Digests of the input files of an analysis."""

    files: tuple[tuple[str, str], ...]
    """(name, SHA-256) of every file, sorted by name."""
    series: Mapping[MrSequence, str]
    """Joint digest of each sequence's files (`digest_of_series`)."""


def inputs_of(study: Study) -> InputFiles:
    """Return the digests of the files of the chosen sequences; every file is read once.

    Raises
    ------
    ReadError
        The system refuses to read a file, as when it is gone.
    """
    digest = cache(_sha256_of_input)
    series = {sequence: digest_of_series(item, digest) for sequence, item in study.series.items()}
    files = [(name, digest(path)) for name, path in _files_of(study)]
    files += [(s.description, series[key]) for key, s in study.series.items() if not s.files]
    return InputFiles(tuple(files), series)


def input_digests(study: Study) -> Iterator[tuple[str, str]]:
    """Yield `InputFiles.files`; each file is read when its turn comes. Raises as `inputs_of`."""
    for name, path in _files_of(study):
        yield name, _sha256_of_input(path)


def digest_of_series(series: Series, digest: Callable[[Path], str] = sha256_of) -> str:
    """Return the joint digest of a series' files, independent of their names, or of its array."""
    if not series.files:
        content = series.load().tobytes() + series.grid.affine.tobytes()
        return hashlib.sha256(content).hexdigest()
    return joint_sha256(digest(path) for path in {file.path for file in series.files})


def identity_of(study: Study, inputs: InputFiles) -> str:
    """Return an identifier of a study by its content, independent of folder names."""
    return f"{study.uid}|{','.join(sorted(sha256 for _, sha256 in inputs.files))}"


def study_key(study: Study) -> str:
    """Return a key of a study: its UID, or of its files' names and content; raises `OSError`."""
    text = study.uid or json.dumps(
        sorted((f.name, sha256_of(f.path)) for s in study.all_series for f in s.files)
    )
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


@contextmanager
def unchanged(study: Study) -> Iterator[None]:
    """Refuse a study if another program changes one of its files within the block.

    If a folder were refilled while its images are analysed, the result could contain another
    patient's images or name. A file may be deleted by the end, as it was read before.
    """
    before = _states_of(study)
    yield
    after = _states_of(study)
    changed = sorted(repr(n) for n in before.keys() & after.keys() if before[n] != after[n])
    if changed:
        raise ReadError(
            f"Another program changed {abbreviated_list(changed, 3)} during the analysis.",
            hint="Wait until the study is complete, then analyse it again",
        )


def _states_of(study: Study) -> dict[str, FileState]:
    """Return the state of every file that can be looked up, by its name."""
    states = {}
    for name, path in _files_of(study):
        with suppress(OSError):
            states[name] = file_state(path)
    return states


def _files_of(study: Study) -> list[tuple[str, Path]]:
    """Return name and path of every file once; files outside the study may share a name."""
    return sorted({(f.name, f.path) for series in study.series.values() for f in series.files})


def _sha256_of_input(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise unreadable(error, path.name) from error
