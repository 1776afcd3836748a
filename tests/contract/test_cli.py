"""The command line as a user meets it: statuses, messages, files, nothing touched on failure."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.helpers.third_party_package import install_package
from tests.phantoms.files import write_dicom, write_nifti
from typer.testing import CliRunner

from lesionlens.base.labels import MrSequence
from lesionlens.cli.main import app

COMMAND = Path(sys.executable).parent / "lesionlens"
REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "sample_data"
REGIONS = ("wt", "tc", "et")
CONTRACT_FILES = (
    "segmentation.nii.gz",
    *(f"{kind}_{region}.nii.gz" for kind in ("probability", "attention") for region in REGIONS),
    "findings.json",
    "findings.csv",
    "report.html",
    "run.json",
)
COMMANDS = ("analyze", "batch", "bench", "doctor", "evaluate", "export", "train")
TRACEBACK = "Traceback (most recent call last)"


def lesionlens(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=REPOSITORY,
    )
    assert TRACEBACK not in done.stdout + done.stderr
    return done


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """An output folder with an earlier result and a file of the user's own."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "findings.json").write_text(
        '{"schema": "lesionlens/findings/1", "conclusion": "earlier"}'
    )
    (out / "my notes.txt").write_text("mine")
    return out


@pytest.fixture(scope="module")
def sample_result(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The sample's DICOM study, analysed once."""
    out = tmp_path_factory.mktemp("sample") / "out"
    before = digests(SAMPLE)
    done = lesionlens("analyze", SAMPLE / "study_dicom", "--out", out, timeout=900)
    assert digests(SAMPLE) == before, "the study was touched"
    return done, out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command):
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "Example: lesionlens " + command in " ".join(done.stdout.split())
    assert "<bool>" not in done.stdout, "an option without a value seems to take one"
    assert "sample_data/study" not in done.stdout.split("Example:")[0], "a path of this machine"


def test_version_is_that_of_the_package():
    assert lesionlens("--version").stdout == "lesionlens 0.5.0\n"


def test_doctor_says_that_the_sample_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("lesionlens.imaging.samples.STUDY", tmp_path / "gone")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "MISSING: install LesionLens again" in done.output


def _processor_seconds(*command: str) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_help_costs_little_more_than_the_library_that_prints_it():
    """By turns, as machines differ and are busy with other things."""
    library = (sys.executable, "-c", "import typer, typer.rich_utils")
    pairs = [(_processor_seconds(COMMAND, "--help"), _processor_seconds(*library)) for _ in "123"]
    help_seconds, library_seconds = (min(seconds) for seconds in zip(*pairs, strict=True))
    assert help_seconds < 3.5 * library_seconds, pairs


def test_what_a_plugin_prints_as_the_process_ends_is_not_in_its_json(monkeypatch, tmp_path):
    """It followed the JSON, which no script could read then."""
    code = "import atexit\natexit.register(print, 'bye')\nclass Engine: ...\n"
    install_package(monkeypatch, tmp_path, code, engines="mine = Engine")
    path = os.pathsep.join((str(tmp_path / "elsewhere"), os.environ.get("PYTHONPATH", "")))
    monkeypatch.setenv("PYTHONPATH", path)
    done = lesionlens("doctor", "--json")
    assert "mine" in json.loads(done.stdout)["plugins"]["lesionlens.engines"]
    assert "bye" in done.stderr


def test_a_setting_that_cannot_be_used_is_an_error_in_json_too(monkeypatch):
    monkeypatch.setenv("LESIONLENS_UMASK", "999")
    done = lesionlens("doctor", "--json")
    assert done.returncode == json.loads(done.stdout)["error"]["status"] == 2


def test_doctor_finds_the_core_and_verified_weights():
    done = lesionlens("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["ready"]
    assert found["sample"]
    assert found["weights"]["verified"]
    assert found["weights_in_use"]["name"] == "default"
    for weights in (found["weights"], found["weights_synthetic"]):
        assert len(weights["sha256"]) == 64
    assert found["weights_synthetic"]["trained_on"] == "synthetic only"
    assert "lens" in found["plugins"]["lesionlens.engines"]


def test_the_sample_gives_a_complete_result(sample_result):
    done, out = sample_result
    assert done.returncode == 0, done.stderr
    files = {p.name for p in out.iterdir()}
    assert files >= {*CONTRACT_FILES, "dicom"}
    assert {p.name for p in (out / "dicom").iterdir()} >= {"seg.dcm", "sr.dcm", "attention.dcm"}
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert "candidate region" in done.stdout
    assert "Research use only" in done.stdout


def test_the_sample_s_tumour_is_found_on_its_side(sample_result):
    _, out = sample_result
    found = nib.load(out / "segmentation.nii.gz")
    truth = nib.load(SAMPLE / "study_dicom_reference" / "segmentation.nii.gz")
    assert found.shape == truth.shape
    np.testing.assert_allclose(found.affine, truth.affine, atol=2e-3)
    ours, theirs = np.asarray(found.dataobj) > 0, np.asarray(truth.dataobj) > 0
    assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.6
    findings = json.loads((out / "findings.json").read_text())
    first = findings["candidates"][0]
    centre = nib.affines.apply_affine(truth.affine, np.argwhere(theirs).mean(axis=0))
    assert first["location"]["side"] == ("left" if centre[0] < 0 else "right")
    assert np.sign(first["centroid_mm"][0]) == np.sign(centre[0])


def test_maps_lie_on_the_reference_grid_within_0_and_1(sample_result):
    _, out = sample_result
    reference = nib.load(out / "segmentation.nii.gz")
    for kind in ("probability", "attention"):
        for region in REGIONS:
            image = nib.load(out / f"{kind}_{region}.nii.gz")
            voxels = np.asarray(image.dataobj)
            assert image.shape == reference.shape
            assert image.get_data_dtype() == np.float32
            np.testing.assert_allclose(image.affine, reference.affine, atol=1e-5)
            assert voxels.min() >= 0
            assert voxels.max() <= 1


def test_findings_have_the_contract_s_fields(sample_result):
    _, out = sample_result
    findings = json.loads((out / "findings.json").read_text())
    assert findings["schema"] == "lesionlens/findings/1"
    assert set(findings) >= {"candidates", "quality", "reference", "sequences", "conclusion"}
    assert findings["reference"] == "t1c"
    assert set(findings["sequences"]) == {"t1", "t1c", "t2", "flair"}
    for candidate in findings["candidates"]:
        assert set(candidate["volume_ml"]) == set(REGIONS)
        assert set(candidate["sequence_relevance"]) == {"t1c", "flair", "t2", "t1", "none"}
        total = sum(v for v in candidate["sequence_relevance"].values() if v is not None)
        assert total == pytest.approx(1, abs=1e-5)
        assert candidate["relevance_of"] == "overlap"
        assert candidate["review"]["state"] == "unreviewed"


def test_run_json_names_weights_inputs_and_stages(sample_result):
    _, out = sample_result
    run = json.loads((out / "run.json").read_text())
    assert len(run["weights_sha256"]) == 64
    assert run["threads"] >= 1
    assert run["precision"] in ("float32", "bfloat16")
    assert len(run["inputs"]) == len(list((SAMPLE / "study_dicom").rglob("IM*")))
    assert {"network", "register"} <= {stage["name"] for stage in run["stages"]}
    assert str(REPOSITORY) not in (out / "run.json").read_text()


def test_json_prints_findings_alone_and_replaces_only_what_is_ours(
    earlier, patient, random_weights, coarse, capfd
):
    study = earlier.parent / "study"
    write_nifti(patient, study, sequences=(MrSequence.FLAIR,))
    asked = ["analyze", study, "--out", earlier, "--json", "--weights", random_weights]
    done = CliRunner().invoke(app, [*map(str, asked)])
    assert done.exit_code == 0, done.stderr
    assert capfd.readouterr().out == ""  # nor does a library write past Python
    written = (earlier / "findings.json").read_text()
    assert json.loads(done.stdout) == json.loads(written)
    assert "earlier" not in written
    assert (earlier / "my notes.txt").read_text() == "mine"
    assert sorted(p.name for p in earlier.parent.iterdir()) == ["out", "study"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, patient) -> Path:
    """A folder of a NIfTI study, a DICOM study, an earlier result and what is no study."""
    base = tmp_path_factory.mktemp("inputs")
    for name in ("empty", "text", "earlier"):
        (base / name).mkdir()
    (base / "text" / "notes.txt").write_text("no scan")
    (base / "file").write_text("a file")
    (base / "earlier" / "findings.json").write_text(
        '{"schema": "lesionlens/findings/1", "conclusion": "earlier"}'
    )
    write_nifti(patient, base / "study")
    write_dicom(patient, base / "study_dicom")
    return base


@pytest.mark.parametrize(
    ("arguments", "out", "words"),
    [
        (["nowhere"], "earlier", "nowhere"),
        (["empty"], "earlier", "empty"),
        (["text"], "earlier", "expected"),
        (["study", "--t1c", "nowhere.nii.gz"], "earlier", "nowhere"),
        (["study", "--device", "toaster"], "earlier", "toaster"),
        (["study", "--bundle", "nowhere"], "earlier", "nowhere"),
        (["study_dicom", "--study", "1.2.3"], "earlier", "1.2.3"),
        (["study", "--sequence", "t1"], "earlier", "--sequence"),
        (["study"], "study/out", "within the study"),
        (["study"], "file", "file"),
        ([], "earlier", "STUDY"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_what_cannot_be_used_ends_with_2_and_touches_nothing(inputs, arguments, out, words):
    before = digests(inputs)
    study = [str(inputs / arguments[0]), *arguments[1:]] if arguments else []
    done = CliRunner().invoke(app, ["analyze", *study, "--out", str(inputs / out)])
    assert done.exit_code == 2, done.stderr
    assert done.stdout == ""
    assert words.lower() in done.stderr.lower()
    assert TRACEBACK not in done.stderr
    assert digests(inputs) == before


def test_a_process_ends_with_the_status_of_what_it_was_asked(inputs):
    done = lesionlens("analyze", inputs / "nowhere", "--out", inputs / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere" in done.stderr


def test_tables_and_help_are_printed_where_the_width_is_unknown(monkeypatch):
    """They were empty where a console had set it to 0."""
    monkeypatch.setenv("COLUMNS", "0")
    assert "synthetic" in lesionlens("weights", "list").stdout
    assert "analyze" in lesionlens("--help").stdout


@pytest.mark.skipif(os.name == "nt", reason="a shell closes streams by >&-")
def test_closed_streams_are_no_defect(inputs, tmp_path):
    """After a complete analysis it said "a defect" and "nothing was changed"."""
    said = tmp_path / "said"
    for arguments, status in (["--version"], 0), (["sample", tmp_path / "s"], 0):
        command = shlex.join(map(str, (COMMAND, *arguments)))
        done = subprocess.run(["/bin/sh", "-c", f"{command} >&- <&- 2>{said}"], check=False)
        assert (done.returncode, said.read_text(encoding="utf-8").count("defect")) == (status, 0)
    lost = shlex.join(map(str, (COMMAND, "analyze", inputs / "nowhere", "--out", tmp_path / "o")))
    assert subprocess.run(["/bin/sh", "-c", f"{lost} >&- 2>&-"], check=False).returncode == 2


needs_full_disk = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs Linux's /dev/full"
)


def output_to_full_disk(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command whose stdout cannot be written."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        return subprocess.run(
            [COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )


@needs_full_disk
def test_output_that_cannot_be_printed_says_that_the_files_are_complete(tmp_path):
    """It said "nothing was changed" of a result that had been written."""
    done = output_to_full_disk("sample", tmp_path / "s")
    assert done.returncode == 1
    assert "files that the command wrote are complete" in done.stderr
    assert "nothing was changed" not in done.stderr
    assert (tmp_path / "s" / "study").is_dir()


@needs_full_disk
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_printed_ends_without_a_traceback(option):
    done = output_to_full_disk(option)
    assert done.returncode == 1
    assert done.stderr.startswith("lesionlens: Found that stdout cannot be written")


@needs_full_disk
def test_errors_that_cannot_be_printed_keep_their_status(inputs, tmp_path):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        for arguments in (["analyze", inputs / "nowhere", "--out", tmp_path / "o"], ["sample", ""]):
            done = subprocess.run([COMMAND, *arguments], stderr=full, check=False)
            assert done.returncode == 2


@needs_full_disk
def test_an_error_whose_json_cannot_be_printed_keeps_its_status(inputs, tmp_path):
    """Status 1 and a second message said that only the output was missing."""
    asked = ("analyze", inputs / "nowhere", "--out", tmp_path / "o", "--json")
    done = output_to_full_disk(*asked)
    assert done.returncode == 2
    assert done.stderr.count("Found") == 1


def output_to_closed_pipe(*arguments: object) -> int:
    """Return the exit status of a command whose stdout nobody reads."""
    process = subprocess.Popen(
        [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process.stdout.close()
    return process.wait(300)


def test_a_closed_pipe_leaves_the_exit_status(inputs, tmp_path):
    """A failed batch had status 0 or 1, and one that succeeded 1, if it printed a table."""
    study = tmp_path / "studies" / "broken" / "t1.nii.gz"
    study.parent.mkdir(parents=True)
    study.write_text("no image", encoding="utf-8")
    batch = "batch", study.parents[1], "--out", tmp_path / "out"
    assert output_to_closed_pipe(*batch) == 2
    assert output_to_closed_pipe("analyze", inputs / "nowhere", "--out", tmp_path, "--json") == 2
    assert output_to_closed_pipe("weights", "list") == 0


def wait_until_it_listens(pid: int, patience: float = 60) -> None:
    """Wait until the process catches SIGTERM, which Python alone does not."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        caught = int(next(x for x in status.splitlines() if x.startswith("SigCgt")).split()[1], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.02)
    pytest.fail("the command never listened to SIGTERM")


def test_an_interrupt_where_python_ignores_it_prints_nothing_and_stays_requested():
    """In a callback of an import it printed a traceback before the message."""
    script = """
import os, signal, weakref
from lesionlens.cli.console import STOP
STOP.install_handlers()
item = set()
reference = weakref.ref(item, lambda _: os.kill(os.getpid(), signal.SIGTERM))
del item
reference = weakref.ref(failing := {0}, lambda _: 1 / 0)
del failing
print(STOP.is_set())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "True\n"
    assert "Interrupt" not in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("name", "seconds"),
    [("SIGTERM", 0.05), ("SIGINT", 2.0), ("SIGHUP", 2.0)],
    ids=["SIGTERM early", "SIGINT at work", "its terminal is closed"],
)
def test_an_interrupt_ends_with_130_and_touches_nothing(earlier, name, seconds):
    """A closed terminal killed it, and a hidden folder with half a result stayed."""
    before = digests(earlier)
    undo_nohup = ("env", "--default-signal=HUP")  # if the tests were started by it
    process = subprocess.Popen(
        [*undo_nohup, COMMAND, "analyze", SAMPLE / "study_dicom", "--out", earlier],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    wait_until_it_listens(process.pid)
    time.sleep(seconds)
    process.send_signal(getattr(signal, name))
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert TRACEBACK not in stderr
    assert "nothing was changed" in stderr
    assert digests(earlier) == before
    assert [p.name for p in earlier.parent.iterdir()] == ["out"]
