"""A folder of studies as a MONAI Label datastore: images, labels by tag, metadata.

Images are NIfTI files, zip archives and folders in the folder itself; labels are stored in
`labels/TAG/NAME.nii.gz`, metadata in `labels/notes.json`, as in MONAI Label. All paths come from
`base.files.safe_paths.inside`, so that no name and no link leads out of the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files import reachable
from lesionlens.base.files.atomic_file import atomic_file, write_atomically
from lesionlens.base.files.bounded_read import read_json
from lesionlens.base.files.folder_lock import folder_lock
from lesionlens.base.files.safe_paths import inside, safe_name
from lesionlens.base.text import is_writable
from lesionlens.site.serving.monailabel.images import SUFFIXES, image_name, suffix_of

FINAL, ORIGINAL = "final", "original"
_LABELS, _NOTES = "labels", "notes.json"
_CHUNK_BYTES = 2**20
_LABEL_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")
Notes = dict[str, Any]


class Datastore:
    """A folder of images with labels, which several threads and servers may share.

    Parameters
    ----------
    folder : Path or None
        Folder of the datastore; None lists nothing and stores nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._lock = folder, threading.Lock()

    def images(self) -> dict[str, Path]:
        """Return all images by name; the second of two equal names includes its suffix."""
        if self._folder is None:
            return {}
        images: dict[str, Path] = {}
        for path in sorted(self._folder.iterdir()):
            is_image = reachable.is_dir(path) or (
                path.name.lower().endswith(SUFFIXES) and reachable.is_file(path)
            )
            if is_image and path.name != _LABELS and self._is_inside(path.name):
                name = image_name(path.name)
                images[path.name if name in images else name] = path
        return images

    def image(self, name: str) -> Path:
        """Return the path of an image.

        Raises
        ------
        UnusableInputError
            There is no such image.
        """
        path = self.images().get(name)
        if path is None:
            raise _not_found("image", name)
        return path

    def add_image(self, name: str, file_name: str, content: BinaryIO) -> str:
        """Store an image; return its name."""
        suffix = suffix_of(file_name)
        with self._locked_folder() as folder:
            path = inside(folder, f"{safe_name(name)}{suffix}")
            is_taken = os.path.lexists(path)  # also by a pipe or dangling link, which is not listed
            if is_taken or name in self.images():
                raise UnusableInputError(
                    found=f"an image named {name!r} already",
                    expected="another name: images are never overwritten",
                    next_step="Choose another name, or remove that one first",
                )
            with _stored(path, content):
                pass
        return name

    def labels(self, name: str) -> dict[str, Path]:
        """Return the labels of an image by tag; empty for an unknown name."""
        images = self.images()
        return self._labels(name, images) if name in images else {}

    def _labels(self, name: str, images: Container[str]) -> dict[str, Path]:
        folder = self._required_folder()
        root, suffixes = folder / _LABELS, _label_suffixes(name, images)
        if not self._is_inside(_LABELS) or not root.is_dir():
            return {}
        labels = {}
        for tag in sorted(path.name for path in root.iterdir() if path.is_dir()):
            for suffix in suffixes:
                names = (_LABELS, tag, f"{name}{suffix}")
                if self._is_inside(*names) and folder.joinpath(*names).is_file():
                    labels[tag] = folder.joinpath(*names)
                    break
        return labels

    def _is_inside(self, *names: str) -> bool:
        """Return whether names lead to an entry that a response can name."""
        try:
            inside(self._required_folder(), *names)
        except UnusableInputError:
            return False
        return all(map(is_writable, names))

    def label(self, name: str, tag: str) -> Path:
        """Return the path of a label.

        Raises
        ------
        UnusableInputError
            There is no such label.
        """
        path = self.labels(name).get(tag)
        if path is None:
            raise _not_found(f"label {tag!r:.40} of the image", name)
        return path

    def save_label(
        self, name: str, tag: str, file_name: str, content: BinaryIO, notes: Notes
    ) -> str:
        """Store a label of an existing image, replacing one with the same tag and its metadata.

        Until the new label is complete, the earlier one is kept; killed while they are exchanged,
        the server leaves a label without metadata, never one with those of another.
        """
        self.image(name)
        suffixes = _label_suffixes(name, self.images())
        suffix = next((s for s in _LABEL_SUFFIXES if file_name.lower().endswith(s)), None)
        if suffix is None:
            raise UnusableInputError(
                found=f"a label file named {file_name!r:.80}",
                expected=f"a name that ends in one of {', '.join(_LABEL_SUFFIXES)}",
                next_step="Send the label as .nii.gz",
            )
        if suffix not in suffixes:
            raise UnusableInputError(
                found=f"a label {suffix} of {name!r:.80}, with the name of another image's label",
                expected="a label file for each image",
                next_step="Send the label as .nii.gz",
            )
        if tag.casefold() == _NOTES:
            raise UnusableInputError(
                found=f"the tag {tag!r}, which is the name of the metadata",
                expected="another tag, such as final",
                next_step="Choose another tag",
            )
        with self._locked_folder() as folder:
            path = inside(folder, _LABELS, safe_name(tag), f"{name}{suffix}")
            all_notes = self._all_notes()
            image_notes = all_notes.setdefault(name, {})
            with _stored(path, content):
                if image_notes.pop(tag, None) is not None:
                    _write_notes(folder, all_notes)
            for other_suffix in suffixes:
                if other_suffix != suffix:
                    path.with_name(f"{name}{other_suffix}").unlink(missing_ok=True)
            image_notes[tag] = notes | {"ts": int(time.time())}
            _write_notes(folder, all_notes)
        return name

    def notes(self, name: str, tag: str = "") -> Notes:
        """Return the metadata of an image, or of its label."""
        return dict(self._all_notes().get(name, {}).get(tag, {}))

    def note(self, name: str, notes: Notes, tag: str = "") -> None:
        """Add metadata to an image, or to its label."""
        with self._locked_folder() as folder:
            all_notes = self._all_notes()
            image_notes = all_notes.setdefault(name, {})
            image_notes[tag] = image_notes.get(tag, {}) | notes
            _write_notes(folder, all_notes)

    def status(self) -> dict[str, Any]:
        """Return the number of images, and of labelled ones."""
        all_labels = self._all_labels()
        tags = Counter(tag for labels in all_labels.values() for tag in labels)
        return {"total": len(all_labels), "completed": tags[FINAL], "label_tags": dict(tags)}

    def listing(self) -> dict[str, Any]:
        """Return all images with their labels in MONAI Label's format."""
        objects, all_notes, images = {}, self._all_notes(), self.images()
        for name, path in images.items():
            image_notes = all_notes.get(name, {})
            labels = {
                tag: {"ext": _extension(label, name), "info": image_notes.get(tag, {})}
                for tag, label in self._labels(name, images).items()
            }
            image = {"ext": _extension(path, name), "info": image_notes.get("", {})}
            objects[name] = {"image": image, "labels": labels}
        return {"name": "LesionLens", "description": "", "objects": objects}

    def unlabelled(self) -> list[str]:
        """Return the images without a final label, in order."""
        return [name for name, labels in self._all_labels().items() if FINAL not in labels]

    def _all_labels(self) -> dict[str, dict[str, Path]]:
        """Return the labels of each image by tag."""
        images = self.images()
        return {name: self._labels(name, images) for name in images}

    @contextmanager
    def _locked_folder(self) -> Iterator[Path]:
        """Yield the folder, locked against changes by other threads and servers."""
        folder = self._required_folder()
        with self._lock, folder_lock(folder):
            yield folder

    def _required_folder(self) -> Path:
        if self._folder is None:
            raise UnusableInputError(
                found="a server without a datastore",
                expected="a server with a folder for images and labels",
                next_step="Start it with: lesionlens serve --datastore DIR",
            )
        return self._folder

    def _all_notes(self) -> dict[str, dict[str, Notes]]:
        if not self._is_inside(_LABELS, _NOTES):
            return {}
        file = self._required_folder() / _LABELS / _NOTES
        try:
            return _notes_in(read_json(file)) if file.is_file() else {}
        except (OSError, ValueError, ReadError) as error:
            raise ReadError(
                found=f"datastore metadata that cannot be read ({_LABELS}/{_NOTES})",
                expected="JSON, as written by this server",
                next_step="Repair the file or move it away: labels and images are not affected",
            ) from error


def _label_suffixes(name: str, images: Container[str]) -> tuple[str, ...]:
    """Return the suffixes with which a label of an image cannot be that of another one.

    `case.seg.nrrd` may belong to the images `case` and `case.seg`: if both exist, it is used for
    neither.
    """
    return tuple(
        suffix
        for suffix in _LABEL_SUFFIXES
        if not any(
            f"{name}{suffix}".endswith(other) and f"{name}{suffix}".removesuffix(other) in images
            for other in _LABEL_SUFFIXES
            if other != suffix
        )
    )


def _notes_in(content: Any) -> dict[str, dict[str, Notes]]:
    """Return the metadata by image and tag; raises ValueError if there is anything else."""
    tables = [content, *content.values()] if isinstance(content, dict) else [content]
    entries = [entry for table in tables[1:] if isinstance(table, dict) for entry in table.values()]
    if not all(isinstance(table, dict) for table in (*tables, *entries)):
        raise ValueError("metadata of another shape")
    return dict(content)


def _write_notes(folder: Path, all_notes: dict[str, dict[str, Notes]]) -> None:
    path = inside(folder, _LABELS, _NOTES)
    write_atomically(path, json.dumps(all_notes, indent=1).encode())


@contextmanager
def _stored(path: Path, content: BinaryIO) -> Iterator[None]:
    """Replace a file after the block, which is run when the new content is complete.

    Raises
    ------
    UnusableInputError
        There is no content: it would replace a label, or take the name of an image.
    """
    with atomic_file(path) as temporary:
        with temporary.open("wb") as file:
            shutil.copyfileobj(content, file, _CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())
        if temporary.stat().st_size == 0:
            raise UnusableInputError(
                found="an empty file",
                expected="an image or a label",
                next_step="Save it again and send that file",
            )
        yield


def _extension(path: Path, name: str) -> str:
    return path.name.removeprefix(name)


def _not_found(kind: str, name: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"no {kind} {name!r:.80}",
        expected="a name listed by the datastore",
        next_step="Request the list: GET /datastore/?output=all",
    )
