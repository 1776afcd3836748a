"""onnxruntime is used without what it would report to its makers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")


def test_onnxruntime_reports_nothing(tmp_path):
    """`deidentify` wrote a device identifier into the user's cache, and sent it."""
    code = "from lesionlens.network.onnx_session import runtime; runtime()"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.rglob("*"))
