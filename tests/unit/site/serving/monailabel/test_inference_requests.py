"""What a request for an inference holds is used, or refused before anything is computed."""

import io
import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import requests
import threadpoolctl

pytest.importorskip("fastapi")

from tests.helpers.local_server import QuickEngine, becomes_true, serving
from tests.helpers.stale_share import make_stale

from lesionlens.base.labels import MrSequence, Region, naming_advice
from lesionlens.base.records.prediction import Capability
from lesionlens.base.records.study import failed_check
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results import lens
from lesionlens.results.lens import Lens
from lesionlens.site.serving.monailabel import interactive
from lesionlens.site.serving.sessions import Limits

JSON = {"Content-Type": "application/json"}
POINTS = {"foreground": [[30, 30, 30]]}


@pytest.fixture
def url(tmp_path, make_study, monkeypatch):
    """The address of a server with one study, which is never prepared."""

    def prepare(study, context):
        raise AssertionError("prepared")

    monkeypatch.setattr(interactive, "prepare", prepare)
    shutil.copytree(make_study(name="one"), tmp_path / "datastore" / "one")
    engine = QuickEngine(can=frozenset({Capability.SEGMENT}))
    with serving({"quick": engine}, datastore=tmp_path / "datastore") as server:
        yield f"{server.url}/infer/quick-points?image=one&output=json"


def refusal(answer):
    assert answer.status_code == 422
    return answer.json()["found"]


def test_a_body_that_is_no_form_is_refused(url):
    """It was ignored: a sequence named in JSON had no effect, and points were not found."""
    answer = requests.post(url, data=json.dumps(POINTS), headers=JSON, timeout=20)
    assert refusal(answer) == "a body of type 'application/json', without a field"
    answer = requests.post(url, data=b"voxels", headers={"Content-Type": "text/x"}, timeout=20)
    assert refusal(answer) == "a body of type 'text/x', without a field"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.post(url, data=b"--x--\r\n", headers=headers, timeout=20)
    assert "without a field" in refusal(answer)


def test_a_field_that_is_not_used_is_refused(url):
    """`curl -d` sends JSON as the name of a field."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = requests.post(url, data=json.dumps(POINTS), headers=form, timeout=20)
    assert "form" in refusal(answer)
    answer = requests.post(url, files={"parameters": (None, json.dumps(POINTS))}, timeout=20)
    assert refusal(answer) == "the form field 'parameters'"


@pytest.mark.parametrize(
    "params",
    [
        {"foreground": [[3000, 30, 30]]},
        {"foreground": [[30, 30, 30]], "background": [[30, -1, 30]]},
        {"roi": [10, 20, 10, 20, 10, 2000]},
    ],
)
def test_a_prompt_outside_the_image_is_refused_before_the_preparation(url, params):
    """The refusal came after half a minute."""
    answer = requests.post(url, data={"params": json.dumps(params)}, timeout=20)
    assert refusal(answer).startswith("a prompt at the voxel")


def test_a_label_map_on_another_grid_is_refused_before_the_preparation(url):
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4))
    content = io.BytesIO(image.to_bytes())
    answer = requests.post(
        url,
        data={"params": json.dumps(POINTS)},
        files={"label": ("label.nii", content)},
        timeout=20,
    )
    assert refusal(answer).startswith("a label map of (4, 5, 6) voxels")


@pytest.mark.parametrize("content", [b"no label map", b"\x1f\x8bno label map", b""])
def test_what_is_no_label_map_is_refused_before_the_preparation(url, content):
    answer = requests.post(
        url,
        data={"params": json.dumps(POINTS)},
        files={"label": ("label.nii", io.BytesIO(content))},
        timeout=20,
    )
    assert refusal(answer).startswith("a label map that cannot be used")


@pytest.mark.parametrize(
    ("query", "params", "says"),
    [
        ("output=dicom_seg&image=one", POINTS, "a request for a DICOM Segmentation with points"),
        ("output=json", POINTS, "neither an image nor a file nor a session"),
        ("output=json&image=one", "{", "params that are not a JSON object"),
        ("output=json&image=one", {"foreground": [[1, 2]]}, "[1, 2], a list, is not a voxel"),
        ("output=json&image=one", {"foreground": "ab"}, "'ab', a str, is not a voxel"),
        ("output=json&image=one", {"foreground": [[1, None, 3]]}, "is not a voxel"),
        ("output=json&image=one", {"roi": [1, 2]}, "[1, 2], a list, as a roi"),
    ],
)
def test_what_a_request_lacks_is_named(url, query, params, says):
    data = {"params": params if isinstance(params, str) else json.dumps(params)}
    answer = requests.post(f"{url.partition('?')[0]}?{query}", data=data, timeout=20)
    assert says in refusal(answer)


@pytest.fixture
def server(tmp_path, make_study, coarse):
    """A server with one study of which nothing is flagged, and a DICOM study."""

    class Dim(QuickEngine):
        def _brightness(self, prepared):
            return 0.1 * super()._brightness(prepared)

    for name, dicom in (("one", False), ("dicom", True)):
        shutil.copytree(make_study(dicom=dicom, name=name), tmp_path / "datastore" / name)
    can = frozenset({Capability.SEGMENT})
    with serving({"dim": Dim(can=can)}, datastore=tmp_path / "datastore") as server:
        yield server


@pytest.mark.parametrize(
    ("image", "says"), [("one", "the study is not DICOM"), ("dicom", "no region is flagged")]
)
def test_a_segmentation_that_would_be_empty_or_of_no_images_is_refused(server, image, says):
    answer = requests.post(f"{server.url}/infer/dim?image={image}&output=dicom_seg", timeout=60)
    assert says in refusal(answer)


def bytes_of(prompted_studies):
    return sum(study.bytes for study in [*prompted_studies._cached.values()])


def test_prompts_state_what_is_doubtful_about_the_images_as_an_analysis_does(server, monkeypatch):
    """That an image was taken for its likeliest sequence was stated by the analysis alone."""
    advice = naming_advice(MrSequence.T2)  # of which a client can follow no part
    doubts = f"Not certain: {advice}.", "It looks like another sequence."
    opened, checked = interactive.study_of, interactive.prepare
    monkeypatch.setattr(
        interactive, "study_of", lambda *given: replace(opened(*given), notices=doubts[:1])
    )
    failed = (failed_check("names", doubts[1]),)
    monkeypatch.setattr(
        interactive, "prepare", lambda *given: replace(checked(*given), quality=failed)
    )
    url = f"{server.url}/infer/dim-points?image=one&output=json"
    answer = requests.post(url, data={"params": json.dumps(POINTS)}, timeout=60)
    notices = answer.json()["notices"]
    assert {"Not certain: send the file with T2 in its name.", doubts[1]} <= {*notices}


def test_a_segmentation_of_no_dicom_study_is_refused_before_the_analysis(server, monkeypatch):
    """The whole study was analysed first."""

    def analyse(lens, study, **_):
        raise AssertionError("analysed")

    monkeypatch.setattr(Lens, "__call__", analyse)
    answer = requests.post(f"{server.url}/infer/dim?image=one&output=dicom_seg", timeout=60)
    assert "the study is not DICOM" in refusal(answer)


def test_prompts_on_a_study_in_memory_are_answered_and_checked_too(server):
    """The second study takes the room of the first, which is prepared again."""
    adapter = server.app.state.monailabel
    adapter.prompted_studies._max_bytes = 1

    def ask(image, params):
        url = f"{server.url}/infer/dim-points?image={image}&output=json"
        return requests.post(url, data={"params": json.dumps(params)}, timeout=60)

    first = ask("one", POINTS)
    assert first.headers["content-type"] == "application/json"
    assert first.json()["prompts"]["points"] == [[[30, 30, 30], True]]
    assert refusal(ask("one", {"foreground": [[3000, 30, 30]]})).startswith("a prompt at the voxel")
    held = bytes_of(adapter.prompted_studies)
    assert ask("dicom", POINTS).ok
    assert bytes_of(adapter.prompted_studies) <= 1.5 * held
    again = ask("one", POINTS).json()
    assert again | {"latencies": None} == first.json() | {"latencies": None}


def test_prompts_are_answered_beside_the_probability_of_an_analysis(
    tmp_path, make_study, monkeypatch
):
    """It was not rounded as in files, with what is bright on T1, and sums had other last digits."""
    image, counts = make_study(name="one"), []

    class Counting(QuickEngine):
        def predict(self, prepared, *, context):
            blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
            counts.extend(library["num_threads"] for library in blas.info())
            return super().predict(prepared, context=context)

    def without_enhancement(prediction, prepared):
        none = np.zeros(prepared.working.shape, np.float32)
        return replace(prediction, probability={**prediction.probability, Region.ET: none})

    for module in (lens, interactive):
        monkeypatch.setattr(module, "without_t1_hyperintensity", without_enhancement)
    analysed = Lens(engine=Counting())(open_study(image)).probability
    counts.clear()
    with (
        threadpoolctl.threadpool_limits(2, "blas"),
        serving({"quick": Counting()}, datastore=image.parent) as server,
    ):
        url = f"{server.url}/infer/quick-points?image=one&output=json"
        assert requests.post(url, data={"params": json.dumps(POINTS)}, timeout=60).ok
        (study,) = server.app.state.monailabel.prompted_studies._cached.values()
    assert analysed["wt"].data.any()
    for region, probability in study.probability._probability.items():
        np.testing.assert_array_equal(probability, analysed[region].data)
    assert set(counts) == {1}


def test_idle_sessions_end_beside_an_image_on_a_stale_share(tmp_path, make_study, monkeypatch):
    """The thread that ends them had died, with the path of the image in the log."""
    image = make_study(name="one", sequences={"t1c"})
    limits = Limits(heartbeat_s=0.6)
    with serving({"quick": QuickEngine()}, limits, datastore=image.parent) as server:
        url = f"{server.url}/infer/quick-points?image=one&output=json"
        assert requests.post(url, data={"params": json.dumps(POINTS)}, timeout=60).ok
        prompted_studies = server.app.state.monailabel.prompted_studies
        assert bytes_of(prompted_studies) > 0
        make_stale(monkeypatch, image)
        assert becomes_true(lambda: bytes_of(prompted_studies) == 0)
        requests.post(f"{server.url}/v1/sessions", json={}, timeout=20)
        assert becomes_true(lambda: server.sessions.state()["sessions"] == 0)
