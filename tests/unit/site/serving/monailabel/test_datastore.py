"""A folder of studies as a datastore: every image has a name of its own."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.helpers.stale_share import make_stale

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.site.serving.monailabel.datastore import Datastore


def test_two_images_of_one_name_are_both_listed_and_labelled_apart(tmp_path):
    """The last of them hid the others: another image was analysed than the one that was meant."""
    (tmp_path / "case").mkdir()
    for name in ("case.nii.gz", "case.zip", "other.nii"):
        (tmp_path / name).write_bytes(b"image")
    store = Datastore(tmp_path)
    assert store.images() == {
        "case": tmp_path / "case",
        "case.nii.gz": tmp_path / "case.nii.gz",
        "case.zip": tmp_path / "case.zip",
        "other": tmp_path / "other.nii",
    }
    with (tmp_path / "other.nii").open("rb") as content:
        store.save_label("case.nii.gz", "final", "label.nii.gz", content, {})
    assert store.unlabelled() == ["case", "case.zip", "other"]
    assert store.listing()["objects"]["case.nii.gz"]["labels"]["final"]["ext"] == ".nii.gz"


def test_an_image_on_a_stale_share_hides_no_other(tmp_path, monkeypatch):
    for name in ("here.nii", "stale.nii"):
        (tmp_path / name).write_bytes(b"image")
    make_stale(monkeypatch, tmp_path / "stale.nii")
    assert list(Datastore(tmp_path).images()) == ["here"]


def test_two_images_never_share_a_label(tmp_path):
    """The label `case.seg.nrrd` was one of both, and a new label of `case` deleted it."""
    for name in ("case.nii.gz", "case.seg.nii.gz"):
        (tmp_path / name).write_bytes(b"image")
    store = Datastore(tmp_path)
    for name, file in (("case.seg", "label.nrrd"), ("case", "label.seg.nrrd")):
        with pytest.raises(UnusableInputError, match="the name of another image's label"):
            store.save_label(name, "final", file, io.BytesIO(b"label"), {})
    shared = tmp_path / "labels" / "final" / "case.seg.nrrd"
    shared.parent.mkdir(parents=True)
    shared.write_bytes(b"of one of them")
    assert store.unlabelled() == ["case", "case.seg"]
    for name in ("case", "case.seg"):
        store.save_label(name, "final", "label.nii.gz", io.BytesIO(name.encode()), {})
    assert store.label("case", "final").read_bytes() == b"case"
    assert store.label("case.seg", "final").read_bytes() == b"case.seg"
    assert shared.read_bytes() == b"of one of them"


def test_a_segmentation_of_3d_slicer_keeps_its_suffix(tmp_path):
    """As `case.nrrd` it opens as an image."""
    (tmp_path / "case.nii.gz").write_bytes(b"image")
    store = Datastore(tmp_path)
    for file in ("label.nrrd", "label.seg.nrrd"):
        store.save_label("case", "final", file, io.BytesIO(b"label"), {})
        assert store.listing()["objects"]["case"]["labels"]["final"]["ext"] == file[5:]


def test_a_label_of_another_kind_is_refused_by_its_suffix(tmp_path):
    (tmp_path / "case.nii.gz").write_bytes(b"image")
    with pytest.raises(UnusableInputError, match=r"label\.stl.* ends in one of \.nii\.gz, "):
        Datastore(tmp_path).save_label("case", "final", "label.stl", io.BytesIO(b"label"), {})


def _add_all(folder, content):
    """Add the same images as another server; return which it says that it stored."""
    store, stored = Datastore(folder), set()
    for number in range(60):
        try:
            store.add_image(f"case{number}", "case.nii.gz", io.BytesIO(content))
        except UnusableInputError:
            continue
        stored.add(f"case{number}")
    return stored


def test_of_two_servers_on_one_folder_one_stores_an_image_of_a_name(tmp_path):
    """Both said that they had stored it, and the later one had overwritten the other's."""
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(_add_all, [tmp_path] * 2, [b"one" * 999, b"two" * 999])
    assert not first & second
    assert len(first | second) == 60
    for stored, content in ((first, b"one" * 999), (second, b"two" * 999)):
        assert all((tmp_path / f"{name}.nii.gz").read_bytes() == content for name in stored)


def test_two_servers_on_one_folder_lose_no_metadata(tmp_path):
    """Each read the file, added its own and replaced it: half of them were lost."""

    def note_all(who):
        store = Datastore(tmp_path)
        for number in range(60):
            store.note(f"{who}{number}", {"by": who})

    with ThreadPoolExecutor() as pool:
        list(pool.map(note_all, "ab"))
    kept = Datastore(tmp_path)
    assert all(kept.notes(f"{who}{number}") == {"by": who} for who in "ab" for number in range(60))


@pytest.mark.parametrize("tag", ["notes.json", "Notes.JSON"])
def test_a_tag_does_not_take_the_place_of_the_metadata(tmp_path, tag):
    """A folder `labels/notes.json` made every later request that stores metadata fail."""
    (tmp_path / "case.nii.gz").write_bytes(b"image")
    store = Datastore(tmp_path)
    with pytest.raises(UnusableInputError, match="the name of the metadata"):
        store.save_label("case", tag, "label.nii.gz", io.BytesIO(b"label"), {})
    store.save_label("case", "final", "label.nii.gz", io.BytesIO(b"label"), {"by": "me"})
    assert store.notes("case", "final")["by"] == "me"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_no_image_and_is_not_replaced(tmp_path):
    """Opening it blocked one of the server's two threads for images, for good."""
    os.mkfifo(tmp_path / "case.nii.gz")
    (tmp_path / "gone.nii.gz").symlink_to(tmp_path / "nothing")
    store = Datastore(tmp_path)
    assert store.images() == {}
    for name in ("case", "gone"):
        with pytest.raises(UnusableInputError, match="an image named"):
            store.add_image(name, "image.nii.gz", io.BytesIO(b"image"))
    assert (tmp_path / "case.nii.gz").is_fifo()
    assert (tmp_path / "gone.nii.gz").is_symlink()


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"case": "x"}', '{"case": []}', '{"case": {"": 3}}']
)
def test_metadata_of_another_shape_are_refused(tmp_path, content):
    (tmp_path / "case.nii.gz").write_bytes(b"image")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "notes.json").write_text(content)
    store = Datastore(tmp_path)
    for act in (store.listing, lambda: store.notes("case"), lambda: store.note("case", {"a": 1})):
        with pytest.raises(ReadError, match="metadata that cannot be read"):
            act()
    assert (tmp_path / "labels" / "notes.json").read_text() == content


def _store_with_label(folder):
    (folder / "case.nii.gz").write_bytes(b"image")
    store = Datastore(folder)
    store.save_label("case", "final", "a.nii.gz", io.BytesIO(b"first"), {"reader": "A", "why": "x"})
    return store


def test_a_label_that_takes_the_place_of_another_has_its_own_metadata_only(tmp_path):
    """What was said of the earlier one was said of the new one, too."""
    store = _store_with_label(tmp_path)
    store.save_label("case", "final", "a.nii.gz", io.BytesIO(b"second"), {"reader": "B"})
    assert store.label("case", "final").read_bytes() == b"second"
    notes = store.notes("case", "final")
    assert notes.pop("ts") > 0
    assert notes == {"reader": "B"}


@pytest.mark.parametrize("until", [0, 1, 2])
def test_a_label_never_has_the_metadata_of_another(tmp_path, monkeypatch, until):
    """Killed between the two files, the server left B's label with A's name."""
    store, replace, replaced = _store_with_label(tmp_path), Path.replace, []

    def ended(path, target):
        if len(replaced) == until:
            raise KeyboardInterrupt
        replaced.append(target)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", ended)
    with pytest.raises(KeyboardInterrupt):
        store.save_label("case", "final", "a.nii.gz", io.BytesIO(b"second"), {"reader": "B"})
    label = store.label("case", "final").read_bytes()
    assert label == (b"second" if until == 2 else b"first")
    reader = store.notes("case", "final").get("reader")
    assert reader == ("A" if until == 0 else None)


def test_an_upload_that_breaks_off_leaves_the_label_and_its_metadata(tmp_path):
    store = _store_with_label(tmp_path)

    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        store.save_label("case", "final", "a.nii.gz", Broken(), {"reader": "B"})
    assert store.label("case", "final").read_bytes() == b"first"
    assert store.notes("case", "final")["reader"] == "A"


def test_an_empty_file_replaces_no_label_and_takes_no_name(tmp_path):
    """A reader's label was lost to it, and the name of an image could not be used again."""
    (tmp_path / "case.nii").write_bytes(b"image")
    store = Datastore(tmp_path)
    store.save_label("case", "final", "label.nii.gz", io.BytesIO(b"first"), {"by": "A"})
    with pytest.raises(UnusableInputError, match="an empty file"):
        store.save_label("case", "final", "label.nii.gz", io.BytesIO(), {"by": "B"})
    assert store.label("case", "final").read_bytes() == b"first"
    assert store.notes("case", "final")["by"] == "A"
    with pytest.raises(UnusableInputError, match="an empty file"):
        store.add_image("new", "new.nii.gz", io.BytesIO())
    store.add_image("new", "new.nii.gz", io.BytesIO(b"image"))


def test_without_a_folder_there_is_nothing_and_nothing_is_stored():
    store = Datastore(None)
    assert (store.images(), store.unlabelled(), store.listing()["objects"]) == ({}, [], {})
    with pytest.raises(UnusableInputError, match="a server without a datastore"):
        store.add_image("one", "one.nii", io.BytesIO(b"voxels"))
