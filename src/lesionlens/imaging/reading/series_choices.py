"""The user's choice of series for a study, stored in the user's data folder.

The key is the Study Instance UID, or for NIfTI a hash of the files' names and content. Only hashes,
names of NIfTI files below the study and UIDs are stored.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from lesionlens.base.files import user_files, user_folders
from lesionlens.base.files.bounded_read import read_object
from lesionlens.base.labels import MrSequence
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.study import Series, Study

logger = logging.getLogger(__name__)


def folder() -> Path:
    """Return the folder of stored choices in the user's data folder."""
    return user_folders.data() / "choices"


def key_of(study: Study) -> str:
    """Return the key of a study's choices, in hexadecimal."""
    if study.uid:
        text = study.uid
    else:
        file_digests = sorted(
            (f.name, sha256_of(f.path)) for s in study.all_series for f in s.files
        )
        text = json.dumps(file_digests)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def remember(study: Study) -> None:
    """Store which series the user named as which sequence; delete the entry if none is named.

    If the folder is not writable, or a file of the study is gone by now, nothing is stored, which
    is only logged.
    """
    named = {
        sequence.value: _identifier_of(series, study)
        for sequence, series in study.series.items()
        if series.named_by_user
    }
    try:
        path = folder() / f"{key_of(study)}.json"
        if named:
            user_files.store(path, named, "the choice of sequences")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("the choice of sequences could not be updated: %s", error.strerror)


def recall(study: Study) -> Mapping[MrSequence, str]:
    """Return the stored choice for a study as `open_study` takes it.

    Empty if there is none, or it is damaged.
    """
    if not any(folder().glob("*.json")):
        return {}  # avoids reading the files for their key
    try:
        stored = read_object(folder() / f"{key_of(study)}.json")
        choice = {MrSequence(key): str(value) for key, value in stored.items()}
    except (OSError, ValueError):  # files that vanished, or an unknown sequence
        return {}
    names_by_identifier = {
        _identifier_of(s, study): name_for_reader(s, study) for s in study.all_series
    }
    return {
        sequence: names_by_identifier[value]
        for sequence, value in choice.items()
        if value in names_by_identifier
    }


def name_for_reader(series: Series, study: Study) -> str:
    """Return a series of a study as an argument of `open_study`.

    Its UID, or its first file's absolute path if it has none or shares it, as the time points of a
    dynamic series do. A bare file name could match another patient's file in the working folder.
    """
    return _own_uid(series, study) or str(series.files[0].path)


def distinct_names(all_series: Sequence[Series]) -> tuple[str, ...]:
    """Return a distinct name for each series: its description, with its first file if ambiguous.

    A repeated acquisition often has the same description as the one that it replaces.
    """
    names = [series.description or series.files[0].name for series in all_series]
    return tuple(
        name if names.count(name) == 1 else f"{name}, {series.files[0].name}"
        for name, series in zip(names, all_series, strict=True)
    )


def _identifier_of(series: Series, study: Study) -> str:
    """Return the identifier of a series within its study: its UID, or its first file's.

    A DICOM file is identified by its SOP Instance UID: in a copy of the study, such as one that is
    fetched again, its name may be another file's. A NIfTI file is identified by its name.
    """
    first_file = series.files[0]
    return _own_uid(series, study) or first_file.sop_instance_uid or first_file.name


def _own_uid(series: Series, study: Study) -> str | None:
    """Return the UID of a series; None if it has none, or another volume of the study has it."""
    uids = [other.uid for other in study.all_series]
    return series.uid if uids.count(series.uid) == 1 else None
