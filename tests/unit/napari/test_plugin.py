"""The plugin as napari meets it: discovery, reader, samples, writers."""

from __future__ import annotations

import errno
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.napari import loading, reader, sample, writer

MANIFEST = Path(loading.__file__).parents[1] / "napari.yaml"
LISTING = """
import sys
from npe2 import PluginManager
manager = PluginManager()
manager.discover()
manifest = manager.get_manifest("lesionlens")
assert [w.display_name for w in manifest.contributions.widgets] == ["LesionLens"]
list(manager.iter_compatible_readers(["somewhere/scan.nii.gz"]))
heavy = {"torch", "monai", "napari", "SimpleITK", "scipy", "nibabel"} & set(sys.modules)
assert not heavy, heavy
"""


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_listing_plugins_imports_nothing_heavy():
    run_python(LISTING)


def test_importing_the_package_imports_neither_numpy_nor_qt():
    run_python(
        "import sys, lesionlens, lesionlens.napari.reader\n"
        "bad = {'numpy', 'qtpy', 'PySide6', 'napari', 'torch'} & set(sys.modules)\n"
        "assert not bad, bad"
    )


def test_every_command_of_the_manifest_exists_at_its_place():
    manifest = PluginManifest.from_file(MANIFEST)
    homes = {"reader", "writer", "sample", "dock", "palette"}
    assert manifest.contributions.commands
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert module.rpartition(".")[2] in homes
        if not module.endswith("dock"):
            assert callable(getattr(importlib.import_module(module), name))


def test_the_reader_takes_studies_and_declines_other_folders(make_study, tmp_path: Path):
    assert reader.get_reader(str(make_study())) is not None
    assert reader.get_reader(str(make_study(name="d", dicom=True))) is not None
    assert reader.get_reader(str(make_study() / "t1c.nii.gz")) is not None
    stack = [str(make_study() / f"{name}.nii.gz") for name in ("t1c", "flair")]
    assert {k["name"] for _, k, _ in reader.get_reader(stack)(stack)} == {"T1c", "FLAIR"}
    other = tmp_path / "pictures"
    other.mkdir()
    (other / "cat.png").write_bytes(b"\x89PNG")
    (other / "notes").write_text("no scan")
    assert reader.get_reader(str(other)) is None
    assert reader.get_reader(str(tmp_path / "missing")) is None
    assert reader.get_reader([str(other), str(other)]) is None


def test_the_reader_keeps_the_true_affine_and_the_study(make_study):
    folder = make_study(orientation="LPS", sequences={"t1c", "flair"}, tilt_deg=9.0)
    layers = reader.read(str(folder))
    assert [keywords["name"] for _, keywords, _ in layers] == ["FLAIR", "T1c"]
    for data, keywords, kind in layers:
        ours = keywords["metadata"][loading.KEY]
        series = ours["study"].series[ours["sequence"]]
        np.testing.assert_allclose(ours["affine"], series.grid.affine)
        assert kind == "image"
        assert data.ndim == 3
        assert "affine" not in keywords


def test_the_reader_says_why_it_cannot_read(tmp_path: Path):
    bad = tmp_path / "broken.nii"
    bad.write_bytes(b"nothing")
    with pytest.raises(UnusableInputError, match="broken"):
        reader.read(str(bad))


@pytest.mark.parametrize("read", [sample.nifti, sample.dicom])
def test_both_samples_have_all_four_sequences(read):
    layers = {keywords["name"]: data for data, keywords, _ in read()}
    assert set(layers) == {"T1", "T1c", "T2", "FLAIR"}
    assert all(data.any() for data in layers.values())


def test_a_written_layer_lies_at_the_same_millimetres(tmp_path: Path, make_study):
    data, keywords, _ = reader.read(str(make_study(sequences={"flair"})))[0]
    place = tmp_path / "out.nii.gz"
    assert writer.write_image(str(place), data, keywords) == [str(place)]
    image = nib.load(place)
    np.testing.assert_allclose(np.diag(image.affine)[:3], keywords["scale"])
    np.testing.assert_allclose(image.affine[:3, 3], keywords["translate"])
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), data)
    writer.write_labels(str(place), (data > 500).astype(int), keywords)
    assert nib.load(place).get_data_dtype() == np.uint8


@pytest.mark.parametrize("label", [-1, 2**31, 2**40, 2**63])
def test_written_labels_keep_their_numbers(tmp_path: Path, make_study, label: int):
    """Label 3000000000 became -1294967296, and 2**40 was lost."""
    data, keywords, _ = reader.read(str(make_study(sequences={"flair"})))[0]
    labels = np.zeros(data.shape, np.uint64 if label == 2**63 else np.int64)
    labels[1, 2, 3] = label
    (path,) = writer.write_labels(str(tmp_path / "out.nii.gz"), labels, keywords)
    assert np.asarray(nib.load(path).dataobj)[1, 2, 3] == label


@pytest.mark.parametrize("name", ["x.nii", "X.NII.GZ"])
def test_a_layer_of_others_is_not_written_with_a_guessed_place(tmp_path: Path, name: str):
    attributes = {"name": "cells", "scale": (1, 1, 1), "translate": (0, 0, 0), "metadata": {}}
    with pytest.raises(UnusableInputError, match="cells"):
        writer.write_image(str(tmp_path / name), np.zeros((2, 2, 2)), attributes)
    assert not list(tmp_path.glob("[xX]*"))


def test_a_full_disk_leaves_the_file_that_is_saved_again(tmp_path: Path, make_study, monkeypatch):
    data, keywords, _ = reader.read(str(make_study(sequences={"flair"})))[0]
    place = tmp_path / "out.nii.gz"
    writer.write_image(str(place), data, keywords)
    earlier = place.read_bytes()

    def full(_image, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(ResourceError, match="No space left"):
        writer.write_labels(str(place), (data > 500).astype(int), keywords)
    assert place.read_bytes() == earlier
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.nii.gz"]


def test_several_layers_become_a_folder_of_files(tmp_path: Path, make_study):
    data, keywords, _ = reader.read(str(make_study(sequences={"flair"})))[0]
    labels = (data > 500).astype(np.uint8)
    layers = [(data, keywords, "image"), (labels, keywords | {"name": "a / b"}, "labels")]
    place = str(tmp_path / "all.nii.gz")
    names = ["FLAIR.nii.gz", "a_b.nii.gz", "FLAIR_3.nii.gz"]
    written = writer.write_layers(place, [*layers, layers[0]])
    assert written == [str(tmp_path / "all" / name) for name in names]
    np.testing.assert_array_equal(np.asarray(nib.load(written[1]).dataobj), labels)
    with pytest.raises(UnusableInputError, match="exists"):
        writer.write_layers(place, layers)


def test_no_layer_is_written_over_another_one(tmp_path: Path, make_study):
    """The third was written into the file of the first."""
    data, keywords, _ = reader.read(str(make_study(sequences={"flair"})))[0]
    names = ("a_b_3", "a b", "a_b")
    layers = [(data + n, keywords | {"name": name}, "image") for n, name in enumerate(names)]
    written = writer.write_layers(str(tmp_path / "all"), layers)
    assert len(set(written)) == 3
    for n, path in enumerate(written):
        np.testing.assert_array_equal(nib.load(path).get_fdata(dtype=np.float32), data + n)


def test_a_folder_that_cannot_be_written_or_is_gone_is_named(
    tmp_path: Path, make_study, monkeypatch
):
    """napari showed the traceback of a missing folder, not why the layers were not written."""
    data, keywords, _ = reader.read(str(make_study(sequences={"flair"})))[0]
    layers = [(data, keywords, "image"), (data, keywords, "image")]
    with pytest.raises(ResourceError, match="folder of layers"):
        writer.write_layers(str(tmp_path / "missing" / "all"), layers)
    save = nib.save

    def save_and_remove(image, path):
        save(image, path)
        shutil.rmtree(tmp_path / "all")

    monkeypatch.setattr(nib, "save", save_and_remove)
    with pytest.raises(ResourceError):
        writer.write_layers(str(tmp_path / "all"), layers)
    assert not (tmp_path / "all").exists()


def test_layers_of_others_are_written_as_napari_writes_them(
    tmp_path: Path, make_study, monkeypatch
):
    """napari offers the writers of LesionLens first, whatever plugin made a layer."""
    manager = PluginManager()
    manager.discover()
    monkeypatch.setattr(PluginManager, "instance", lambda: manager)
    data, keywords, _ = reader.read(str(make_study(sequences={"flair"})))[0]
    foreign = (np.arange(12, dtype=np.uint8).reshape(3, 4), {"name": "cells"}, "image")
    written = writer.write_layers(str(tmp_path / "all"), [(data, keywords, "image"), foreign])
    assert written == [str(tmp_path / "all" / name) for name in ("FLAIR.nii.gz", "cells.tif")]
    (alone,) = writer.write_image(str(tmp_path / "alone"), *foreign[:2])
    assert Path(alone).name == "alone.tif"
    with pytest.raises(UnusableInputError, match="cells"):
        writer.write_layers(str(tmp_path / "x.nii"), [(data, keywords, "image"), foreign])
    assert not (tmp_path / "x").exists()
