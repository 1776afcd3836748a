"""What the user said of a study's sequences, kept in the user's own data folder.

Keyed by Study Instance UID, else by the files' names, sizes and first bytes; nothing is written
into or beside the study. The user's word is read back when the same study is opened again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from lesionlens.base.labels import MrSequence
from lesionlens.records.study import Series, Study

logger = logging.getLogger(__name__)

_HEAD_BYTES = 65536


def memory_folder() -> Path:
    """Return the user's own folder of assignments."""
    return Path(platformdirs.user_data_dir("lesionlens", appauthor=False)) / "sequences"


def study_key(study: Study) -> str:
    """Return what a study is found by again, wherever it lies."""
    digest = hashlib.sha256()
    if study.uid is not None:
        digest.update(study.uid.encode())
        return digest.hexdigest()[:32]
    listed = [*study.series.values(), *study.set_aside]
    for file in sorted((f for series in listed for f in series.files), key=lambda f: f.name):
        with file.path.open("rb") as stream:
            digest.update(f"{file.name} {file.path.stat().st_size}".encode())
            digest.update(stream.read(_HEAD_BYTES))
    return digest.hexdigest()[:32]


def address_of(series: Series) -> str:
    """Return what names a series within its study: its UID, or its first file's name."""
    return series.uid if series.uid is not None else series.files[0].name


def remember(study: Study, folder: Path | None = None) -> None:
    """Keep which series is which sequence, as it is now."""
    place = (folder or memory_folder()) / f"{study_key(study)}.json"
    said = {sequence.value: address_of(series) for sequence, series in study.series.items()}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(said, indent=1), encoding="utf-8")
    except OSError as error:
        logger.warning("the choice of sequences is not kept: %s", error.strerror)


def recall(study: Study, folder: Path | None = None) -> dict[MrSequence, str]:
    """Return what the user said of this study before; empty where nothing was, or nothing fits."""
    place = (folder or memory_folder()) / f"{study_key(study)}.json"
    try:
        said = json.loads(place.read_text(encoding="utf-8"))
        named = {MrSequence(key): str(value) for key, value in said.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError):
        logger.warning("a kept choice of sequences cannot be read and is not used")
        return {}
    there = {address_of(series) for series in (*study.series.values(), *study.set_aside)}
    return named if set(named.values()) <= there else {}


def differs(study: Study, named: Mapping[MrSequence, str]) -> bool:
    """Whether what was said is another assignment than the study's."""
    return {s: address_of(series) for s, series in study.series.items()} != dict(named)
