"""The engine keeps the contract; its boxes lie right; its outlines say what they are."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monai")
torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
# trains a detector first; the warnings are of MONAI's own parts
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

from lesionlens_retinanet import engine as retinanet
from lesionlens_retinanet.outline import outlines
from safetensors.torch import save_file

from lesionlens.plugin import SILENT, Grid, MrSequence, Region, UnusableInputError, WeightsError
from lesionlens.testing import check_engine, healthy_head, make_patient, prepared_head

CONFIG = retinanet.DetectorConfig(spacing_mm=4.0, channels=(8, 16), anchor_vox=(4, 8))
STEPS = 60


def head_box(study):
    """The drawn lesion's box on the grid of 4 mm that the network reads, as MONAI counts it."""
    read = retinanet.make_network_input(study, CONFIG.spacing_mm, torch.device("cpu"))
    head = make_patient(spacing_mm=4.0)
    there = np.argwhere(head.labels.data > 0)
    corners = np.array([there.min(0) - 0.5, there.max(0) + 0.5])
    return read, read.grid.to_voxel(study.working.to_mm(corners)) + 0.5


def loss_of(detector, image, box):
    """MONAI's own matcher of anchors would want torchvision; `box` is None where there is none."""
    from monai.apps.detection.utils.detector_utils import preprocess_images
    from monai.data.box_utils import box_iou

    images, _ = preprocess_images([image], 3, detector.network.size_divisible)
    head = detector.network(images)
    scores, moves = (
        detector._reshape_maps(head[key])[0] for key in ("classification", "box_regression")
    )
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    if box is None:
        return entropy(scores[:, 0], torch.zeros(len(scores)))
    detector.generate_anchors(images, head)
    anchors = detector.anchors[0]
    overlap = box_iou(anchors, box)[:, 0]
    meant = overlap > min(0.4, float(overlap.max()) - 1e-3)
    wanted = detector.box_coder.encode_single(box.expand(int(meant.sum()), 6), anchors[meant])
    right = entropy(scores[:, 0], meant.float(), pos_weight=torch.tensor(20.0))
    return right + torch.nn.functional.smooth_l1_loss(moves[meant], wanted)


def learn(detector, image, box, healthy):
    """Teach one box by heart, and that there is none in the same head without its lesion."""
    optimiser = torch.optim.Adam(detector.network.parameters(), lr=3e-3)
    for _ in range(STEPS):
        loss = loss_of(detector, image, box) + loss_of(detector, healthy, None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector that learnt one drawn lesion by heart."""
    made = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    detector = retinanet.build(CONFIG)
    study = prepared_head()
    read, corners = head_box(study)
    healthy = retinanet.make_network_input(healthy_head(), CONFIG.spacing_mm, torch.device("cpu"))
    order = [list(MrSequence).index(MrSequence(s)) for s in CONFIG.sequences]
    image, other = (x.channels[0, order] for x in (read, healthy))
    learn(detector, image, torch.tensor(corners.reshape(1, 6), dtype=torch.float32), other)
    state = {k: v.contiguous() for k, v in detector.network.state_dict().items()}
    save_file(state, made / retinanet.WEIGHTS)
    (made / retinanet.CONFIG).write_text(json.dumps(asdict(CONFIG)))
    return made


@pytest.fixture(scope="module")
def engine(folder):
    return retinanet.RetinaNetEngine("cpu", folder)


def test_it_keeps_the_contract(engine):
    check_engine(engine)


def test_it_finds_and_outlines_the_lesion_that_it_learnt(engine):
    prediction = engine.predict(prepared_head(), context=SILENT)
    found = prediction.probability[Region.WT] > 0
    truth = make_patient(spacing_mm=4.0).labels.data > 0
    overlap = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert overlap > 0.5
    assert "boxes" in prediction.notices[0]


def test_a_box_lies_where_it_was_found():
    working = Grid((40, 50, 60), np.diag([1.0, 1.0, 1.0, 1.0]))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (0.5, 10.5, 0.5)  # its first voxel holds 0, 1 and 10, 11 and 0, 1
    read = Grid((20, 20, 30), affine)
    box = retinanet._box_on(working, read, [1, 2, 3, 4, 6, 8])
    assert box == (slice(2, 8), slice(14, 22), slice(6, 16))
    assert retinanet._box_on(working, read, [1, 2, 3, 1, 6, 8]) is None


def test_an_outline_is_what_is_bright_in_the_box_and_keeps_its_score():
    rng = np.random.default_rng(0)
    channels = rng.normal(100, 3, (4, 30, 30, 30)).astype(np.float32)
    lesion = np.zeros((30, 30, 30), bool)
    lesion[8:16, 9:15, 10:18] = True
    channels[list(MrSequence).index(MrSequence.FLAIR)][lesion] += 60
    rim = lesion.copy()
    rim[10:14, 11:13, 12:16] = False
    channels[list(MrSequence).index(MrSequence.T1C)][rim] += 60
    brain = np.ones_like(lesion)
    box = (slice(5, 20), slice(5, 20), slice(5, 22))
    found = outlines(channels, [True] * 4, brain, [(box, 0.75)])
    assert set(np.unique(found[Region.WT])) == {np.float32(0), np.float32(0.75)}
    for region, truth in ((Region.WT, lesion), (Region.TC, lesion), (Region.ET, rim)):
        wrong = (found[region] > 0) != truth  # the cut lies at the edge of what is dark
        assert wrong.sum() <= 2, region


def test_where_nothing_stands_out_nothing_enhances():
    rng = np.random.default_rng(0)
    channels = rng.normal(100, 30, (4, 20, 20, 20)).astype(np.float32)
    channels[list(MrSequence).index(MrSequence.T1C)] = rng.normal(100, 3, (20, 20, 20))
    channels[list(MrSequence).index(MrSequence.T1C), :4] += 900  # elsewhere in the brain
    channels[list(MrSequence).index(MrSequence.FLAIR), 8:12, 8:12, 8:12] += 300
    brain = np.ones((20, 20, 20), bool)
    box = (slice(6, 14),) * 3
    found = outlines(channels, [True] * 4, brain, [(box, 0.9)])
    assert found[Region.WT].any()
    assert not found[Region.ET].any()


def test_a_sequence_that_it_needs_is_asked_for(engine):
    with pytest.raises(UnusableInputError, match="FLAIR"):
        engine.predict(prepared_head(["t1c"]), context=SILENT)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=retinanet.WEIGHTS):
        retinanet.RetinaNetEngine("cpu", tmp_path)
