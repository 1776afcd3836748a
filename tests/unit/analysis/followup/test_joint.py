"""A change of volume by one criterion for both examinations, on heads of known growth."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import ndimage
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.analysis.followup import joint
from lesionlens.analysis.followup.joint import AlignedScan, Side, joint_change
from lesionlens.analysis.followup.matched_intensity import VoxelRoles
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.joint_change import JointChange, Unmeasurable
from lesionlens.engines.testing.simple import Lesion, make_patient

HERE = np.eye(4)
PLACE = (-28.0, 8.0, 26.0)
SHARED = (MrSequence.T1C, MrSequence.FLAIR)


def analysed(folder, radius_mm, *, stored="RAS", seed=5):
    head = make_patient(seed, spacing_mm=4.0, lesions=(Lesion(PLACE, radius_mm),))
    how = Acquisition(stored, (4.0, 4.0, 4.0))
    return make_analysis(head, write_study(head, folder, sequences=SHARED, how=how))


def with_missed_edge(made):
    """Return an analysis whose outline lacks its outermost voxels, nor thinks them likely."""
    kept = ndimage.binary_erosion(made.findings.components > 0)
    whole = made.volumes.probability[Region.WT]
    likely = np.where(kept, whole.data, np.minimum(whole.data, 0.45)).astype(np.float32)
    components = np.where(kept, made.findings.components, 0).astype(np.int32)
    found = replace(made.findings, components=components)
    return replace(with_probability(made, likely), findings=found)


def with_probability(made, likely):
    known = {**made.volumes.probability, Region.WT: Volume(likely, made.prepared.native)}
    return replace(made, volumes=replace(made.volumes, probability=known))


def with_images(made, change):
    """Return an analysis whose images were changed inside the brain."""
    images = np.stack([change(image) for image in made.prepared.channels]).astype(np.float32)
    return replace(made, prepared=replace(made.prepared, channels=images * made.prepared.brain))


def together(before, now):
    return joint_change(Side(before, [1]), Side(now, [1]), HERE)


def by_outlines(before, now):
    volumes = [np.count_nonzero(one.findings.components == 1) for one in (before, now)]
    return 100 * (volumes[1] / volumes[0] - 1)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return analysed(tmp_path_factory.mktemp("before") / "head", 18.0)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    return analysed(tmp_path_factory.mktemp("grown") / "head", 20.0)


@pytest.fixture(scope="module")
def there(before, grown):
    return together(before, grown)


def test_an_outline_that_missed_the_edge_is_no_shrinking(before):
    missed = with_missed_edge(before)
    assert by_outlines(before, missed) < -30
    found = together(before, missed)
    assert found.percent == pytest.approx(0, abs=1)
    contradiction = abs(np.log(1 + by_outlines(before, missed) / 100))
    assert found.plus_minus == pytest.approx(10 + 25 * contradiction, abs=2)


def test_the_same_examination_twice_has_not_changed(before):
    found = together(before, before)
    assert found.percent == pytest.approx(0, abs=1e-6)
    assert found.plus_minus == pytest.approx(10)


@pytest.mark.parametrize(("first", "second"), [(18.0, 21.0), (20.0, 17.8)])
def test_growth_and_shrinking_come_out_in_sign_and_size(tmp_path, first, second):
    one = analysed(tmp_path / "one", first)
    other = analysed(tmp_path / "other", second, seed=5)
    true = by_outlines(one, other)
    assert abs(true) > 25
    found = together(one, with_missed_edge(other))
    assert found.percent == pytest.approx(true, abs=0.12 * (100 + true))
    assert abs(found.percent - true) <= found.plus_minus


def test_swapping_the_examinations_inverts_the_ratio(before, grown, there):
    back = together(grown, before)
    assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1, abs=2e-4)
    for found in (there, back):  # the larger the change, the larger its relative error
        ratio = 1 + found.percent / 100
        error = found.plus_minus / 100 / ratio
        assert error == pytest.approx(0.10 + 0.3 * abs(np.log(ratio)), abs=0.03)


def test_its_figures_are_those_of_a_reopened_result(there):
    stored = TypeAdapter(JointChange)
    assert stored.validate_json(stored.dump_json(there)) == there


def test_how_the_files_are_stored_does_not_matter(before, there, tmp_path):
    turned = analysed(tmp_path / "turned", 20.0, stored="PIR")
    assert together(before, turned).percent == pytest.approx(there.percent, abs=0.2)


def test_another_field_and_another_curve_of_intensity_are_taken_out(before, grown, there):
    along = np.linspace(0.8, 1.25, grown.prepared.brain.shape[0])[:, None, None]
    other = with_images(grown, lambda image: 300 * along * np.maximum(image, 1e-3) ** 0.8)
    assert together(before, other).percent == pytest.approx(there.percent, abs=5)


def test_what_cannot_be_measured_says_why(before):
    blind = replace(before, volumes=replace(before.volumes, probability={}))
    assert together(before, blind).reason is Unmeasurable.PROBABILITIES
    unsure = with_probability(before, np.full(before.prepared.native.shape, 0.5, np.float32))
    assert together(before, unsure).reason is Unmeasurable.OUTLINES
    noise = np.random.default_rng(3).uniform(1, 1000, before.prepared.brain.shape)
    assert together(before, with_images(before, lambda _: noise)).reason is (
        Unmeasurable.INTENSITIES
    )
    alike = with_images(before, lambda _: noise)
    assert together(alike, alike).reason is Unmeasurable.FAINT
    alone = replace(before, prepared=replace(before.prepared, present=np.zeros(4, dtype=bool)))
    found = together(before, alone)
    assert found.reason is Unmeasurable.INTENSITIES
    assert found.percent is found.plus_minus is None
    assert "cannot be matched" in found.text


@pytest.mark.parametrize("seen", ["before", "now"])
def test_lesion_of_another_appearance_leaves_the_change_unknown(seen):
    """The regression has learnt the rest of the lesion: it would count the new part as tissue."""
    shape = (64, 56, 56)
    at = np.moveaxis(np.indices(shape), 0, -1)
    brain = np.linalg.norm(at - np.array((32, 28, 28)), axis=-1) <= 27
    lesion, cyst = (
        np.linalg.norm(at - np.array(centre), axis=-1) <= radius
        for centre, radius in (((24, 28, 28), 8), ((37, 28, 28), 6))
    )
    noise = np.random.default_rng(0).normal(0, 0.03, (2, *shape))
    tissue = np.stack([1 + 0.2 * np.sin(at[..., 0] / 5), 1 + 0.2 * np.cos(at[..., 1] / 5)]) + noise
    shown = (np.where(lesion, tissue + 1, tissue) * brain).astype(np.float32)
    with_cyst = np.where(cyst, shown - np.float32(0.2), shown)
    likely, likelier = (
        np.where(each, 0.95, 0.03).astype(np.float32) for each in (lesion, lesion | cyst)
    )
    nothing = np.zeros(shape, bool)
    plain = AlignedScan(shown, likely, brain, lesion, nothing)
    special = AlignedScan(with_cyst, likelier, brain, lesion | cyst, nothing)
    pair = (special, plain) if seen == "before" else (plain, special)
    assert joint.change_of(plain, plain).percent == pytest.approx(0, abs=1e-6)
    assert joint.change_of(*pair).reason is Unmeasurable.OUTLINES


@pytest.mark.parametrize("changed", ["before", "now"])
def test_tissue_of_another_lesion_or_outside_an_image_takes_no_part(changed):
    """Whichever examination has them: the figure of a lesion is of its own surroundings."""
    shape = (48, 40, 40)
    at = np.moveaxis(np.indices(shape), 0, -1)
    lesion, other = (
        np.linalg.norm(at - np.array(place), axis=-1) <= 4 for place in ((16, 20, 20), (32, 20, 20))
    )
    nothing = np.zeros(shape, bool)
    shown = np.ones((2, *shape), np.float32)
    cut = shown.copy()
    cut[1, :, :, 26:] = 0  # one sequence ends here
    chance = np.where(lesion | other, 0.9, 0.05).astype(np.float32)
    plain = AlignedScan(shown, chance, ~nothing, lesion, nothing)
    special = AlignedScan(cut, chance, ~nothing, lesion, other)
    pair = (special, plain) if changed == "before" else (plain, special)
    masks = joint._masks(*pair)
    distance_mm, others_mm = (ndimage.distance_transform_edt(~one) for one in (lesion, other))
    for role in (masks.near, masks.band, masks.inside, masks.outside):
        assert role.any()
        assert not role[:, :, 26:].any()
        assert (distance_mm < others_mm)[role].all()
    assert masks.normal.any()
    assert not masks.normal[:, :, 26:].any()
    assert (others_mm[masks.normal] > joint._NORMAL_MM).all()


@pytest.mark.parametrize(
    ("inside", "outside", "undecided", "normal", "reason"),
    [
        (100, 100, 120, 2000, None),
        (99, 100, 0, 2000, Unmeasurable.OUTLINES),
        (100, 99, 0, 2000, Unmeasurable.OUTLINES),
        (100, 100, 121, 2000, Unmeasurable.OUTLINES),
        (100, 100, 0, 1999, Unmeasurable.TISSUE),
    ],
)
def test_a_regression_needs_voxels_on_which_both_outlines_agree(
    inside, outside, undecided, normal, reason
):
    """Of a lesion of 100 voxels, at most 120 may be undecided."""
    ends = np.cumsum([inside, outside, undecided, normal])
    at = np.arange(4000)[:, None, None]
    agreed = [(at >= end - n) & (at < end) for n, end in zip((inside, outside), ends, strict=False)]
    band = at < ends[2]
    unaffected = (at >= ends[2]) & (at < ends[3])
    masks = VoxelRoles(at >= 0, at >= 0, band, unaffected, *agreed)
    assert joint._untrainable_reason(masks, 100.0) is reason


def test_roles_follow_from_distance_and_from_what_both_examinations_find_likely():
    shape = (48, 40, 40)
    lesion = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - 20, axis=-1) <= 4
    chances = np.where(lesion, np.float32(0.9), np.float32(0.05))
    pairs = {  # by voxel, 5 mm from the lesion: whether both agree on lesion, tissue, no effect
        (29, 20, 20): (0.71, 0.95, True, False, False),
        (11, 20, 20): (0.69, 0.95, False, False, False),
        (20, 29, 20): (0.1, 0.31, False, False, False),
        (20, 11, 20): (0.1, 0.29, False, True, False),
        (20, 20, 11): (0.1, 0.19, False, True, True),
    }
    then, now = chances.copy(), chances.copy()
    for at, (lower, higher, *_) in pairs.items():
        then[at], now[at] = lower, higher
    nothing = np.zeros(shape, bool)
    shown = np.ones((1, *shape), np.float32)
    scans = [AlignedScan(shown, chance, ~nothing, lesion, nothing) for chance in (then, now)]
    distance_mm = ndimage.distance_transform_edt(~lesion)
    for masks in (joint._masks(*scans), joint._masks(*scans[::-1])):
        np.testing.assert_array_equal(masks.near, distance_mm <= 14)
        np.testing.assert_array_equal(masks.band, distance_mm <= 6)
        for at, (_, _, *roles) in pairs.items():
            assert [m[at] for m in (masks.inside, masks.outside, masks.normal)] == roles
            masks.inside[at] = masks.outside[at] = False
        np.testing.assert_array_equal(masks.inside, lesion)
        edge = ~np.pad(np.ones([n - 2 for n in shape], bool), 1)
        unaffected = (distance_mm > 3) & (np.maximum(then, now) < 0.2) & ~edge
        np.testing.assert_array_equal(masks.normal, unaffected)
