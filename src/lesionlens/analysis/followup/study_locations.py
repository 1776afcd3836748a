"""Locations of analysed studies, stored in the user's data folder.

A result contains no images. To compare it with a later examination, its study is opened again. The
location is stored under a hash of the analysed files, so that a changed study is noticed when it is
opened (`review.pairing.paired`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lesionlens.base.files import exists, read_object, user_data
from lesionlens.base.records.study import Study
from lesionlens.base.storage import locked, store_json

_MAX_LOCATIONS = 2000  # the oldest are removed


def location_file() -> Path:
    """Return the path of the location file."""
    return user_data() / "studies.json"


def key_of(inputs: Sequence[tuple[str, str]]) -> str:
    """Return the key of a set of analysed files: (name, SHA-256) of each."""
    digests = json.dumps(sorted(sha256 for _, sha256 in inputs))
    return hashlib.blake2b(digests.encode(), digest_size=20).hexdigest()


def remember(inputs: Sequence[tuple[str, str]], study: Study) -> None:
    """Store the location of a study; a failure to write is logged only.

    Under a lock: workers of a batch, or tasks of a cluster, that end together keep each other's.
    """
    with suppress(OSError), locked(location_file()):
        locations = _load_locations()
        locations.pop(key_of(inputs), None)
        locations[key_of(inputs)] = [str(study.root.absolute()), study.selection]
        recent = dict(list(locations.items())[-_MAX_LOCATIONS:])
        store_json(location_file(), recent, "the locations of studies")


def recall(inputs: Sequence[tuple[str, str]]) -> tuple[Path, str | None] | None:
    """Return the location of a result's study, and its `Study.selection` there.

    None if the location is unknown or missing.
    """
    match _load_locations().get(key_of(inputs)):
        case [root, selection] if exists(str(root)):
            return Path(str(root)), None if selection is None else str(selection)
    return None


def _load_locations() -> dict[str, Any]:
    return read_object(location_file())
