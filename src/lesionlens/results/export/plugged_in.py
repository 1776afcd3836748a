"""Third-party exporters: each writes into its own folder; a failure affects no other file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lesionlens.base import plugins
from lesionlens.base.declared import as_declared
from lesionlens.base.errors import LesionLensError, PluginError
from lesionlens.base.files.manifest import is_inside
from lesionlens.base.labels import Extra, Identity, Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.parts import MAPS
from lesionlens.base.text import is_writable, writable
from lesionlens.imaging.reading.dicom.documents import SENT
from lesionlens.results.export.result_files import ALWAYS, KEPT
from lesionlens.results.export.written import Written, reason_of

_NAMES = (
    "a result without names was requested, and this third-party exporter does not declare that "
    "its files name nobody (`nameless = True`)"
)


_RESERVED = (
    *ALWAYS,
    "segmentation.tsv",
    "segmentation_itksnap.txt",
    "segmentation.seg.nrrd",
    "surfaces",
    "candidates.nii.gz",
    *MAPS,
    "followup.csv",
    "report.pdf",
    "dicom/seg.dcm",
    "dicom/sr.dcm",
    "dicom/attention.dcm",
    *(f"dicom/attention_{region.value}.dcm" for region in Region),
    "dicom/key_objects.dcm",
    *(f"dicom/{extra.replace('-', '_')}.dcm" for extra in Extra),
    "key_slices",
    "review_edits",
    KEPT,
    SENT,
)
"""Names that third-party exporters must not write."""


_failures = partial(plugins.plugin_errors, may_refuse=False)
"""Its own LesionLensErrors too: their texts may name a patient, and would go to run.json."""


def write_by(exporter: Any, name: str, analysis: Analysis, aside: Path) -> Written | str:
    """Run a third-party exporter, and move its files into the staged folder.

    Returns
    -------
    Written or str
        Its files, or under `left_out` why it failed; or its reason for not running.
    """
    what = f"exporter {name!r}"
    if analysis.options.hidden >= set(Identity) and not getattr(exporter, "nameless", False):
        return _NAMES
    try:
        with _failures(exporter, what, "when it was asked whether it can write"):
            reason: Any = exporter.missing(analysis)
        if reason is not None:
            return _reason(exporter, what, reason)
        with TemporaryDirectory(dir=aside, prefix=".") as private:
            own = Path(private) / "files"
            own.mkdir()
            with _failures(exporter, what, "when it wrote"):
                done = exporter.write(analysis, own)
            if not own.is_dir() or list(Path(private).iterdir()) != [own]:
                raise PluginError(
                    who=plugins.name_of(exporter, what),
                    why="deleted the folder that it was given, or wrote beside it",
                    expected="files in that folder",
                )
            written = _checked(exporter, what, done)
            with plugins.plugin_errors(exporter, what, "when its files were taken over"):
                return replace(written, files=_taken(exporter, what, own, aside))
    except LesionLensError as error:
        return Written((), left_out={name: reason_of(error)})


def _reason(exporter: Any, what: str, reason: Any) -> str:
    """Return why it cannot write; False and an empty text may mean the opposite."""
    if isinstance(reason, str) and reason.strip():
        return writable(reason)
    raise PluginError(
        who=plugins.name_of(exporter, what),
        why=f"gave {reason!r:.100} for why it cannot write",
        expected="a reason in words, or None where it can",
    )


def _checked(exporter: Any, what: str, done: Any) -> Written:
    if isinstance(done, Written):
        return as_declared(replace(done, files=()), Written, plugins.name_of(exporter, what))
    if isinstance(done, tuple | list):
        return Written(())
    raise PluginError(
        who=plugins.name_of(exporter, what),
        why=f"gave {type(done).__name__} for the files that it wrote",
        expected="a tuple of paths, or lesionlens.results.export.written.Written with a tuple of "
        "texts for notices, and texts by name for what was left out",
    )


def _taken(exporter: Any, what: str, own: Path, aside: Path) -> tuple[Path, ...]:
    """Move an exporter's files to the staged folder, completely or not at all.

    Names differ by more than case: on Windows and macOS files would otherwise replace each other.
    """
    written = sorted(path for path in own.rglob("*") if path.is_symlink() or not path.is_dir())
    found = [path.relative_to(own) for path in written]
    reserved = {name.casefold() for name in _RESERVED}
    for path, file in zip(written, found, strict=True):
        if path.is_symlink() or not path.is_file() or path.stat().st_nlink > 1:
            raise PluginError(
                who=plugins.name_of(exporter, what),
                why=f"wrote {file.as_posix()!r}, which is a link or no file",
                expected="files with content of their own",
            )
        name = file.as_posix()
        if not is_inside(name) or not is_writable(name):
            raise PluginError(
                who=plugins.name_of(exporter, what),
                why=f"wrote {name!r}, a name that run.json cannot hold",
                expected="names of Unicode text without colons and backslashes",
            )
        above = {parent.as_posix().casefold() for parent in (file, *file.parents)}
        if above & reserved or (aside / file).exists():
            raise PluginError(
                who=plugins.name_of(exporter, what),
                why=f"wrote {file.as_posix()}, a name that is taken",
                expected="names that nothing else in a result has",
            )
    for file in found:
        (aside / file).parent.mkdir(parents=True, exist_ok=True)
        (own / file).rename(aside / file)
    return tuple(aside / file for file in found)
