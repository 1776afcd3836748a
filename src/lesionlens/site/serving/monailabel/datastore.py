"""A folder of studies as MONAI Label's datastore: images, labels by tag, notes on both.

Images are the NIfTI files, zip archives and folders of the folder itself; labels lie in
`labels/TAG/NAME.nii.gz`, notes in `labels/notes.json`. That is MONAI Label's own layout.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.whole_file import write_whole
from lesionlens.site.serving.monailabel.images import SUFFIXES, image_name, safe_name, suffix_of

FINAL, ORIGINAL = "final", "original"
_LABELS, _NOTES = "labels", "notes.json"
_LABEL_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd")
Notes = dict[str, Any]


class Datastore:
    """A folder of images and of labels for them; safe to use from several threads.

    Parameters
    ----------
    folder : Path or None
        None for a server without one: nothing is listed, nothing can be kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._lock = folder, threading.Lock()

    def images(self) -> dict[str, Path]:
        """Return all images by their names."""
        if self._folder is None:
            return {}
        found = {}
        for place in sorted(self._folder.iterdir()):
            fits = place.is_dir() or place.name.lower().endswith(SUFFIXES)
            if fits and place.name != _LABELS and not place.name.startswith("."):
                found[image_name(place.name)] = place
        return found

    def image(self, name: str) -> Path:
        """Return where an image lies.

        Raises
        ------
        UnusableInputError
            There is none of that name.
        """
        place = self.images().get(name)
        if place is None:
            raise _none("image", name)
        return place

    def add_image(self, name: str, file_name: str, content: bytes) -> str:
        """Keep an image; return its name."""
        suffix = suffix_of(file_name)
        folder = self._needed()
        with self._lock:
            if name in self.images():
                raise UnusableInputError(
                    found=f"an image named {name!r} already",
                    expected="another name: images are never overwritten",
                    next_step="Choose another name, or remove that one first",
                )
            write_whole(folder / f"{safe_name(name)}{suffix}", content)
        return name

    def labels(self, name: str) -> dict[str, Path]:
        """Return the labels of an image by their tags."""
        root = None if self._folder is None else self._folder / _LABELS
        if root is None or not root.is_dir():
            return {}
        found = {}
        for tag in sorted(place for place in root.iterdir() if place.is_dir()):
            for suffix in _LABEL_SUFFIXES:
                if (tag / f"{name}{suffix}").is_file():
                    found[tag.name] = tag / f"{name}{suffix}"
                    break
        return found

    def label(self, name: str, tag: str) -> Path:
        """Return where a label lies.

        Raises
        ------
        UnusableInputError
            There is none.
        """
        place = self.labels(name).get(tag)
        if place is None:
            raise _none(f"label {tag!r:.40} of the image", name)
        return place

    def save_label(self, name: str, tag: str, file_name: str, content: bytes, notes: Notes) -> str:
        """Keep a label of an image that is there, in place of an earlier one of that tag."""
        self.image(name)
        suffix = next((s for s in _LABEL_SUFFIXES if file_name.lower().endswith(s)), None)
        if suffix is None:
            raise _none("label of a kind that is kept here", file_name)
        folder = self._needed() / _LABELS / safe_name(tag)
        with self._lock:
            write_whole(folder / f"{safe_name(name)}{suffix}", content)
            for other in _LABEL_SUFFIXES:
                if other != suffix:
                    (folder / f"{name}{other}").unlink(missing_ok=True)
        self.note(name, notes | {"ts": int(time.time())}, tag)
        return name

    def remove_label(self, name: str, tag: str) -> None:
        """Remove a label; an image is never removed by a client."""
        self.label(name, tag).unlink()

    def notes(self, name: str, tag: str = "") -> Notes:
        """Return what was noted of an image, or of its label."""
        return dict(self._all_notes().get(name, {}).get(tag, {}))

    def note(self, name: str, notes: Notes, tag: str = "") -> None:
        """Add to the notes on an image, or on its label."""
        folder = self._needed() / _LABELS
        with self._lock:
            everything = self._all_notes()
            below = everything.setdefault(name, {})
            below[tag] = below.get(tag, {}) | notes
            write_whole(folder / _NOTES, json.dumps(everything, indent=1).encode())

    def status(self) -> dict[str, Any]:
        """Return how many images there are and how many are labelled."""
        images = self.images()
        tags: dict[str, int] = {}
        for name in images:
            for tag in self.labels(name):
                tags[tag] = tags.get(tag, 0) + 1
        return {"total": len(images), "completed": tags.get(FINAL, 0), "label_tags": tags}

    def listing(self) -> dict[str, Any]:
        """Return all images with their labels, as MONAI Label lists them."""
        objects = {}
        for name, place in self.images().items():
            labels = {
                tag: {"ext": _ext(label, name), "info": self.notes(name, tag)}
                for tag, label in self.labels(name).items()
            }
            image = {"ext": _ext(place, name), "info": self.notes(name)}
            objects[name] = {"image": image, "labels": labels}
        return {"name": "LesionLens", "description": "", "objects": objects}

    def unlabelled(self) -> list[str]:
        """Return the images without a final label, in their order."""
        return [name for name in self.images() if FINAL not in self.labels(name)]

    def _needed(self) -> Path:
        if self._folder is None:
            raise UnusableInputError(
                found="a server without a datastore",
                expected="one that may keep images and labels",
                next_step="Start it with: lesionlens serve --datastore DIR",
            )
        return self._folder

    def _all_notes(self) -> dict[str, dict[str, Notes]]:
        file = None if self._folder is None else self._folder / _LABELS / _NOTES
        if file is None or not file.is_file():
            return {}
        try:
            return dict(json.loads(file.read_text("utf-8")))
        except ValueError:
            return {}


def _ext(place: Path, name: str) -> str:
    return place.name.removeprefix(name)


def _none(what: str, name: str) -> UnusableInputError:
    return UnusableInputError(
        found=f"no {what} {name!r:.80}",
        expected="one that the datastore lists",
        next_step="Ask for the list: GET /datastore/?output=all",
    )
