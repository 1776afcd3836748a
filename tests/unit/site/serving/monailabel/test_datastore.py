"""A folder of studies as a datastore: every image has a name of its own."""

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
