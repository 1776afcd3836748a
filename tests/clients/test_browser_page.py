"""The page that runs the network in a browser: equal to the engine onnx, and no connection.

Needs npm, which fetches its parts once, and the browser of `tests/clients/system_packages.txt`.
BROWSER_PICTURES names a folder for a picture; BROWSER_NETWORK a file of `lesionlens export-model`
to be tried on the sample study in place of the small untrained one on a synthetic head.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("onnxruntime")
from tests.clients import ohif
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import write_study

from lesionlens import Lens, open_study
from lesionlens.base import geometry
from lesionlens.base.errors import GeometryError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.engines.onnx.engine import OnnxEngine
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.prepare import PrepareOptions
from lesionlens.imaging.preparation.resampling import resample
from lesionlens.imaging.preparation.thick_slices import divide_slices
from lesionlens.imaging.preparation.working_grid import _working_grid
from lesionlens.imaging.reading.nifti.header import read_header

sys.path.insert(0, str(Path(__file__).parents[2] / "web"))
from make_page import PAGE, fetch_packages, write_page

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
READ = (
    "import {{read}} from './prepare.js'; import fs from 'fs';"
    "const {{buffer, byteOffset, length}} = fs.readFileSync('{}');"
    "let said; try {{ said = {{affine: read(buffer.slice(byteOffset, byteOffset + length), 'a')"
    ".affine}} }} catch (error) {{ said = {{refused: error.message}} }}"
    "console.log(JSON.stringify(said))"
)
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


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """`node(words)`: what the page's modules answer, without a browser."""
    folder = shutil.copytree(PAGE, tmp_path_factory.mktemp("node") / "page")
    (folder / "node_modules").symlink_to(fetch_packages())

    def answer(words):
        command = [shutil.which("node"), "--input-type=module", "-e", words]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return json.loads(ended.stdout)

    return answer


def test_cubes_lie_as_the_programs_do(node):
    """Of slices of 1.2 mm, which float32 stores as a little more, and of an oblique scan."""
    turn = Rotation.from_euler("xyz", (8, -5, 17), degrees=True).as_matrix()
    for linear in (np.diag([1.0, 1.0, np.float32(1.2)]), turn @ np.diag([0.7, 0.7, 3.0])):
        affine, shape = np.eye(4), (150, 160, 200)
        affine[:3, :3] = np.asarray(linear, np.float32)
        wanted, counts = geometry.ras_grid(affine, shape, 1.0)
        grid = json.dumps({"shape": shape, "affine": affine.tolist()})
        found = node(
            f"import {{rasGrid}} from './grid.js'; console.log(JSON.stringify(rasGrid({grid}, 1)))"
        )
        assert tuple(found["shape"]) == counts
        np.testing.assert_allclose(found["affine"], wanted, atol=1e-6)


def test_oblique_scans_are_resampled_as_by_the_program(node, tmp_path):
    """Edges of 3 mm, from which slices are thick, are a little less or more in float32."""
    rng, cases, wanted = np.random.default_rng(0), [], []
    for number in range(8):
        turn = Rotation.from_euler("xyz", rng.uniform(-20, 20, 3), degrees=True).as_matrix()
        affine, edges = np.eye(4), [(0.9375, 0.9375, 3.0), (3.0, 1.2, 3.0)][number % 2]
        affine[:3, :3] = turn[:, rng.permutation(3)] * rng.choice([-1, 1], 3) * edges
        affine = affine.astype(np.float32).astype(np.float64)
        values = rng.random((12, 14, 8), np.float32) * 900
        source = Grid(values.shape, affine)
        target, shape = geometry.ras_grid(affine, source.shape, 1.0)
        wanted.append(resample(*divide_slices(values, source, 1.0), Grid(shape, target)))
        grids = {"source": (source.shape, affine), "target": (shape, target)}
        cases.append(
            {name: {"shape": n, "affine": a.tolist()} for name, (n, a) in grids.items()}
            | {"values": values.ravel().tolist()}
        )
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    found = node(
        "import fs from 'fs'; import {resample} from './resample.js';"
        "import {divided} from './thick_slices.js';"
        f"const cases = JSON.parse(fs.readFileSync('{tmp_path}/cases.json'));"
        "console.log(JSON.stringify(cases.map(({source, target, values}) => {"
        "const thin = divided({...source, values: Float32Array.from(values)}, 1);"
        "return [...resample(thin.values, thin, target)]})))"
    )
    for theirs, ours in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.reshape(theirs, ours.shape), ours, atol=0.05)


def test_around_a_brain_at_the_edge_of_the_image_the_grid_is_the_programs(node):
    """Of an image that was cropped to the brain's own box."""
    shape, affine = (90, 100, 80), np.diag([1.6, 1.6, 1.6, 1.0])
    i, j, k = np.ogrid[:90, :100, :80]
    brain = ((i - 44.5) / 46) ** 2 + ((j - 49.5) / 51) ** 2 + ((k - 39.5) / 41) ** 2 < 1
    native = Grid(shape, affine)
    found = node(
        "import {prepare} from './prepare.js'; const values = new Float32Array(90 * 100 * 80);"
        "let n = 0; for (let i = 0; i < 90; i++) for (let j = 0; j < 100; j++)"
        "for (let k = 0; k < 80; k++) values[n++] = ((i - 44.5) / 46) ** 2 +"
        "((j - 49.5) / 51) ** 2 + ((k - 39.5) / 41) ** 2 < 1 ? 500 + n % 7 : 0;"
        f"const grid = {{shape: {list(shape)}, affine: {affine.tolist()}}};"
        "const {grid: made} = await prepare({t1c: {...grid, values, name: 'a'}}, null);"
        "console.log(JSON.stringify(made))"
    )
    wanted = _working_grid(Volume(brain, native), native, 1.0)
    assert tuple(found["shape"]) == wanted.shape
    np.testing.assert_allclose(found["affine"], wanted.affine, atol=1e-6)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 2), (2, 1)])
def test_a_file_lies_where_the_program_reads_it(node, tmp_path, codes):
    path, (sform, qform) = tmp_path / "t1c.nii", codes
    _save(path, sform, qform, np.diag([1.0, 1.0, 1.0, 1.0]))
    header = nib.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == codes
    np.testing.assert_allclose(node(READ.format(path))["affine"], read_header(path).grid.affine)


def test_a_file_that_contradicts_itself_on_which_side_is_left_is_refused(node, tmp_path):
    path = tmp_path / "t1c.nii"
    _save(path, 1, 1, np.diag([-1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(GeometryError, match="disagree on which side is left"):
        read_header(path)
    assert "disagree on which side is left" in node(READ.format(path))["refused"]


def _save(path, sform, qform, change):
    """Write a scan whose qform lies 7 mm above its sform, with another `change`."""
    affine = np.array([[-1.0, 0, 0, 20], [0, 1, 0, -20], [0, 0, 1.5, -30], [0, 0, 0, 1]])
    voxels = np.random.default_rng(0).integers(0, 900, (40, 44, 48)).astype(np.int16)
    image = nib.Nifti1Image(voxels, None)
    image.header["vox_offset"] = 352
    image.header.set_sform(affine, sform)
    image.header.set_qform((affine @ change) + np.outer((0, 0, 7, 0), (0, 0, 0, 1)), qform)
    with path.open("wb") as file:
        file.write(image.header.binaryblock + bytes(4) + voxels.tobytes(order="F"))


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
