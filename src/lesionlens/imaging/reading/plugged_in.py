"""Third-party readers: choose one and validate what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import plugins
from lesionlens.base.errors import PluginError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, SourceFile, Study, StudyKind
from lesionlens.base.text import writable


def choose_reader(paths: Sequence[Path]) -> tuple[Any, tuple[str, ...]]:
    """Return the reader with the highest certainty for all these paths.

    Parameters
    ----------
    paths : sequence of Path
        Existing files and folders.

    Returns
    -------
    reader, notices : StudyReader or None, tuple of str
        None if no reader applies; notices about third-party readers that failed.
    """
    made, failed = plugins.create_all(plugins.READERS)
    surest, chosen = 0.0, None
    for name, reader in made.items():
        try:
            with plugins.plugin_errors(
                reader, f"reader {name!r}", "when it was asked what it can read"
            ):
                certainty = min(float(reader.claims(one)) for one in paths)
        except PluginError as error:
            failed[name] = error
            continue
        if certainty > surest:
            surest, chosen = certainty, reader
    return chosen, tuple(f"Not asked to read: {error.brief}" for error in failed.values())


def read_with(
    reader: Any, read: Callable[[], Study], named: Mapping[MrSequence, str], study: str | None
) -> Study:
    """Call a reader; a third-party reader's result is validated.

    Parameters
    ----------
    read : callable
        Calls its `read`.
    named, study : mapping of MrSequence to str, str or None
        The series and the study that the user named, which it must return.

    Raises
    ------
    PluginError
        The reader, or later a loader of its series, fails or returns something invalid.
    """
    if plugins.is_builtin(reader):
        return read()
    what = f"reader {getattr(reader, 'name', type(reader).__name__)!r}"
    with plugins.plugin_errors(reader, what, "when it read the study"):
        found: Any = read()
    if not isinstance(found, Study):
        raise PluginError(
            who=plugins.name_of(reader, what),
            why=f"gave {type(found).__name__} for a study",
            expected="a lesionlens.base.records.study.Study",
        )
    for why, expected in (*_wrong_parts(found), *_ignored(found, named, study)):
        raise PluginError(who=plugins.name_of(reader, what), why=f"gave {why}", expected=expected)
    series = {MrSequence(s): _guarded(reader, what, item) for s, item in found.series.items()}
    notices = tuple(map(writable, found.notices))
    return replace(found, series=series, name=writable(found.name), notices=notices)


def _wrong_parts(study: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a study, and what was expected; voxels are not read."""
    series = study.series
    if not isinstance(series, Mapping) or not set(series) <= set(MrSequence):
        yield "series by other keys than sequences", "a mapping of MrSequence to Series"
        return
    wrong = next(filter(None, map(_wrong_series, (*series.values(), *study.set_aside))), None)
    if wrong is not None:
        yield wrong
        return
    for key, one in series.items():
        if one.sequence != key:
            yield f"{one.sequence} as the {key}", "each series by its own sequence"
    if not isinstance(study.root, Path):
        yield "a study without a root", "the opened folder or file"
    if not isinstance(study.kind, StudyKind):
        yield f"the kind {study.kind!r:.100}", "a lesionlens.base.records.study.StudyKind"
    if not plugins.are_texts((study.name, *study.notices)):
        yield "a name or notices that are no text", "text"


def _wrong_series(one: Any) -> tuple[str, str] | None:
    """Return what is wrong with a series, and what was expected; None if it is valid."""
    if not isinstance(one, Series) or not isinstance(one.grid, Grid):
        return "a series without a grid", "a lesionlens.base.records.study.Series"
    if not _has_files(one.files):
        return "a series without its files", "each file that is read, as an existing SourceFile"
    if not plugins.are_texts(
        (one.detected_by, one.description, *(file.name for file in one.files))
    ):
        return "evidence, a description or a file's name that is no text", "text"
    return None


def _ignored(
    found: Study, named: Mapping[MrSequence, str], study: str | None
) -> Iterator[tuple[str, str]]:
    """Yield what the user named and the reader did not return, and what was expected."""
    for sequence, value in named.items():
        series = found.series.get(sequence)
        if series is None or not _is_named(series, value, found.root):
            yield (
                f"another {sequence.display_name} than {value!r}, which the user named",
                "the series of that file, folder or Series UID, or a refusal in words",
            )
    if study is not None and study not in (found.uid, found.name):
        yield f"another study than {study!r}, which the user named", "that study, or a refusal"


def _is_named(series: Series, value: str, root: Path) -> bool:
    if value == series.uid or any(value == file.name for file in series.files):
        return True
    places = {Path(value).resolve(), (root / value).resolve()}
    files = (file.path.resolve() for file in series.files)
    return any(not places.isdisjoint((file, *file.parents)) for file in files)


def _has_files(files: Any) -> bool:
    there = (isinstance(file, SourceFile) and file.path.is_file() for file in files)
    return bool(files) and all(there)


def _guarded(reader: Any, what: str, series: Series) -> Series:
    """Return a series whose voxels are validated, with texts that files can hold."""
    return replace(
        series,
        load=partial(_load, reader, what, series),
        detected_by=writable(series.detected_by),
        description=writable(series.description),
        files=tuple(replace(file, name=writable(file.name)) for file in series.files),
    )


def _load(reader: Any, what: str, series: Series) -> NDArray[np.float32]:
    """Load the voxels of a series and validate them."""
    with plugins.plugin_errors(reader, what, "when it read voxels"):
        voxels: Any = series.load()
    shape, kind = getattr(voxels, "shape", None), getattr(voxels, "dtype", np.dtype(object))
    if shape == series.grid.shape and kind.kind in "iuf":  # integer and floating-point types
        loaded: NDArray[np.float32] = np.asarray(voxels, np.float32)
        return loaded
    raise PluginError(
        who=plugins.name_of(reader, what),
        why=f"gave voxels as an array of {shape}, {kind}",
        expected=f"an array of {series.grid.shape}, float32: the shape of the series' grid",
    )
