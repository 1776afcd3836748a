"""Third-party exporters: each writes into its own folder; a failure affects no other file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lesionlens.base import plugins
from lesionlens.base.errors import LesionLensError, PluginError
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.storage import is_inside
from lesionlens.base.text import encodable, is_writable
from lesionlens.results.documents import SENT
from lesionlens.results.export.result_files import KEPT, NAMES
from lesionlens.results.export.written import Written, reason_of

_RESERVED = (
    *NAMES,
    "segmentation.seg.nrrd",
    "followup.csv",
    "dicom/seg.dcm",
    "dicom/sr.dcm",
    "dicom/attention.dcm",
    *(f"dicom/attention_{region.value}.dcm" for region in Region),
    "dicom/key_objects.dcm",
    "review_edits",
    KEPT,
    SENT,
)
"""Names that third-party exporters must not write."""


_plugin_errors = partial(plugins.plugin_errors, may_refuse=False)
"""Also wraps LesionLensErrors: their texts may name a patient, and would go to run.json."""


def write_third_party(exporter: Any, name: str, analysis: Analysis, staging: Path) -> Written | str:
    """Run a third-party exporter, and move all that it writes to the staged folder.

    Returns
    -------
    Written or str
        Its files, or under `left_out` why it failed; or its reason for not running.
    """
    label = f"exporter {name!r}"
    who = plugins.name_of(exporter, label)
    try:
        with _plugin_errors(exporter, label, "when it was asked whether it can write"):
            reason = exporter.missing(analysis)
        if reason is not None:
            return encodable(str(reason))
        with TemporaryDirectory(dir=staging, prefix=".") as sandbox:
            output = Path(sandbox) / "files"
            output.mkdir()
            with _plugin_errors(exporter, label, "when it wrote"):
                returned = exporter.write(analysis, output)
            written = returned if isinstance(returned, Written) else Written(())
            with _plugin_errors(exporter, label, "when its answer was read"):
                written = _as_text(written, who)
            with plugins.plugin_errors(
                exporter, label, "when its files were moved into the result"
            ):
                return replace(written, files=_move_files(who, output, staging))
    except LesionLensError as error:
        return Written((), left_out={name: reason_of(error)})


def _as_text(written: Any, who: str) -> Written:
    """Return notices and failures as text that run.json can hold; refuse anything else."""
    notices, left_out = tuple(written.notices), dict(written.left_out)
    texts = (*notices, *left_out, *left_out.values())
    if isinstance(written.notices, str) or not all(isinstance(text, str) for text in texts):
        raise PluginError(who=who, why="gave notices or failures that are no text")
    failures = {encodable(name): encodable(why) for name, why in left_out.items()}
    return Written((), tuple(map(encodable, notices)), failures)


def _move_files(who: str, output: Path, staging: Path) -> tuple[Path, ...]:
    """Move an exporter's files to the staged folder, completely or not at all.

    Names must differ by more than case: on Windows and macOS files would replace each other.
    """
    written = sorted(path for path in output.rglob("*") if path.is_symlink() or not path.is_dir())
    relative_paths = [path.relative_to(output) for path in written]
    reserved = {name.casefold() for name in _RESERVED}
    for path, relative_path in zip(written, relative_paths, strict=True):
        if path.is_symlink() or not path.is_file():
            raise PluginError(
                who=who,
                why=f"wrote {relative_path.as_posix()!r}, which is a link or no file",
            )
        name = relative_path.as_posix()
        if not is_inside(name) or not is_writable(name):
            raise PluginError(
                who=who,
                why=f"wrote {name!r}, a name that run.json cannot hold",
            )
        ancestors = {
            parent.as_posix().casefold() for parent in (relative_path, *relative_path.parents)
        }
        if ancestors & reserved or (staging / relative_path).exists():
            raise PluginError(
                who=who,
                why=f"wrote {relative_path.as_posix()}, a name that is taken",
            )
    for relative_path in relative_paths:
        (staging / relative_path).parent.mkdir(parents=True, exist_ok=True)
        (output / relative_path).rename(staging / relative_path)
    return tuple(staging / relative_path for relative_path in relative_paths)
