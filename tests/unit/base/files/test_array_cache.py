"""A damaged entry of a cache is as good as none."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from lesionlens.base.files import array_cache


def npz(**arrays: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def _altered(whole: bytes) -> bytes:
    return whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:]


DAMAGE = {
    "empty": lambda _: b"",
    "its head alone": lambda whole: whole[:50],
    "cut by a byte": lambda whole: whole[:-1],
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "longer by a byte": lambda whole: whole + b"\0",
    "a bit altered": _altered,
    "garbage": lambda whole: os.urandom(len(whole)),
    "zeros": lambda whole: bytes(len(whole)),
    "of another version": lambda whole: whole.replace(b"kept/1", b"kept/2"),
    "of a release without a digest": lambda _: npz(a=np.ones(3)),
    "text": lambda _: b"<html>404</html>",
}


@pytest.fixture
def entry(tmp_path) -> Path:
    place = tmp_path / "entry.kept"
    array_cache.write(place, {"a": np.arange(1000), "b": np.array(["words", ""])})
    return place


@pytest.mark.parametrize("packed", [True, False])
def test_what_was_kept_is_read(tmp_path, packed):
    array_cache.write(tmp_path / "a.kept", {"a": np.arange(5)}, packed=packed)
    found = array_cache.read(tmp_path / "a.kept", ("a",))
    np.testing.assert_array_equal(found["a"], np.arange(5))
    assert (tmp_path / "a.kept").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_of_any_kind_is_noticed(entry, how):
    entry.write_bytes(DAMAGE[how](entry.read_bytes()))
    assert array_cache.read(entry) is None
    assert not array_cache.is_whole(entry)
    array_cache.write(entry, {"a": np.arange(3)})
    assert array_cache.is_whole(entry)


def test_what_cannot_be_read_or_lacks_an_array_is_none(entry, tmp_path):
    assert array_cache.read(entry, ("a", "c")) is None
    assert array_cache.read(tmp_path) is None
    assert array_cache.read(tmp_path / "nothing") is None
    os.mkfifo(tmp_path / "pipe")
    assert array_cache.read(tmp_path / "pipe") is None
    if os.geteuid():
        entry.chmod(0)
        assert array_cache.read(entry) is None
