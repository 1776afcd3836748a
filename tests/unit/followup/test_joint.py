"""A lesion's volume read together at two examinations, where each outline alone says otherwise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from lesionlens.base.labels import Region
from lesionlens.followup.joint import Side, read_together
from lesionlens.records.arrays import Volume
from lesionlens.testing.analysis import make_analysis, write_study
from lesionlens.testing.simple import Lesion, make_patient

PLACE = (-28.0, 8.0, 26.0)
HERE = np.eye(4)


def analysed(folder, radius_mm, *, missed_vox=0):
    """Analyse a head; `missed_vox` of the outline's edge are not drawn, nor thought likely."""
    head = make_patient(5, spacing_mm=3.0, lesions=(Lesion(PLACE, radius_mm),))
    made = make_analysis(head, write_study(head, folder))
    if not missed_vox:
        return made
    kept = ndimage.binary_erosion(made.findings.components > 0, iterations=missed_vox)
    whole = made.volumes.probability[Region.WT]
    likely = np.where(kept, whole.data, np.minimum(whole.data, 0.45)).astype(np.float32)
    volumes = replace(
        made.volumes,
        probability={**made.volumes.probability, Region.WT: Volume(likely, whole.grid)},
    )
    components = np.where(kept, made.findings.components, 0).astype(np.int32)
    return replace(made, volumes=volumes, findings=replace(made.findings, components=components))


def percents(before, now):
    """Return the change by the two outlines, and as both are read together."""
    drawn = [np.count_nonzero(one.findings.components == 1) for one in (before, now)]
    first, second = read_together(Side(before, [1]), Side(now, [1]), HERE)
    return 100 * (drawn[1] / drawn[0] - 1), 100 * (second / first - 1)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return analysed(tmp_path_factory.mktemp("before") / "head", 18.0)


def test_an_outline_that_missed_the_edge_is_read_as_far_less_shrinking(before, tmp_path):
    outlines, together = percents(before, analysed(tmp_path / "head", 18.0, missed_vox=1))
    assert outlines < -30
    assert abs(together) < abs(outlines) / 3


def test_growth_is_still_measured(before, tmp_path):
    grown = analysed(tmp_path / "head", 20.0)
    outlines, together = percents(before, grown)
    assert 25 < outlines < 45
    assert together == pytest.approx(outlines, abs=8)
    back = percents(grown, before)[1]
    assert (1 + together / 100) * (1 + back / 100) == pytest.approx(1, abs=1e-6)  # either way


def test_nothing_is_said_where_it_cannot_be_read_together(before):
    blind = replace(before, volumes=replace(before.volumes, probability={}))
    assert read_together(Side(before, [1]), Side(blind, [1]), HERE) is None
    unsure = {Region.WT: replace_data(before.volumes.probability[Region.WT])}
    unclear = replace(before, volumes=replace(before.volumes, probability=unsure))
    assert read_together(Side(before, [1]), Side(unclear, [1]), HERE) is None
    alone = replace(before, prepared=replace(before.prepared, present=np.zeros(4, dtype=bool)))
    assert read_together(Side(before, [1]), Side(alone, [1]), HERE) is None


def replace_data(volume):
    """Return the volume with nothing sure in it."""
    return Volume(np.full_like(volume.data, 0.5), volume.grid)
