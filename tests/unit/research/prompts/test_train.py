"""Training of the prompt network: initial weights, resuming, samples that correct its outlines."""

import importlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def training(script):
    with script("prompts.train") as module:
        yield module


def write_head(folder, rng):
    """Write a volume with a bright ball in a brain, half of which the analysis predicts."""
    pool = importlib.import_module("research.prompts.pool")
    index = np.indices((32, 32, 32)) - 15.5
    distance = np.sqrt((index**2).sum(0))
    code = np.where(distance < 7, 2, (distance < 15).astype(int)).astype(np.uint8)
    guess = np.zeros((1, 3, 16, 16, 16), np.uint8)
    guess[0, 0, :8] = 255 * (code[::2, ::2, ::2] > 1)[:8]
    arrays = {
        "image": (rng.normal(0, 0.2, (4, 32, 32, 32)) + 2 * (code > 1)).astype(np.float16),
        "code": code,
        "parts": (code > 1).astype(np.uint8),
        "guess": guess,
    }
    record = {"real": True, "present": [1, 1, 1, 1], "subsets": [[1, 1, 1, 1]]}
    pool.write_volume(folder, arrays, record)


def test_training_starts_from_given_weights_and_resumes(training, tmp_path):
    from lesionlens.network.prompt.weights import load_file, load_shipped
    from lesionlens.network.shipped_weights import shipped_file

    write_head(tmp_path / "pool/one", np.random.default_rng(0))
    assert (tmp_path / "pool/one/things.npy").is_file()  # written before the volume appears
    settings = training.Settings(
        minutes=1, steps=2, batch=1, size=16, rate=1e-3, device="cpu", seed=0,
        init=shipped_file("prompt"),
    )  # fmt: skip
    run = training.Training(tmp_path / "pool", tmp_path / "run", settings)
    initial = load_file(tmp_path / "run/prompt.safetensors")[0]
    for name, value in load_shipped()[0].state_dict().items():
        assert torch.equal(initial.state_dict()[name], value)
    run.run()
    new = load_file(tmp_path / "run/prompt.safetensors")[0].state_dict()
    assert any(not value.equal(new[name]) for name, value in initial.state_dict().items())
    longer = replace(settings, steps=3)
    resumed = training.Training(tmp_path / "pool", tmp_path / "run", longer)
    assert resumed.step == 2
    resumed.run()
    assert load_file(tmp_path / "run/prompt.safetensors")[1].steps == 3


def test_a_prompt_corrects_the_outline_of_the_network_where_it_is_wrong(training, tmp_path):
    from lesionlens.network.prompt.weights import load_shipped

    batches = importlib.import_module("research.prompts.batches")
    samples = importlib.import_module("research.prompts.samples")
    write_head(tmp_path / "pool/one", np.random.default_rng(0))
    sampler, network = samples.Sampler(tmp_path / "pool"), load_shipped()[0]
    rng = np.random.default_rng(1)
    for _ in range(6):
        before = sampler.draw(16, rng)
        after = batches.corrected_sample(network, before, rng)
        if after is before:
            continue
        outline, latest_prompts = after.question.outline, after.latest_prompts
        assert after.local
        assert latest_prompts.any()
        assert (outline != after.target)[latest_prompts].all()
        is_foreground = after.target[latest_prompts]
        np.testing.assert_array_equal(after.question.foreground[latest_prompts], is_foreground)
        np.testing.assert_array_equal(after.question.background[latest_prompts], ~is_foreground)
        return
    pytest.fail("none of six outlines had an error")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from research.prompts.batches import BatchQueue, BatchSettings

if __name__ == "__main__":
    settings = BatchSettings(Path(sys.argv[2]), Path(sys.argv[3]), 1, 16, 0, False)
    queue = BatchQueue(settings, 1, 0)
    queue.batch()
    print(*queue._processes._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_worker_processes_end_with_a_run_that_is_killed(training, tmp_path):
    """They used to stay, each with its memory, beside those of the resumed run."""
    from lesionlens.network.prompt import weights

    write_head(tmp_path / "pool/one", np.random.default_rng(0))
    shipped = Path(weights.__file__).parents[1] / "weight_files" / "prompt.safetensors"
    script_file = tmp_path / "killed.py"
    script_file.write_text(KILLED)
    repository = Path(__file__).resolve().parents[4]
    arguments = [str(path) for path in (script_file, repository, tmp_path / "pool", shipped)]
    with (tmp_path / "worker").open("wb") as output:  # a pipe would be held open by the worker
        run = subprocess.run([sys.executable, *arguments], stdout=output, check=False)
    assert run.returncode == -signal.SIGKILL
    (worker,) = map(int, (tmp_path / "worker").read_text().split())
    deadline = time.monotonic() + 60
    while _is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.2)
    alive = _is_alive(worker)
    if alive:
        os.kill(worker, signal.SIGKILL)
    assert not alive


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/stat").read_text("utf-8")
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # as on macOS
    return status.rpartition(")")[2].split()[0] != "Z"  # a zombie has ended
