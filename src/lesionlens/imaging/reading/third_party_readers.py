"""Third-party readers: choose one and validate what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lesionlens.base import plugins
from lesionlens.base.errors import PluginError
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import MrSequence
from lesionlens.base.record_validation import validated_record
from lesionlens.base.records.study import Series, Study

_NIFTI_CODES = frozenset(range(6))


def select_reader(paths: Sequence[Path]) -> tuple[Any, tuple[str, ...]]:
    """Return the reader with the highest certainty for all these paths.

    Returns
    -------
    reader, notices : StudyReader or None, tuple of str
        None if no reader applies; notices about third-party readers that failed.
    """
    readers, failed = plugins.create_all(plugins.READERS)
    surest, chosen = 0.0, None
    for name, reader in readers.items():
        try:
            certainty = _certainty(reader, f"reader {name!r}", paths)
        except PluginError as error:
            failed[name] = error
            continue
        if certainty > surest:
            surest, chosen = certainty, reader
    return chosen, tuple(f"Reader not used: {error.brief}" for error in failed.values())


def _certainty(reader: Any, label: str, paths: Sequence[Path]) -> float:
    """Return a reader's lowest certainty for these paths."""
    stage = "when it was asked what it can read"
    with plugins.plugin_errors(reader, label, stage, may_refuse=False):
        certainty = min(float(reader.claims(path)) for path in paths)
    if not 0 <= certainty <= 1:  # written so that NaN is refused too
        raise PluginError(
            who=plugins.name_of(reader, label),
            why=f"gave {certainty:g} as its certainty",
            expected="a number from 0 to 1, 0 for what it cannot read",
        )
    return certainty


def read_with(
    reader: Any,
    read: Callable[[], Study],
    named: Mapping[MrSequence, str],
    requested_study: str | None,
) -> Study:
    """Call a reader; a third-party reader's result is validated, and a notice names its package.

    Parameters
    ----------
    named, requested_study : mapping of MrSequence to str, str or None
        The series and the study that the user named, which it must return.

    Raises
    ------
    PluginError
        The reader, or later a loader of its series, fails or returns something invalid.
    """
    if plugins.is_builtin(reader):
        return read()
    name = getattr(reader, "name", type(reader).__name__)
    label = f"reader {name!r}"
    with plugins.plugin_errors(reader, label, "when it read the study"):
        result: Any = read()
    if not isinstance(result, Study):
        raise PluginError(
            who=plugins.name_of(reader, label),
            why=f"gave {type(result).__name__} for a study",
            expected="a lesionlens.base.records.study.Study",
        )
    checked = validated_record(result, Study, plugins.name_of(reader, label))
    for problem, expected in (
        *_invalid_parts(checked),
        *_unmet_requests(checked, named, requested_study),
    ):
        raise PluginError(
            who=plugins.name_of(reader, label), why=f"gave {problem}", expected=expected
        )
    series = {s: _with_validation(reader, label, item) for s, item in checked.series.items()}
    set_aside = tuple(_with_validation(reader, label, item) for item in checked.set_aside)
    notice = f"Read by a plug-in: {name!r} of {plugins.package_of(reader)}"
    return replace(checked, series=series, set_aside=set_aside, notices=(*checked.notices, notice))


def _invalid_parts(study: Study) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a study, and what was expected; voxels are not read."""
    if study.name in ("", ".", "..") or not {"/", "\0"}.isdisjoint(study.name):
        yield f"the study name {study.name!r:.100}", "a name that a folder can have"
    for item in study.all_series:
        if not item.files or not all(file.path.is_file() for file in item.files):
            yield "a series without its files", "each file that is read, as an existing SourceFile"
        if not set(item.nifti_codes) <= _NIFTI_CODES:
            yield f"the NIfTI codes {item.nifti_codes}", "a sform and a qform code of 0 to 5"
        if not 0 <= item.confidence <= 1:
            yield f"{item.confidence:g} as the confidence of a sequence", "0 to 1"
    for key, series in study.series.items():
        if series.sequence != key:
            yield f"{series.sequence} as the {key}", "each series by its own sequence"


def _unmet_requests(
    study: Study, named: Mapping[MrSequence, str], requested_study: str | None
) -> Iterator[tuple[str, str]]:
    """Yield what the user named and the reader did not return, and what was expected."""
    for sequence, value in named.items():
        series = study.series.get(sequence)
        if series is None or not _is_named(series, value, study.root):
            yield (
                f"a different {sequence.display_name} from {value!r}, which the user named",
                "the series of that file, folder or Series UID, or an error that says why not",
            )
    if requested_study is not None and requested_study not in (study.uid, study.name):
        yield (
            f"a different study from {requested_study!r}, which the user named",
            "that study, or a refusal",
        )


def _is_named(series: Series, value: str, root: Path) -> bool:
    if value == series.uid or any(value == file.name for file in series.files):
        return True
    candidates = {Path(value).resolve(), (root / value).resolve()}
    files = (file.path.resolve() for file in series.files)
    return any(not candidates.isdisjoint((file, *file.parents)) for file in files)


def _with_validation(reader: Any, label: str, series: Series) -> Series:
    """Return a series whose voxels are validated."""
    return replace(series, load=partial(_load, reader, label, series))


def _load(reader: Any, label: str, series: Series) -> Floats:
    with plugins.plugin_errors(reader, label, "when it read voxels"):
        voxels: Any = series.load()
    is_array = isinstance(voxels, np.ndarray) and not isinstance(voxels, np.ma.MaskedArray)
    if is_array and voxels.shape == series.grid.shape and voxels.dtype.kind in "iuf":
        loaded: Floats = np.asarray(voxels, np.float32)
        return loaded
    shape, kind = getattr(voxels, "shape", None), getattr(voxels, "dtype", None)
    raise PluginError(
        who=plugins.name_of(reader, label),
        why=f"gave voxels as {type(voxels).__name__} of {shape}, {kind}",
        expected=f"an array of {series.grid.shape}, float32: the shape of the series' grid",
    )
