"""MONAI Label's own client, as its viewer plugins use it, against our server."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from scipy import ndimage

pytest.importorskip("fastapi")

from tests.helpers.local_server import QuickEngine, becomes_true, serving

from lesionlens.base.files.scratch import PREFIX
from lesionlens.base.geometry import apply
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.prediction import Capability
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.reading import sequence_from_image
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.reading.sequences import Guess
from lesionlens.site.serving.sessions import Limits

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLE = "LESIONLENS_MONAILABEL_WHEEL"
KEY = "a-key-of-more-than-sixteen-letters"
pytestmark = [
    pytest.mark.usefixtures("coarse"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


def quick():
    """An engine that draws outlines and nothing else: what this adapter hands on."""
    return QuickEngine(can=frozenset({Capability.SEGMENT}))


@pytest.fixture(scope="session")
def client_class(tmp_path_factory):
    """The client out of MONAI Label's wheel, which is not installed: it would bring much."""
    named = os.environ.get(VARIABLE)
    wheels = [Path(named)] if named else sorted((REPOSITORY / ".venv/wheels").glob("monailabel*"))
    wheels += sorted((Path(sys.base_prefix) / "wheels").glob("monailabel*"))
    wheels += [w for p in sys.path for w in sorted(Path(p).glob("../../../wheels/monailabel*"))]
    if not wheels:
        pytest.skip(f"no wheel of MONAI Label: pip download --no-deps monailabel, {VARIABLE}=FILE")
    file = tmp_path_factory.mktemp("monailabel") / "client.py"
    with zipfile.ZipFile(wheels[0]) as wheel:
        file.write_bytes(wheel.read("monailabel/client/client.py"))
    spec = importlib.util.spec_from_file_location("monailabel_client", file)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses cgi
        try:
            spec.loader.exec_module(module)
        except ModuleNotFoundError as error:
            pytest.skip(f"MONAI Label's client does not run here: {error}")
    return module.MONAILabelClient


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files of this test alone: other tests' servers come and go."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def folder(tmp_path, make_study):
    """A datastore: two studies, one as a folder and one as an archive, and a FLAIR alone."""
    place = tmp_path / "datastore"
    place.mkdir()
    study = make_study(name="one")
    shutil.copytree(study, place / "one")
    shutil.make_archive(str(place / "two"), "zip", study)
    shutil.copy(next(study.glob("*flair*")), place / "three_flair.nii.gz")
    return place


@pytest.fixture
def server(folder):
    with serving({"quick": quick()}, datastore=folder) as server:
        yield server


@pytest.fixture
def client(server, client_class, tmp_path):
    return client_class(server.url, tmpdir=str(tmp_path), client_id="a test")


def labels_in(file):
    return np.asarray(nib.load(file).dataobj)


def test_info_names_models_labels_and_strategies(client):
    info = client.info()
    kinds = {name: model["type"] for name, model in info["models"].items()}
    assert kinds == {"quick": "segmentation", "quick-points": "deepgrow"}
    assert info["labels"] == ["core", "oedema", "enhancing", "lesion"]
    assert {"first", "random"} <= set(info["strategies"])
    assert info["trainers"] == {}
    assert info["datastore"]["total"] == 3


@pytest.mark.parametrize("image", ["one", "two", "three_flair"])
def test_infer_gives_a_label_map_on_the_reference_and_figures(client, image, folder):
    file, params = client.infer("quick", image, {})
    enhancing = {} if image == "three_flair" else {"enhancing": 3}  # nothing is, without T1c
    assert params["label_names"] == {"core": 1, "oedema": 2} | enhancing
    assert params["findings"]["schema"] == "lesionlens/findings/1"
    reference = next((folder / "one").glob("*flair*" if image == "three_flair" else "*t1c*"))
    assert labels_in(file).shape == nib.load(reference).shape
    assert np.allclose(nib.load(file).affine, nib.load(reference).affine, atol=1e-4)
    assert labels_in(file).any()


@pytest.fixture
def bright(folder):
    """A voxel of the reference in the middle of what FLAIR shows bright."""
    found, prepared = opened(folder / "one")
    return [int(v) for v in found.astype(int)], prepared


def opened(study):
    prepared = prepare(open_study(study), SILENT)
    flair = ndimage.gaussian_filter(prepared.channels[3] * prepared.brain, 3.0)
    at = np.array(np.unravel_index(flair.argmax(), flair.shape))
    return np.rint(apply(prepared.to_native, at[None]))[0], prepared


def test_points_as_slicer_sends_them_outline_what_they_are_in(client, bright, folder):
    """Voxels of the image that the client loaded, all of them with each new one."""
    at, _ = bright
    params = {"label": "lesion", "foreground": [at], "background": []}
    first, about = client.infer("quick-points", "one", params)
    mask = labels_in(first).copy()
    assert about["label_names"] == {"lesion": 1}
    assert np.allclose(
        nib.load(first).affine, nib.load(next((folder / "one").glob("*t1c*"))).affine
    )
    assert mask[tuple(at)] == 1
    assert 20 < mask.sum() < mask.size / 10
    beside = np.argwhere(mask)[-1].tolist()
    second, about = client.infer("quick-points", "one", params | {"background": [beside]})
    assert labels_in(second)[tuple(at)]
    assert not labels_in(second)[tuple(beside)]
    assert about["prompts"]["points"] == [[at, True], [beside, False]]
    again, _ = client.infer("quick-points", "one", params | {"background": [beside]})
    assert np.array_equal(labels_in(again), labels_in(second))


def test_an_outline_that_is_sent_along_is_corrected_near_the_point_alone(client, bright, folder):
    at, _ = bright
    params = {"label": "lesion", "foreground": [at]}
    file, _ = client.infer("quick-points", "two", params)
    before = labels_in(file) > 0
    away = np.argwhere(before)[0].tolist()
    far = before.copy()
    far[tuple(slice(max(0, v - 30), v + 30) for v in away)] = False
    fixed, _ = client.infer("quick-points", "two", {"background": [away]}, label_in=file)
    after = labels_in(fixed) > 0
    assert not after[tuple(away)]
    assert (after[before] == 0).any()
    assert not (after & ~before).any()
    image = nib.load(file)
    parts = np.where(before, 3.0, 0.0)
    parts[:3, :3, :3] = 4.0
    nib.save(nib.Nifti1Image(parts, image.affine), file)
    treated, _ = client.infer("quick-points", "two", {"foreground": [away]}, label_in=file)
    assert not labels_in(treated)[:3, :3, :3].any(), "a resection cavity is outside"
    other = str(folder / "three_flair.nii.gz")
    small = folder.parent / "small.nii.gz"
    nib.save(nib.load(other).slicer[2:], small)
    with pytest.raises(Exception, match="on the grid of the image"):
        client.infer("quick-points", "two", {"background": [away]}, label_in=str(small))


def test_a_box_is_a_prompt_and_a_session_is_pointed_into_until_it_is_removed(
    server, client, bright, folder
):
    at, _ = bright
    name = client.create_session(str(folder / "two.zip"))["session_id"]
    roi = [v + side * 8 * (axis < 2) for axis, v in enumerate(at) for side in (-1, 1)]
    file, _ = client.infer("quick-points", "", {"roi": roi}, session_id=name)
    assert labels_in(file)[tuple(at)]
    kept = server.app.state.monailabel.prompted_studies
    assert kept._cached
    client.remove_session(name)
    assert not kept._cached


@pytest.mark.parametrize("model", ["quick", "quick-points"])
def test_the_engine_forgets_an_image_that_is_removed(server, client, bright, folder, model):
    """It held the voxels of the last study until another one came."""
    at, _ = bright
    engine = server.sessions.models["quick"]
    name = client.create_session(str(folder / "two.zip"))["session_id"]
    client.infer(model, "", {"foreground": [at]}, session_id=name)
    client.infer(model, "one", {"foreground": [at]})
    client.remove_session(name)
    time.sleep(0.5)
    assert engine.forgot == 0  # it read another study since
    name = client.create_session(str(folder / "two.zip"))["session_id"]
    client.infer(model, "", {"foreground": [at]}, session_id=name)
    client.remove_session(name)
    assert becomes_true(lambda: engine.forgot == 1)


def test_an_upload_goes_when_its_time_is_over_though_nobody_asks(
    server, client, bright, folder, temporary
):
    at, _ = bright
    with (folder / "two.zip").open("rb") as file:
        answer = requests.put(f"{server.url}/session/?expiry=2", files={"files": file}, timeout=60)
    name = answer.json()["session_id"]
    client.infer("quick-points", "", {"foreground": [at]}, session_id=name)
    kept = server.app.state.monailabel.prompted_studies
    assert becomes_true(lambda: not kept._cached)
    assert becomes_true(lambda: server.sessions.models["quick"].forgot == 1)
    assert not list(temporary.rglob("two.zip"))


def test_an_image_that_is_deleted_from_the_datastore_is_not_kept(server, client, bright, folder):
    at, _ = bright
    client.infer("quick-points", "one", {"foreground": [at]})
    kept = server.app.state.monailabel.prompted_studies
    assert kept._cached
    shutil.rmtree(folder / "one")
    assert becomes_true(lambda: not kept._cached)


def test_points_that_cannot_be_answered_are_refused_in_words(client):
    for params, words in (
        ({}, "1 to 64 points"),
        ({"foreground": [[0, 0, 0]]}, "outside the brain"),
        ({"foreground": [[1, 2]]}, "cannot be read"),
        ({"foreground": [[1e300, 2, 3]]}, "within"),
        ({"foreground": [[-1, 2, 3]]}, "within"),
        ({"foreground": "here"}, "cannot be read"),
        ({"foreground": [[1, 2, 3]] * 65}, "1 to 64 points"),
        ({"roi": [1, 2, 3]}, "six whole numbers"),
        ({"background": [[30, 30, 30]]}, "no foreground prompt"),
        ({"foreground": [[30, 30, 30]], "label": "enhancing"}, "without T1c"),
    ):
        with pytest.raises(Exception, match=words):
            client.infer("quick-points", "three_flair", params)


def test_infer_on_a_session_is_infer_on_the_image(client, folder):
    session = client.create_session(str(folder / "two.zip"))
    name = session["session_id"]
    assert client.get_session(name)["name"] == name
    assert str(folder) not in str(session)
    there, _ = client.infer("quick", "", {}, session_id=name)
    kept = labels_in(there).copy()
    here, _ = client.infer("quick", "two", {})
    assert np.array_equal(kept, labels_in(here))
    client.remove_session(name)
    with pytest.raises(Exception, match="404"):
        client.get_session(name)


def test_infer_on_a_file_that_is_sent_along_leaves_nothing_behind(client, folder, temporary):
    plain = folder.parent / "scan.nii.gz"  # whose name says nothing
    shutil.copy(folder / "three_flair.nii.gz", plain)
    before = [*temporary.glob(f"{PREFIX}*/*/*")]
    file, params = client.infer("quick", "", {"sequence": "flair"}, file=str(plain))
    assert labels_in(file).any()
    assert [*params["findings"]["sequences"]] == ["flair"]
    assert [*temporary.glob(f"{PREFIX}*/*/*")] == before


def test_an_unknown_model_or_image_is_refused_with_what_is_there(client):
    with pytest.raises(Exception, match="quick"):
        client.infer("slow", "one", {})
    with pytest.raises(Exception, match="no image"):
        client.infer("quick", "four", {})


def test_active_learning_names_what_has_no_final_label_yet(client, folder):
    first = client.next_sample("first", {})
    assert first["id"] == "one"
    assert first["strategy"]["first"]["client_id"] == "a test"
    label = str(folder / "three_flair.nii.gz")  # any file will do
    client.save_label("one", label, tag="original", params={"reader": "me"})
    assert client.next_sample("first", {})["id"] == "one"
    client.save_label("one", label, params={"reader": "me"})
    assert client.next_sample("first", {})["id"] == "three_flair"
    for name in ("two", "three_flair"):
        client.save_label(name, label)
    assert client.next_sample("random", {}) == {}
    with pytest.raises(Exception, match="strategy"):
        client.next_sample("tea leaves", {})


def test_a_datastore_that_cannot_be_written_has_next_samples_too(client, folder, caplog):
    """The note of who requested it was all that failed; MONAI Label's server logs that."""
    (folder / "labels").write_bytes(b"")
    sample = client.next_sample("first", {})
    assert (sample["id"], sample["name"]) == ("one", "one.nii.gz")
    assert "could not be noted" in caplog.text
    assert str(folder) not in caplog.text


def test_labels_come_back_as_they_were_kept(client, folder):
    label = str(folder / "three_flair.nii.gz")
    kept = Path(label).read_bytes()
    client.save_label("one", label, tag="final", params={"reader": "me"})
    assert Path(client.download_label("one", "final")).read_bytes() == kept
    listed = client.datastore()["objects"]["one"]
    assert listed["labels"]["final"]["info"]["reader"] == "me"
    assert client.info()["datastore"]["completed"] == 1
    assert (folder / "labels" / "final" / "one.nii.gz").is_file()
    with pytest.raises(Exception, match="no label"):
        client.download_label("one", "original")


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".hidden", "x" * 200])
def test_no_name_leaves_the_folder(client, name, folder, tmp_path):
    file = tmp_path / "image.nii.gz"
    shutil.copy(folder / "three_flair.nii.gz", file)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Exception, match="plain name"):
        client.upload_image(str(file), name)
    with pytest.raises(Exception, match="plain name"):
        client.save_label("one", str(file), tag=name)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_uploaded_image_is_listed_and_never_overwritten(client, folder, tmp_path):
    file = tmp_path / "new.nii.gz"
    shutil.copy(folder / "three_flair.nii.gz", file)
    assert client.upload_image(str(file), "four") == {"image": "four"}
    assert "four" in client.datastore()["objects"]
    with pytest.raises(Exception, match="never overwritten"):
        client.upload_image(str(file), "four")


def test_an_archive_that_points_out_of_its_folder_stays_inside(client, folder, tmp_path):
    evil = tmp_path / "evil.zip"
    flair = (folder / "three_flair.nii.gz").read_bytes()
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("../../../escaped_flair.nii.gz", flair)
    client.infer("quick", "", {}, file=str(evil))
    assert not [*tmp_path.parent.rglob("escaped*")]


def test_damaged_images_are_refused_in_words(client, tmp_path):
    for name, content in (
        ("a.nii.gz", b"not gzip"),
        ("b.nii.gz", gzip.compress(b"no nifti")),
        ("c.zip", b"PK\x03\x04 but no more"),
        ("d.exe", b"MZ"),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(Exception, match="Status: 4"):
            client.infer("quick", "", {}, file=str(file))


def test_training_is_refused_in_words_and_none_is_running(client):
    assert client.train_status(check_if_running=True) is False
    with pytest.raises(Exception, match="lesionlens train"):
        client.train_start("quick", {})
    assert client.train_stop() == {}


def test_the_key_is_the_password(client_class, folder, tmp_path):
    with serving({"quick": quick()}, keys=(KEY,), datastore=folder) as server:
        client = client_class(server.url, tmpdir=str(tmp_path))
        assert client.auth_enabled()
        with pytest.raises(Exception, match="401"):
            client.info()
        with pytest.raises(Exception, match="401"):
            client.auth_token("anybody", "a wrong password")
        client.update_auth(client.auth_token("anybody", KEY))
        assert client.auth_valid_token()
        assert client.info()["models"]


def test_what_was_sent_goes_with_the_server(client_class, folder, tmp_path, temporary):
    with serving({"quick": quick()}, Limits(), datastore=folder) as server:
        client = client_class(server.url, tmpdir=str(tmp_path))
        client.create_session(str(folder / "two.zip"))
        kept = [*temporary.glob(f"{PREFIX}*/*/*/*")]
        assert kept
        assert (kept[0].parents[1].stat().st_mode & 0o077) == 0
    assert not any(file.exists() for file in kept)


def test_a_segmentation_in_dicom_names_the_images_it_is_of(client_class, make_study, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    requests = pytest.importorskip("requests")
    place = tmp_path / "datastore"
    place.mkdir()
    shutil.copytree(make_study(name="scan", dicom=True), place / "scan")
    with serving({"quick": quick()}, datastore=place) as server:
        url = f"{server.url}/infer/quick?image=scan&output=dicom_seg"
        answer = requests.post(url, timeout=120)
        assert answer.headers["content-type"] == "application/dicom", answer.text[:300]
        seg = pydicom.dcmread(io.BytesIO(answer.content))
        assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
        assert seg.ReferencedSeriesSequence


@pytest.mark.parametrize("image", ["one", "two", "three_flair"])
def test_the_next_sample_is_an_image_that_a_viewer_loads(
    server, image, folder, tmp_path, temporary
):
    for other in {"one", "two", "three_flair"} - {image}:
        label = folder / "labels" / "final" / f"{other}.nii.gz"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.touch()
    sample = requests.post(f"{server.url}/activelearning/first", json={}, timeout=30).json()
    assert sample["id"] == image
    answer = requests.get(
        f"{server.url}/datastore/image", params={"image": sample["id"]}, timeout=60
    )
    assert answer.ok
    digest = hashlib.sha256(answer.content).hexdigest()
    assert sample["checksum"] == f"SHA256:{digest}"  # else it shows what its cache has of this name
    file = tmp_path / sample["name"]  # so 3D Slicer's plug-in names it, and goes by the suffix
    file.write_bytes(answer.content)
    reference = next((folder / "one").glob("*flair*" if image == "three_flair" else "*t1c*"))
    np.testing.assert_allclose(labels_in(file), labels_in(reference), rtol=1e-4)
    assert np.allclose(nib.load(file).affine, nib.load(reference).affine, atol=1e-4)
    left = [name for _, _, names in os.walk(temporary) for name in names]  # others come and go
    assert not [name for name in left if name.startswith("three")]


@pytest.mark.parametrize("name", ["case_flair.nii.gz", "scan.nii.gz"])
def test_a_session_of_one_volume_finds_its_sequence_by_itself(server, folder, name, monkeypatch):
    """By its name, else by what the classifier of images says."""
    models = requests.get(f"{server.url}/info/", timeout=30).json()["models"]
    assert models["quick"]["config"]["sequence"] == ["auto", "t1", "t1c", "t2", "flair"]
    judged = Guess(MrSequence.FLAIR, "the image itself, 95%", 0.5)
    monkeypatch.setattr(sequence_from_image, "judge", lambda series: judged)
    found = infer_alone(server, folder / "three_flair.nii.gz", name)
    assert found.ok, found.text
    ((sequence, used),) = found.json()["findings"]["sequences"].items()
    assert sequence == "flair"
    assert ("image" in used["detected_by"]) == ("flair" not in name)


def test_a_volume_in_doubt_is_taken_for_the_likeliest_and_the_answer_says_so(
    server, folder, monkeypatch
):
    """T1 and T1c are confused most: then what enhances is in doubt."""
    judged(monkeypatch, (MrSequence.T1C, 0.72), (MrSequence.T1, 0.26))
    found = infer_alone(server, folder / "three_flair.nii.gz", "scan.nii.gz")
    assert found.ok, found.text
    ((sequence, used),) = found.json()["findings"]["sequences"].items()
    assert sequence == "t1c"
    assert "in doubt: T1c (72%), else T1 (26%)" in used["detected_by"]
    (notice,) = [n for n in found.json()["notices"] if n.startswith("In doubt")]
    assert '"sequence": "t1"' in notice
    assert "Whether contrast was given is in doubt" in notice
    model = requests.get(f"{server.url}/info/", timeout=30).json()["models"]["quick"]
    assert "the response's notices report that" in model["description"]


@pytest.mark.parametrize("likeliest", [(), ((MrSequence.T1C, 0.59), (MrSequence.T1, 0.4))])
def test_a_volume_whose_sequence_nothing_tells_is_refused_with_the_word_to_send(
    server, folder, monkeypatch, likeliest
):
    judged(monkeypatch, *likeliest)
    refused = infer_alone(server, folder / "three_flair.nii.gz", "scan.nii.gz")
    assert refused.status_code == 422
    assert '"sequence"' in refused.json()["next_step"]


def judged(monkeypatch, *likeliest):
    """Let the classifier of images be unsure."""
    unsure = Guess(None, "nothing identifies the sequence", 0.0, ranked=likeliest)
    monkeypatch.setattr(sequence_from_image, "judge", lambda series: unsure)


def infer_alone(server, file, name):
    """Send one volume under a name, as 3D Slicer's plug-in does, and ask for its figures."""
    sent = {"files": (name, file.read_bytes())}
    begun = requests.put(f"{server.url}/session/", files=sent, timeout=30)
    where = {"session_id": begun.json()["session_id"], "output": "json"}
    params = {"params": '{"sequence": "auto"}'}
    return requests.post(f"{server.url}/infer/quick", params=where, data=params, timeout=120)


def documented_proxy(to, port, place):
    """The location that docs/how-to/serve.md gives for nginx, as a whole configuration."""
    page = (REPOSITORY / "docs/how-to/serve.md").read_text(encoding="utf-8")
    location = page[page.index("location /lens/") :].split("```")[0]
    assert "http://127.0.0.1:8000/" in location
    location = location.replace("http://127.0.0.1:8000", to)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {place}/{kind};" for kind in kinds)
    return (
        f"daemon off; pid {place}/pid; error_log {place}/error.log; events {{}}\n"
        f"http {{ access_log off; {folders}\n"
        f"server {{ listen 127.0.0.1:{port};\n{location}}} }}"
    )


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx")
def test_a_client_with_a_key_is_served_through_nginx_as_documented(client_class, folder, tmp_path):
    """With a key it repeats the length of earlier bodies in requests that have none."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving({"quick": quick()}, keys=(KEY,), datastore=folder) as server:
        file = tmp_path / "nginx.conf"
        file.write_text(documented_proxy(server.url, port, tmp_path), encoding="utf-8")
        nginx = subprocess.Popen(["nginx", "-c", str(file), "-e", str(tmp_path / "error.log")])
        try:
            client = client_class(f"http://127.0.0.1:{port}/lens", tmpdir=str(tmp_path))
            until = time.monotonic() + 20
            while nginx.poll() is None and time.monotonic() < until:
                try:
                    client.update_auth(client.auth_token("anybody", KEY))
                    break
                except ConnectionError:
                    time.sleep(0.05)
            assert client.next_sample("first", {})["id"]
            started = time.monotonic()
            assert client.info()["name"] == "LesionLens"
            assert time.monotonic() - started < 20, "nginx waited for a body that is never sent"
        finally:
            nginx.terminate()
            nginx.wait(20)
