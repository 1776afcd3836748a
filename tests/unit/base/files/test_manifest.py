"""Files of an output folder that has a list of its own."""

from __future__ import annotations

import sys
import threading

import pytest

from lesionlens.base.files import manifest
from lesionlens.base.files.manifest import listed, write_listed
from lesionlens.base.provenance import sha256_of

LIST = "tables.files.json"


@pytest.mark.skipif(sys.platform == "win32", reason="no folder is locked there")
def test_two_writers_of_one_folder_never_mix_their_files(tmp_path, monkeypatch):
    """One table was of the first run, the other of the second."""
    write = manifest.write_together
    second = threading.Thread(
        target=lambda: write_listed(tmp_path, {"a.csv": "second", "b.csv": "second"}, LIST)
    )

    def meanwhile(contents):
        if "first" in dict(contents).values():
            second.start()
            second.join(timeout=1)  # without a lock it ends within
        write(contents)

    monkeypatch.setattr(manifest, "write_together", meanwhile)
    write_listed(tmp_path, {"a.csv": "first", "b.csv": "first"}, LIST)
    second.join()
    assert [(tmp_path / name).read_text() for name in ("a.csv", "b.csv")] == ["second", "second"]
    digests = {name: sha256 for name, sha256 in listed(tmp_path, LIST).items() if name != LIST}
    assert digests == {name: sha256_of(tmp_path / name) for name in ("a.csv", "b.csv")}
