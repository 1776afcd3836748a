"""Batches."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lesionlens.network.synth.generator import GeneratorConfig
from lesionlens.training.config import DataConfig, StageConfig
from lesionlens.training.data import (
    FIRST_STORED_SEED,
    FIRST_VALIDATION_SEED,
    SAMPLE_SEED,
    SEEDS_PER_SOURCE,
    MixedSource,
    Packed,
    SynthSource,
    collate,
    cut_window,
    pack,
    sample_presence,
    stage_seed,
    uses_second_source,
)


def _packed(shape=(10, 12, 9), level=4):
    code = np.ones(shape, np.uint8)
    code[4:6, 4:6, 4:6] = level
    return Packed(np.ones((4, *shape), np.float16), code, (code == level).astype(np.uint8))


def test_presence_keeps_its_shares():
    rng, config = np.random.default_rng(0), DataConfig()
    rolls = np.stack([sample_presence(rng, config) for _ in range(6000)])
    assert rolls.any(1).all()
    assert abs(rolls.all(1).mean() - config.complete) < 0.03
    for sequence, least in enumerate(config.single):
        alone = rolls[:, sequence] & (rolls.sum(1) == 1)
        assert alone.mean() > least


def test_examinations_without_contrast_have_all_other_sequences():
    rng, config = np.random.default_rng(0), DataConfig(without_t1c=1.0, complete=0.0)
    config = replace(config, single=(0.0,) * 4)
    assert {tuple(sample_presence(rng, config)) for _ in range(50)} == {(True, False, True, True)}


def test_collate_pads_to_the_stride_and_nests_labels():
    batch = collate([_packed(), _packed((6, 17, 9))], np.random.default_rng(0), DataConfig())
    assert batch.channels.shape == (2, 4, 16, 24, 16)
    wt, tc, et = batch.labels.unbind(1)
    assert int(wt.sum()) == int(tc.sum()) == int(et.sum()) == 16
    assert not batch.channels[:, :, ~batch.brain[0]][0].any()
    absent = ~batch.present
    assert not batch.channels[absent].any()
    assert torch.equal(batch.instances, et)


def test_pack_cuts_to_the_brain():
    brain = torch.zeros(20, 20, 20, dtype=torch.bool)
    brain[5:9, 6:16, 7:10] = True
    labels = torch.zeros(3, 20, 20, 20, dtype=torch.uint8)
    labels[0, 6, 7, 8] = 1
    packed = pack(torch.ones(4, 20, 20, 20), labels, labels[0], brain)
    assert packed.code.shape == (4, 10, 3)
    assert sorted(np.unique(packed.code)) == [1, 2]


@pytest.mark.parametrize("window", [None, (16, 24, 16)])
def test_batches_without_workers_repeat(window):
    stage = StageConfig(1, (32, 40, 32), (5.0, 5.0), batch=2, window=window)
    sources = [SynthSource(GeneratorConfig(), stage, DataConfig(workers=0), 40) for _ in range(2)]
    one, two = (source.batch(2) for source in sources)
    assert torch.equal(one.channels, two.channels)
    if window is not None:
        assert one.labels.shape[2:] == window


@pytest.mark.parametrize("seed", range(6))
def test_a_window_knows_where_in_the_brain_it_lies_also_when_mirrored(seed):
    shape = (40, 32, 24)
    place = np.indices(shape).astype(np.float16)
    channels = np.concatenate([place, np.ones((1, *shape), np.float16)])
    brain = Packed(channels, np.ones(shape, np.uint8), np.zeros(shape, np.uint8))
    rng = np.random.default_rng(seed)
    window = cut_window(brain, (16, 16, 16), rng)
    edges = (window.position_range + 1) / 2 * np.array(shape)[:, None]
    assert np.allclose(edges[:, 0], window.channels[:3, 0, 0, 0])
    assert np.allclose(edges[:, 1], window.channels[:3, -1, -1, -1] + 1)
    mirrored = Packed(
        window.channels, window.code, window.instances, window.present, window.position_range
    )
    batch = collate([mirrored], rng, DataConfig(complete=1.0))
    rises = batch.channels[0, 0, -1, 0, 0] > batch.channels[0, 0, 0, 0, 0]
    low, high = batch.position_range[0, 0].tolist()
    assert (low, high) == pytest.approx(
        window.position_range[0].tolist() if rises else (-window.position_range[0][::-1]).tolist()
    )


class _Counting:
    """A source that hands over its name and the number of the batch."""

    def __init__(self, name):
        self.name, self.count = name, 0

    def batch(self, size):
        del size
        self.count += 1
        return self.name, self.count

    def close(self):
        self.name = None


def test_patches_come_in_their_share_and_in_the_same_order_after_a_stop():
    whole = MixedSource(_Counting("whole"), _Counting("patches"), 0.35, seed=3, completed=0)
    seen = [whole.batch(1) for _ in range(400)]
    assert abs(sum(name == "patches" for name, _ in seen) / 400 - 0.35) < 0.06
    before = sum(uses_second_source(3, n, 0.35) for n in range(150))
    assert [name for name, _ in seen[:150]].count("patches") == before
    later = MixedSource(_Counting("whole"), _Counting("patches"), 0.35, seed=3, completed=150)
    assert [later.batch(1)[0] for _ in range(250)] == [name for name, _ in seen[150:]]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 29, 30, 39, 40, 59, 60, 10**9])
def test_no_run_trains_on_the_brains_that_it_is_validated_on(seed):
    reserved = (FIRST_STORED_SEED, FIRST_VALIDATION_SEED, SAMPLE_SEED)
    for session in range(200):
        for stage in range(6):
            first = stage_seed(seed, session, stage)
            end = first + 9 * SEEDS_PER_SOURCE  # its patches come from the ninth million
            assert first >= 0
            assert not any(first < kept + SEEDS_PER_SOURCE and kept < end for kept in reserved)


def test_a_worker_feeds_and_stops():
    stage = StageConfig(1, (24, 32, 24), (6.0, 6.0))
    source = SynthSource(GeneratorConfig(), stage, DataConfig(workers=1, pool=8, paintings=2), 1)
    try:
        assert source.batch(3).channels.shape[0] == 3
    finally:
        source.close()


def _workers():
    stage = StageConfig(steps=1, shape=(32, 40, 32), spacing_mm=(5.0, 6.0), batch=1)
    return SynthSource(GeneratorConfig(), stage, DataConfig(workers=1, pool=2), 1)


ORPHANED = """
import os, signal
from test_data import _workers
if __name__ == "__main__":
    source = _workers()
    source.batch(1)
    print("begun", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGKILL")
def test_a_worker_ends_with_its_killed_parent(tmp_path):
    """It waited for room in its queue until the machine was switched off."""
    script = tmp_path / "run.py"
    script.write_text(ORPHANED)
    paths = os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path)))
    done = subprocess.run(  # reads until the worker has closed its stdout too
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "begun\n"
