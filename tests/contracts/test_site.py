"""The site of the documentation builds, without a broken link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_site_builds_without_a_remark(tmp_path):
    """Its notebooks are run by `make docs`, not here."""
    for name in ("mkdocs", "mkdocs_jupyter", "material", "mkdocstrings"):
        pytest.importorskip(name)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY,
        env={**os.environ, "LESIONLENS_DOCS_EXECUTE": "false", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    page = (tmp_path / "site" / "reference" / "python.html").read_text("utf-8")
    assert "to_dataframe" in page  # from the docstrings
    assert (tmp_path / "site" / "project" / "ARCHITECTURE.html").is_file()
