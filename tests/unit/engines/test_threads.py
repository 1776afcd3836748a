"""The number of threads, also where torch is imported later."""

import os
import subprocess
import sys

import pytest
import torch

from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.engines.threads import use_threads

LATER = """
import sys
from lesionlens.engines.threads import use_threads
use_threads(int(sys.argv[1]))
import torch
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as aside:
    print(torch.get_num_threads(), aside.submit(torch.get_num_threads).result())
"""


@pytest.mark.parametrize("count", [1, (os.cpu_count() or 1) + 1])
def test_torch_that_is_imported_later_takes_the_number(monkeypatch, count):
    """Also more than the processors: what was asked for is what the record names."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command = [sys.executable, "-c", LATER, str(count)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout.split() == [str(count)] * 2


def test_torch_that_is_there_takes_the_number(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        use_threads(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert "OMP_NUM_THREADS" not in os.environ


def test_an_engine_is_loaded_aside(random_weights):
    loading = EngineChoice(device="cpu", weights=str(random_weights)).start_loading()
    assert loading.result(timeout=60).name == "lens"
