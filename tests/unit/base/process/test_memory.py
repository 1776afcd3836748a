"""What is spared from collections is not kept for good."""

from __future__ import annotations

import gc
import weakref

import pytest

from lesionlens.base.process import host_process, memory, retained_memory
from lesionlens.base.process.memory import collect_and_freeze, existing_objects_excluded


class Knot:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


@pytest.mark.usefixtures("thawed")
def test_what_was_spared_and_is_no_longer_used_goes_at_the_next_rest(monkeypatch):
    monkeypatch.setitem(host_process._host, "tunable", True)
    knot = Knot()
    there = weakref.ref(knot)
    collect_and_freeze()
    assert gc.get_freeze_count() > 0
    del knot
    gc.collect()
    assert there() is not None  # spared
    collect_and_freeze()
    assert there() is None


def test_a_process_of_others_is_left_as_it_is(monkeypatch):
    """napari's collector and allocator serve every plugin in it."""
    monkeypatch.setitem(host_process._host, "tunable", False)
    asked = []
    monkeypatch.setattr(retained_memory, "_glibc", lambda: asked.append("libc"))
    before = gc.get_freeze_count()
    collect_and_freeze()
    with retained_memory.retained_memory():
        pass
    assert gc.get_freeze_count() == before
    assert not asked


def test_collections_pass_over_what_exists_for_the_length_of_a_block(monkeypatch, thawed):
    monkeypatch.setattr(memory.platform, "system", lambda: "Linux")
    knot = Knot()
    there = weakref.ref(knot)
    del knot
    with existing_objects_excluded():
        gc.collect()
        assert there() is not None
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert there() is None


def test_what_was_frozen_before_a_block_stays_frozen(thawed):
    gc.freeze()
    with existing_objects_excluded():
        pass
    assert gc.get_freeze_count() > 0
    gc.unfreeze()


class Libc:
    """Counts as glibc does, and notes what is asked of it."""

    def __init__(self, free: int) -> None:
        self.trimmed = []
        self.mallinfo2 = lambda: retained_memory._Counts(free=free)
        self.mallopt = lambda *_: 1
        self.malloc_trim = self.trimmed.append


@pytest.mark.parametrize(("free_mib", "outside", "inside"), [(1, 0, 0), (200, 1, 0), (400, 1, 1)])
def test_passes_begin_without_the_memory_of_those_before(monkeypatch, free_mib, outside, inside):
    monkeypatch.setitem(host_process._host, "tunable", True)
    libc = Libc(free_mib << 20)
    monkeypatch.setattr(retained_memory, "_glibc", lambda: libc)
    retained_memory.trim_memory()
    assert len(libc.trimmed) == outside
    with retained_memory.retained_memory():
        libc.trimmed.clear()
        retained_memory.trim_memory()
        assert len(libc.trimmed) == inside


def test_a_command_of_one_study_keeps_all_memory_until_its_end(monkeypatch):
    monkeypatch.setitem(host_process._host, "tunable", True)
    libc = Libc(4 << 30)
    monkeypatch.setattr(retained_memory, "_glibc", lambda: libc)
    with retained_memory.all_memory_retained():
        libc.trimmed.clear()
        with retained_memory.retained_memory():
            retained_memory.trim_memory()
        assert not libc.trimmed
    assert len(libc.trimmed) == 1
    retained_memory.trim_memory()
    assert len(libc.trimmed) == 2


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(retained_memory, "_glibc", lambda: None)
    retained_memory.trim_memory()
