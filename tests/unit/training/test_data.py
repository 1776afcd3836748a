"""Batches."""

import numpy as np
import pytest
import torch

from lesionlens.synth.draw import DrawConfig
from lesionlens.training.config import DataConfig, StageConfig
from lesionlens.training.data import Packed, SynthSource, collate, pack, roll_presence


def _packed(shape=(10, 12, 9), level=4):
    code = np.ones(shape, np.uint8)
    code[4:6, 4:6, 4:6] = level
    return Packed(np.ones((4, *shape), np.float16), code, (code == level).astype(np.uint8))


def test_presence_keeps_its_shares():
    rng, config = np.random.default_rng(0), DataConfig()
    rolls = np.stack([roll_presence(rng, config) for _ in range(6000)])
    assert rolls.any(1).all()
    assert abs(rolls.all(1).mean() - config.complete) < 0.03
    for sequence, least in enumerate(config.single):
        alone = rolls[:, sequence] & (rolls.sum(1) == 1)
        assert alone.mean() > least


def test_collate_pads_to_the_stride_and_nests_labels():
    batch = collate([_packed(), _packed((6, 17, 9))], np.random.default_rng(0), DataConfig())
    assert batch.channels.shape == (2, 4, 16, 24, 16)
    wt, tc, et = batch.labels.unbind(1)
    assert int(wt.sum()) == int(tc.sum()) == int(et.sum()) == 16
    assert not batch.channels[:, :, ~batch.brain[0]][0].any()
    absent = ~batch.present
    assert not batch.channels[absent].any()
    assert torch.equal(batch.parts, et)


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
    sources = [SynthSource(DrawConfig(), stage, DataConfig(workers=0), 40) for _ in range(2)]
    one, two = (source.batch(2) for source in sources)
    assert torch.equal(one.channels, two.channels)
    if window is not None:
        assert one.labels.shape[2:] == window


@pytest.mark.slow
def test_a_worker_feeds_and_stops():
    stage = StageConfig(1, (24, 32, 24), (6.0, 6.0))
    source = SynthSource(DrawConfig(), stage, DataConfig(workers=1, pool=8, paintings=2), 1)
    try:
        assert source.batch(3).channels.shape[0] == 3
    finally:
        source.close()
