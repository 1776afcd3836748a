import os
import subprocess
import sys
import threading

import pytest

from lesionlens.network.fork_safety import fork_safe

FORKS = """
import multiprocessing, torch
from lesionlens.network.fork_safety import fork_safe

@fork_safe
def compute(count):
    return float(torch.ones(count).sum())  # long enough for torch to share it among threads

torch.set_num_threads(2)
assert compute(2_000_000) == 2_000_000
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply(compute, (2_000_000,)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_torch_computes_in_a_process_forked_after_it_had_computed():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("2000000.0\n", 0), done.stderr


def test_where_nothing_forked_the_function_runs_where_it_is_called():
    assert fork_safe(threading.get_ident)() == threading.get_ident()
