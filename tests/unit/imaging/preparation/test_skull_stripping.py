"""Programs for brain extraction, played by a stand-in on PATH."""

import os
import select
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from lesionlens.base.errors import CancelledError, MissingPluginError, ResourceError
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.cli import options
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation import brain_extraction, skull_stripping
from lesionlens.imaging.preparation.brain import BrainMask
from lesionlens.imaging.preparation.brain_extraction import find_brain
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.readers import open_study

GOOD = """
import sys, numpy as np, nibabel as nib
image = nib.load(sys.argv[sys.argv.index("-i") + 1])
mask = (np.asanyarray(image.dataobj) > 400).astype("u1")
nib.Nifti1Image(mask, image.affine).to_filename(sys.argv[sys.argv.index("-m") + 1])
"""
CUT = """
import sys
with open(sys.argv[sys.argv.index("-m") + 1], "wb") as mask:
    mask.write(open(sys.argv[sys.argv.index("-i") + 1], "rb").read()[:4000])
"""
OTHER_GRID = GOOD.replace("image.affine)", "np.eye(4))")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    def make(code):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "mri_synthstrip"
        program.write_text(f"#!{sys.executable}\n{code}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return make


COARSE = PrepareOptions(edge_mm=4.0, cache=False)
"""The grid that the head is drawn on."""


@pytest.fixture(scope="module")
def patient():
    return make_patient(spacing_mm=4.0, skull=True)


@pytest.fixture(scope="module")
def head(patient):
    return patient.sequences[MrSequence.T1]


@pytest.fixture
def head_study(make_study, patient):
    return open_study(make_study(patient=patient, sequences={"t1"}))


def test_the_program_s_mask_is_taken(stand_in, head):
    stand_in(GOOD)
    assert skull_stripping.installed() == ("synthstrip",)
    found = skull_stripping.strip("synthstrip", head.data, head.grid)
    np.testing.assert_array_equal(found.mask, head.data > 400)
    assert found.method == "synthstrip"


def test_the_program_does_not_read_the_caller_s_input(stand_in, head):
    """In a loop over a list of studies it swallowed the rest of the list."""
    stand_in(f"import sys\nsys.stdin.read()\n{GOOD}")
    own_input, (reading, writing) = os.dup(0), os.pipe()
    try:
        os.dup2(reading, 0)
        os.write(writing, b"next study")
        os.close(writing)
        skull_stripping.strip("synthstrip", head.data, head.grid)
        assert os.read(0, 99) == b"next study"
    finally:
        os.dup2(own_input, 0)
        os.close(own_input)
        os.close(reading)


def test_preparation_uses_the_program_that_is_asked_for(stand_in, head_study):
    stand_in(GOOD)
    prepared = prepare(head_study, RunContext(), replace(COARSE, stripper="synthstrip"))
    assert any("synthstrip" in step.message for step in prepared.steps)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no weights')", "no weights"),
        ("pass", "no mask file"),
        (OTHER_GRID, "a different grid"),
        ("open(__import__('sys').argv[-1], 'w').write('no image')", "a mask that cannot be read"),
        (CUT, "a mask that cannot be read"),
        ("import time; time.sleep(600)", "no answer within"),
    ],
)
def test_a_failure_is_named(stand_in, head, code, words, monkeypatch):
    stand_in(code)
    if "sleep" in code:
        monkeypatch.setattr(skull_stripping, "TIME_LIMIT_S", 0.2)
    with pytest.raises(ResourceError, match=words):
        skull_stripping.strip("synthstrip", head.data, head.grid)


def test_a_program_whose_interpreter_is_gone_is_named(stand_in, head, tmp_path):
    """As of an environment that was deleted; it ended the analysis without a reason."""
    stand_in(GOOD)
    program = tmp_path / "bin/mri_synthstrip"
    program.write_text("#!/nowhere/python\n")
    with pytest.raises(ResourceError, match="cannot be started: No such file"):
        skull_stripping.strip("synthstrip", head.data, head.grid)


def test_a_request_to_stop_ends_the_program(stand_in, head):
    stand_in("import time; time.sleep(600)")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(CancelledError):
        skull_stripping.strip("synthstrip", head.data, head.grid, context=RunContext(cancel=stop))


@pytest.mark.skipif(sys.platform == "win32", reason="there the program alone is ended")
def test_a_request_to_stop_ends_the_workers_of_the_program(stand_in, head, tmp_path):
    """They continued, with the processors and the GPU in use."""
    os.mkfifo(tmp_path / "open")
    reading = os.open(tmp_path / "open", os.O_RDONLY | os.O_NONBLOCK)
    worker = (
        "import sys, time\npipe = open(sys.argv[1], 'wb', 0)\npipe.write(b'.')\ntime.sleep(120)"
    )
    stand_in(f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {worker!r}, {str(tmp_path / "open")!r}])
time.sleep(120)
""")
    stop = threading.Event()
    ready = threading.Thread(target=lambda: select.select([reading], [], [], 60) and stop.set())
    ready.start()
    try:
        with pytest.raises(CancelledError):
            skull_stripping.strip(
                "synthstrip", head.data, head.grid, context=RunContext(cancel=stop)
            )
        assert os.read(reading, 1) == b"."
        assert select.select([reading], [], [], 10)[0], "the worker still holds the pipe open"
        assert os.read(reading, 1) == b""
    finally:
        ready.join()
        os.close(reading)


@pytest.mark.parametrize("name", ["hd-bet", "nothing"])
def test_a_program_that_is_not_there_is_named(monkeypatch, head, name):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingPluginError, match=name):
        skull_stripping.strip(name, head.data, head.grid)


def doubtful(images, grid, *, context):
    return BrainMask(np.ones(grid.shape, bool), grid, "own", "it measures 9999 ml")


def sure(images, grid, *, context):
    return replace(find_brain(images, grid, context=context), doubt=None)


@pytest.mark.parametrize("own", [sure, doubtful])
def test_a_program_mends_a_doubtful_mask_and_no_other(stand_in, head_study, monkeypatch, own):
    stand_in(GOOD)
    monkeypatch.setattr(brain_extraction, "find_brain", own)
    prepared = prepare(head_study, RunContext(), COARSE)
    used = any("synthstrip" in step.message for step in prepared.steps)
    assert used == (own is doubtful)
    assert not any(step.on_request for step in prepared.steps)


def test_a_program_that_fails_leaves_the_own_mask_with_a_notice(stand_in, head_study, monkeypatch):
    stand_in("import sys; sys.exit('no weights')")
    monkeypatch.setattr(brain_extraction, "find_brain", doubtful)
    prepared = prepare(head_study, RunContext(), COARSE)
    assert any("no weights" in notice for notice in prepared.notices)
    assert any(step.message.startswith("own") for step in prepared.steps)


def test_another_version_of_a_program_is_another_key(stand_in, tmp_path):
    stand_in(GOOD)
    before = skull_stripping.identity("synthstrip")
    (tmp_path / "bin/mri_synthstrip").write_text(f"#!{sys.executable}\n{OTHER_GRID}")
    assert skull_stripping.identity("synthstrip") != before


def test_the_command_line_passes_the_choice_on(stand_in):
    stand_in(GOOD)
    assert [m.value for m in options.Stripping] == ["auto", "own", "hd-bet", "synthstrip"]
    assert options.preparation(options.Stripping.SYNTHSTRIP).stripper == "synthstrip"
    with pytest.raises(MissingPluginError, match="hd-bet"):
        options.preparation(options.Stripping.HD_BET)
