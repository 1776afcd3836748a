"""A right answer is cheap and a wrong one is dear, of regions and of lesion queries."""

import pytest
import torch

from lesionlens.network.lens_net import LensOutput, LesionOutput
from lesionlens.training.losses import (
    CAVITY,
    ENHANCEMENT,
    WHITE_SPOTS,
    Batch,
    instance_targets,
    lens_loss,
    match,
    set_loss,
)

ALL = torch.ones(4, dtype=torch.bool)


def _parts():
    parts = torch.zeros(16, 16, 16, dtype=torch.uint8)
    parts[0:8, 4:8, 4:12], parts[12:16, 8:16, 8:16] = 1, 3
    parts[12:16, 0:4, 0:4], parts[0:4, 12:16, 12:16] = WHITE_SPOTS, ENHANCEMENT
    return parts


def _answer(parts, order, sure=9.0):
    """Queries that have the parts in `order`; None has nothing."""
    goal = instance_targets(parts, ALL, torch.zeros(len(order), 8, 8, 8))
    classes = torch.full((1, len(order), 4), -sure)
    boxes = torch.full((1, len(order), 6), 0.5)
    half = torch.full((1, len(order), 8, 8, 8), -sure)
    for query, index in enumerate(order):
        classes[0, query, 3 if index is None else int(goal.classes[index])] = sure
        if index is not None:
            boxes[0, query] = goal.boxes[index]
            half[0, query] = (goal.masks[index] * 2 - 1) * sure
    quarter = torch.nn.functional.avg_pool3d(half, 2)
    return LesionOutput(classes, boxes, (half, quarter)), goal


def test_parts_are_named_boxed_and_halved():
    goal = instance_targets(_parts(), ALL, torch.zeros(5, 8, 8, 8))
    assert goal.classes.tolist() == [0, 0, 1, 2]
    assert float(goal.masks[0].sum()) * 8 == 8 * 4 * 8
    centre, edges = goal.boxes[1].split(3)
    assert centre.tolist() == pytest.approx([14 / 16, 12 / 16, 12 / 16])
    assert edges.tolist() == pytest.approx([4 / 16, 8 / 16, 8 / 16])


@pytest.mark.parametrize(
    ("shown", "classes"),
    [
        ((1, 0, 0, 0), [0, 0]),
        ((0, 1, 0, 0), [0, 0, 2]),
        ((0, 0, 1, 0), [0, 0, 1]),
        ((0, 1, 0, 1), [0, 0, 1, 2]),
    ],
)
def test_nobody_is_asked_for_what_no_shown_sequence_can_tell(shown, classes):
    goal = instance_targets(
        _parts(), torch.tensor(shown, dtype=torch.bool), torch.zeros(5, 8, 8, 8)
    )
    assert goal.classes.tolist() == classes


@pytest.mark.parametrize("order", [[0, 1, 2, 3, None], [3, None, 1, 0, 2], [None, 2, 3, 1, 0]])
def test_the_order_of_the_queries_is_free(order):
    output, goal = _answer(_parts(), order)
    rows, columns = match(output, 0, goal)
    assert [order[int(row)] for row in rows] == columns.tolist()
    assert float(set_loss(output, _parts()[None], ALL[None])) < 0.2


def test_a_wrong_set_is_dear():
    right, _ = _answer(_parts(), [0, 1, 2, 3, None])
    twice, _ = _answer(_parts(), [0, 0, 2, 3, None])
    none, _ = _answer(_parts(), [None] * 5)
    cost = [float(set_loss(one, _parts()[None], ALL[None])) for one in (right, twice, none)]
    assert cost[0] < cost[1] < cost[2]


def test_a_brain_without_parts_asks_for_nothing():
    empty = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
    quiet, _ = _answer(_parts(), [None] * 5)
    loud, _ = _answer(_parts(), [0, 1, 2, 3, None])
    assert float(set_loss(quiet, empty, ALL[None])) < 0.01
    assert float(set_loss(loud, empty, ALL[None])) > 5


def _output(target, sign):
    """An output that is sure, right or wrong, with attention there."""
    logits = (target * 2 - 1) * 8.0 * sign
    deep = tuple(torch.nn.functional.avg_pool3d(logits, 2**n) for n in (1, 2))
    spread = (target if sign > 0 else 1 - target) + 1e-6
    attention = spread / spread.sum((2, 3, 4), keepdim=True)
    return LensOutput(logits, deep, torch.zeros(1, len(target[0]), 8), attention, None, None)


@pytest.mark.parametrize("regions", [3, 4])
def test_regions_and_cavity_are_targets(regions):
    labels = torch.zeros(1, 3, 16, 16, 16, dtype=torch.uint8)
    labels[..., 4:12, 4:12, 4:12] = 1
    instances = labels[:, 0].clone()
    instances[:, 0:3, 0:3, 0:3] = CAVITY
    brain = torch.ones(1, 16, 16, 16, dtype=torch.bool)
    images = torch.zeros(1, 4, 16, 16, 16)
    batch = Batch(images, ALL[None], brain, labels, instances, torch.zeros(1))
    target = torch.cat([labels, (instances == CAVITY)[:, None].to(torch.uint8)], 1)[:, :regions]
    assert float(lens_loss(_output(target.float(), 1), batch)) < 0.1
    assert float(lens_loss(_output(target.float(), -1), batch)) > 2
