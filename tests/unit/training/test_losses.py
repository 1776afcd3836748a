"""The loss rewards what it should."""

import torch

from lesionlens.network.lens_net import LensOutput
from lesionlens.network.synth.instances import WHITE_SPOTS
from lesionlens.training.config import LossConfig, OptimiserConfig
from lesionlens.training.data import Batch
from lesionlens.training.losses import attention_loss, each_lesion_loss, lens_loss
from lesionlens.training.optimiser import Optimiser, orthogonalise


def _batch(labels):
    shape = (len(labels), *labels.shape[2:])
    parts, brain = torch.zeros(shape, dtype=torch.uint8), torch.ones(shape, dtype=torch.bool)
    channels, present = torch.zeros(len(labels), 4, *shape[1:]), torch.ones(4)[None]
    place = torch.tensor([-1.0, 1.0]).expand(len(labels), 3, 2)
    return Batch(channels, present, brain, labels, parts, place)


def _output(labels, sign):
    logits = (labels.float() * 2 - 1) * 8 * sign
    deep = tuple(torch.nn.functional.avg_pool3d(logits, n) for n in (2, 4))
    spread = labels.float() if sign > 0 else 1 - labels.float()
    attention = spread / spread.sum((2, 3, 4), keepdim=True)
    return LensOutput(logits, deep, torch.zeros(1, 3, 8), attention, None, None)


def test_right_is_cheap_and_wrong_is_dear():
    labels = torch.zeros(1, 3, 16, 16, 16)
    labels[..., 4:12, 4:12, 4:12] = 1
    config = LossConfig(each_lesion=0.5)
    right, parts = lens_loss(_output(labels, 1), _batch(labels), config)
    wrong, _ = lens_loss(_output(labels, -1), _batch(labels), config)
    assert float(right) < 0.1
    assert float(wrong) > 2
    assert set(parts) == {"masks", "each lesion", "attention"}


def _two_lesions():
    """A lesion of 1,000 voxels and one of 27, with their parts."""
    labels = torch.zeros(1, 3, 32, 32, 32)
    parts = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    large, small = (slice(2, 12),) * 3, (slice(25, 28),) * 3
    for number, box in enumerate((large, small), start=1):
        labels[(0, slice(None), *box)] = 1
        parts[(0, *box)] = number
    return _batch(labels)._replace(instances=parts), large, small


def test_each_lesion_weighs_alike():
    batch, large, small = _two_lesions()
    right = (batch.labels * 2 - 1) * 8
    losses = []
    for missed in (large, small):
        logits = right.clone()
        logits[(0, slice(None), *missed)] = -1.0
        losses.append(each_lesion_loss(logits, batch, LossConfig()))
    assert float(each_lesion_loss(right, batch, LossConfig()).max()) < 0.1
    assert float(losses[1].min()) > 0.3
    assert float((losses[0] / losses[1]).max()) < 4  # 37 times as many voxels


def test_each_lesion_loss_leaves_out_distractors_and_specks():
    batch, large, _ = _two_lesions()
    wrong = torch.full_like(batch.labels, 8.0)
    parts = torch.zeros_like(batch.instances)
    parts[(0, *large)] = WHITE_SPOTS
    parts[0, 20, 20, 20] = 1
    loss = each_lesion_loss(wrong, batch._replace(instances=parts), LossConfig())
    torch.testing.assert_close(loss, torch.zeros(3))


def test_padded_grids_are_met():
    labels = torch.zeros(1, 3, 14, 16, 9)
    deep = (torch.zeros(1, 3, 8, 8, 8), torch.zeros(1, 3, 4, 4, 4))
    even = torch.full((1, 3, 14, 16, 9), 1 / (14 * 16 * 9))
    output = LensOutput(torch.zeros(1, 3, 14, 16, 9), deep, torch.zeros(1, 3, 8), even, None, None)
    assert torch.isfinite(lens_loss(output, _batch(labels), LossConfig())[0])


def test_attention_loss_ignores_absent_regions():
    even = torch.full((1, 3, 4, 4, 4), 1 / 64)
    assert float(attention_loss(even, torch.zeros(1, 3, 4, 4, 4))) == 0


def test_orthogonalise_levels_the_singular_values():
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(0)) * 5
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert float(values.min()) > 0.4
    assert float(values.max()) < 1.4


def test_optimiser_state_comes_back():
    torch.manual_seed(0)
    nets = [torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 2)) for _ in range(2)]
    one = Optimiser(nets[0], OptimiserConfig())
    x = torch.randn(4, 16)
    one.step(nets[0](x).square().mean(), 1.0, 0)
    nets[1].load_state_dict(nets[0].state_dict())
    two = Optimiser(nets[1], OptimiserConfig())
    two.load({name: value.clone() for name, value in one.state().items()})
    for net, optimiser in zip(nets, (one, two), strict=True):
        optimiser.step(net(x).square().mean(), 1.0, 1)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)
