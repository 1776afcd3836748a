"""The page that runs the network in a browser: equal to the engine onnx, and no connection.

Needs npm, which fetches its parts once, and the browser of `tests/clients/system_packages.txt`.
BROWSER_PICTURES names a folder for a picture; BROWSER_NETWORK a file of `lesionlens export-model`
to be tried on the sample study in place of the small untrained one on a synthetic head.
"""

import base64
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from tests.clients import ohif
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import write_study

from lesionlens import Lens, open_study
from lesionlens.base.labels import MrSequence, Region
from lesionlens.engines.onnx.engine import OnnxEngine
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.prepare import PrepareOptions

sys.path.insert(0, str(Path(__file__).parents[2] / "web"))
from make_page import fetch_packages, write_page

LACKS = ", ".join(name for name in ("npm", "chromium") if shutil.which(name) is None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(LACKS), reason=f"not installed: {LACKS}"),
]
REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "tests/unit/engines/onnx/tiny.onnx"
CLOSE = 2e-3
"""Of probability at every voxel, five times as much of attention."""
WITH_SKULL = 1e-3
"""Of the sample, whose brain is found first; measured: 1.3e-4, of attention 2.3e-5."""
MAX_OTHERS = 5
"""Voxels of brain that may lie on the other side of the cut; measured: none."""
SEND = """
const said = (a) => {
  const bytes = new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
  let text = '';
  for (let n = 0; n < bytes.length; n += 32768)
    text += String.fromCharCode(...bytes.subarray(n, n + 32768));
  return btoa(text);
};
"""


@pytest.fixture(scope="module")
def network():
    return Path(os.environ.get("BROWSER_NETWORK", TINY))


@pytest.fixture(scope="module")
def study(tmp_path_factory, network):
    """A head with its skull off, stored as a scanner does: turned axes, thick slices for FLAIR."""
    if network != TINY:
        return REPOSITORY / "sample_data" / "study"
    folder = tmp_path_factory.mktemp("study")
    thick = Acquisition("LPS", (3.0, 3.0, 6.0))
    for sequence, how in ((MrSequence.T1C, Acquisition("LPS")), (MrSequence.FLAIR, thick)):
        write_study(make_patient(spacing_mm=3.0), folder, sequences=(sequence,), how=how)
    return folder


@pytest.fixture(scope="module")
def engine(network):
    return OnnxEngine("cpu", network)


@pytest.fixture(scope="module")
def page(tmp_path_factory, network, engine):
    fetch_packages()
    path = tmp_path_factory.mktemp("page") / "lens.html"
    write_page(network, engine._weights_info, path)
    return path


@pytest.fixture(scope="module")
def shown(tmp_path_factory, page, study):
    """The page, opened as a file, with the study read."""
    with ohif.browser(tmp_path_factory.mktemp("browser")) as found:
        found.call("Network.enable")
        found.call("Page.navigate", url=page.as_uri())
        found.until("document.readyState === 'complete'")
        found.choose("#choose", sorted(study.rglob("*.nii*")))
        found.until("!document.getElementById('read').disabled")
        found.run("document.getElementById('read').click()")
        time.sleep(1)
        found.until("!document.body.classList.contains('busy')", 900)
        yield found


@pytest.fixture(scope="module")
def expected(engine, study):
    engine._weights_info = replace(
        engine._weights_info, agreement=None
    )  # the page scores by its first pass
    options = PrepareOptions(cache=False, register=False)
    return Lens(engine=engine)(open_study(study), options)


def array(page, words, dtype=np.float32):
    shape = page.run("return lesionlens.result.grid.shape")
    text = page.run(f"{SEND} return said(lesionlens.result.{words})")
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def test_it_prepares_a_study_as_the_program_does(shown, expected):
    prepared = expected.analysis.prepared
    grid = shown.run("return lesionlens.result.grid")
    assert tuple(grid["shape"]) == prepared.working.shape
    np.testing.assert_allclose(grid["affine"], prepared.working.affine, atol=1e-4)
    brain = array(shown, "brain", np.uint8).astype(bool)
    assert np.count_nonzero(brain != prepared.brain) <= MAX_OTHERS
    for index, there in enumerate(prepared.present):
        if there:
            ours, theirs = prepared.channels[index], array(shown, f"channels[{index}]")
            np.testing.assert_allclose(theirs, ours, atol=1e-3 * float(np.ptp(ours)))


def test_probability_and_attention_are_the_programs(shown, expected, network):
    close, alike = (CLOSE, 5 * CLOSE) if network == TINY else (WITH_SKULL, WITH_SKULL)
    prediction, maps = expected._prediction, expected.analysis.maps
    for index, region in enumerate(Region):
        theirs = array(shown, f"probability[{index}]")
        assert np.abs(theirs - prediction.probability[region]).max() < close
        attention = array(shown, f"attention[{index}].map")
        assert np.abs(attention - maps.maps[region]).max() < alike


def test_its_candidates_are_the_programs(shown, expected):
    theirs = shown.run("return lesionlens.result.candidates")
    ours = expected.candidates
    assert len(theirs) == len(ours)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(one["centroid_mm"], other.centroid_mm, atol=0.5)
        assert one["score"] == pytest.approx(other.score, abs=0.01)
    words = shown.run("return document.body.innerText")
    assert expected.analysis.findings.conclusion in words
    assert "Research use only" in words
    assert "Not a medical device" in words
    assert "normal" not in words.lower()


def test_left_stays_left(shown, expected):
    """The patient's right stands on the left of an axial slice, whatever the file's axes."""
    letters = shown.run(
        "return ['axial', 'coronal', 'sagittal'].map(n => document.getElementById(n + '-letters')"
        ".textContent)"
    )
    assert letters == ["RLAP", "RLSI", "APSI"]
    place = shown.run(
        "document.getElementById('contour').checked = false;"
        "document.getElementById('attention').checked = false;"
        "document.getElementById('contour').onchange();"
        "const c = document.getElementById('axial');"
        "const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return {place: lesionlens.place, width: c.width, row: [...Array(c.width / 3).keys()]"
        ".map(x => p[4 * (Math.floor(c.height / 6) * 3 * c.width + 3 * x + c.width + 1)])}"
    )
    prepared = expected.analysis.prepared
    index = list(MrSequence).index(prepared.reference)
    shape = prepared.working.shape
    line = prepared.channels[index][::-1, shape[1] - 1 - shape[1] // 2, place["place"][2]]
    drawn = np.array(place["row"], float)
    right, wrong = (np.corrcoef(drawn, np.clip(one, 0, None))[0, 1] for one in (line, line[::-1]))
    assert right > 0.95
    assert right > wrong
    shown.run(
        "for (const n of ['contour', 'attention']) document.getElementById(n).checked = true;"
        "document.getElementById('contour').onchange()"
    )
    if "BROWSER_PICTURES" in os.environ:
        folder = Path(os.environ["BROWSER_PICTURES"])
        shown.picture(folder / "browser.png")


def test_the_browser_forbids_it_every_connection(shown):
    before = shown.console[:]
    assert not [entry for entry in before if "Refused" in entry or "violates" in entry]
    tried = shown.run(
        "try { await fetch('https://example.com/'); return 'sent' } catch { return 'refused' }"
    )
    assert tried == "refused"
    time.sleep(0.5)
    reported = "".join(shown.console[len(before) :])
    assert "connect-src 'none'" in reported
