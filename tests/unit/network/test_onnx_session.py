"""onnxruntime as this package imports it."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")
SUPPRESSED_BY = {"CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY"}
CODE = """
import os
from lesionlens.network import onnx_session
before = dict(os.environ)
onnx_session.runtime().get_available_providers()
assert dict(os.environ) == before
"""


def test_onnxruntime_keeps_no_record_for_its_makers(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in SUPPRESSED_BY}
    environment |= dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(tmp_path))
    subprocess.run([sys.executable, "-c", CODE], env=environment, check=True)
    assert not list(tmp_path.rglob("*"))
