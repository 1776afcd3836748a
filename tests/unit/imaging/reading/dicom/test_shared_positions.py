"""Images that share positions: those of one volume stay together, whatever their order."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionlens.base.errors import GeometryError
from lesionlens.imaging.reading.dicom.scan import DicomSlice
from lesionlens.imaging.reading.dicom.shared_positions import split_volumes


def image(name, number=None, **attributes):
    """An image of which only the path and some attributes matter."""
    return DicomSlice(Path(name), {"InstanceNumber": number, **attributes})


def names(volumes):
    return [[item.path.name for item in one.slices] for one in volumes]


counts = st.integers(2, 4)


@given(counts, counts, st.data())
def test_volumes_are_separated_by_an_attribute_whatever_the_numbers(volumes, depth, data):
    numbers = data.draw(st.permutations(range(volumes * depth)))
    times = data.draw(st.permutations(range(8, 8 + volumes)))  # 10 is after 9
    positions = [
        data.draw(
            st.permutations(
                [
                    image(f"{times[v]} {k}", numbers[v * depth + k], AcquisitionTime=str(times[v]))
                    for v in range(volumes)
                ]
            )
        )
        for k in range(depth)
    ]
    for item in (*positions[0][:2], *(images[0] for images in positions[1:])):
        item.header["TriggerTime"] = 5.0  # more specific, and of no volume: passed over
    expected = [[f"{time} {k}" for k in range(depth)] for time in sorted(times)]
    assert names(split_volumes(positions)) == expected


@given(counts, st.permutations("ab"), st.permutations("xy"), st.data())
def test_two_attributes_of_which_neither_is_enough_separate_together(depth, stacks, kinds, data):
    of = {(s, t): f"{s}{t}" for s in stacks for t in kinds}
    positions = [
        data.draw(
            st.permutations(
                [image(f"{n} {k}", 1, StackID=s, AcquisitionTime=t) for (s, t), n in of.items()]
            )
        )
        for k in range(depth)
    ]
    found = names(split_volumes(positions))
    assert sorted(found) == [[f"{n} {k}" for k in range(depth)] for n in sorted(of.values())]


@pytest.mark.parametrize("numbers", [((1, 4), (2, 3)), ((1, 1), (2, 2))], ids=["opposite", "equal"])
@pytest.mark.parametrize("beside", [0, 1])
def test_images_that_nothing_tells_apart_are_refused(tmp_path, numbers, beside):
    """Beside a volume that can be told as well: the others would be missing in silence."""
    positions = [
        [image(tmp_path / f"{k}{v}", number, StackID="b") for v, number in enumerate(pair)]
        + [image(tmp_path / f"{k}a", 9 + k, StackID="a")] * beside
        for k, pair in enumerate(numbers)
    ]
    for item in (item for images in positions for item in images):
        item.path.write_text(item.path.name)
    with pytest.raises(GeometryError, match="no header that says"):
        split_volumes(positions)


@given(st.integers(2, 6), st.data(), st.booleans())
def test_of_an_acquisition_that_was_stopped_the_complete_one_is_kept(depth, data, stopped_first):
    stopped = data.draw(st.integers(1, depth - 1))
    first, then = ("part", "whole") if stopped_first else ("whole", "part")
    lengths = {"part": stopped, "whole": depth}
    positions = [
        [
            image(f"{name} {k}", start + k)
            for name, start in ((then, 1 + lengths[first]), (first, 1))
            if k < lengths[name]
        ]
        for k in range(depth)
    ]
    (kept,) = split_volumes(positions)
    assert names([kept]) == [[f"whole {k}" for k in range(depth)]]
    assert f"{stopped} slice position(s) occur twice" in kept.notices[0]
    assert "the images of the complete volume were kept" in kept.notices[0]
