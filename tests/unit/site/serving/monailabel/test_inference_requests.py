"""What a request for an inference holds is used, or refused before anything is computed."""

import io
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import requests

pytest.importorskip("fastapi")

from tests.serving_here import QuickEngine, serving

from lesionlens.base.records.prediction import Capability
from lesionlens.site.serving.monailabel import interactive

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
