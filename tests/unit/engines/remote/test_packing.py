"""Messages: what is packed comes back bit by bit; what is damaged is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lesionlens.base.errors import ServerError
from lesionlens.engines.remote.packing import pack, unpack

DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=1, max_dims=4)))


@given(ARRAYS)
def test_any_array_comes_back_bit_by_bit(array):
    header, arrays = unpack(pack({"a": [1, None, "ü"]}, {"x": array}))
    assert header == {"a": [1, None, "ü"]}
    assert arrays["x"].dtype == array.dtype
    assert arrays["x"].shape == array.shape
    assert arrays["x"].tobytes() == array.tobytes()


@given(hnp.arrays(np.float32, (3, 4, 5, 2)), hnp.arrays(np.bool_, (4, 5, 2)))
def test_what_is_zero_outside_the_brain_comes_back_too(values, brain):
    inside = np.where(brain, np.nan_to_num(values), np.float32(0))
    message = pack({}, {"x": inside}, brain)
    assert np.array_equal(unpack(message, brain)[1]["x"], inside)


def test_what_is_not_zero_outside_travels_whole():
    values = np.ones((2, 2, 2), np.float32)
    message = pack({}, {"x": values}, np.zeros((2, 2, 2), bool))
    assert np.array_equal(unpack(message)[1]["x"], values)


def test_only_the_brain_of_a_map_travels():
    random = np.random.default_rng(0).random((40, 40, 40), np.float32)
    brain = np.zeros((40, 40, 40), bool)
    brain[10:20, 10:20, 10:20] = True
    assert len(pack({}, {"x": random * brain}, brain)) < 5000
    assert len(pack({}, {"x": random})) > 100_000


def test_a_message_cut_short_is_refused():
    message = pack({}, {"x": np.arange(1000, dtype=np.float32)})
    for length in (0, 4, 20, len(message) // 2, len(message) - 1):
        with pytest.raises(ServerError, match="message"):
            unpack(message[:length])


@pytest.mark.parametrize(
    "note",
    [
        {"shape": [10**6, 10**6], "dtype": "float64", "inside": False},
        {"shape": [-1], "dtype": "float32", "inside": False},
        {"shape": [float("inf")], "dtype": "float32", "inside": False},
        {"shape": [250], "dtype": "object", "inside": False},
        {"shape": [999], "dtype": "float32", "inside": False},
        {"shape": [5, 5, 10], "dtype": "float32", "inside": True},
        {"shape": "odd", "dtype": "float32", "inside": False},
    ],
)
def test_a_message_that_lies_about_an_array_is_refused(note):
    message = pack({}, {"x": np.zeros(250, np.float32)})
    size = int.from_bytes(message[:8], "little")
    about = json.loads(message[8 : 8 + size])
    about["__metadata__"]["lesionlens"] = json.dumps({"header": {}, "arrays": {"x": note}})
    forged = json.dumps(about).encode()
    with pytest.raises(ServerError):
        unpack(len(forged).to_bytes(8, "little") + forged + message[8 + size :])


def test_an_array_that_would_unpack_to_too_much_is_refused_before_it_does():
    message = pack({}, {"x": np.zeros(10**6, np.float32)})
    with pytest.raises(ServerError, match="at once"):
        unpack(message, limit_bytes=10**6)


def test_a_pickle_is_no_message():
    import pickle

    with pytest.raises(ServerError):
        unpack(pickle.dumps({"x": 1}))


def test_arrays_of_objects_are_never_packed():
    with pytest.raises((TypeError, ValueError, ServerError)):
        unpack(pack({}, {"x": np.array([object()])}))
