"""The number of threads, also where torch is imported later."""

import os
import subprocess
import sys

import torch

from lesionlens.engines.choice import EngineChoice
from lesionlens.engines.threads import use_threads

LATER = """
from lesionlens.engines.threads import use_threads
use_threads(1, "lens")
import torch
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as aside:
    print(torch.get_num_threads(), aside.submit(torch.get_num_threads).result())
"""


def test_torch_that_is_imported_later_takes_the_number(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, check=True)
    assert done.stdout.split() == [b"1", b"1"]


def test_torch_that_is_there_takes_the_number(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        use_threads(before + 1, "lens")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert "OMP_NUM_THREADS" not in os.environ


def test_an_engine_is_loaded_aside(random_weights):
    loading = EngineChoice(device="cpu", weights=str(random_weights)).load_aside()
    assert loading.result(timeout=60).name == "lens"
