import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pure import pure_only
from tests.unit.wire.strategies import u16
from usertcp.wire import checksum

long_data = st.binary(max_size=700) | st.builds(
    lambda unit, times, tail: unit * times + tail,
    st.binary(min_size=1, max_size=40),
    st.integers(1, 2000),
    st.binary(max_size=3),
)


def word_by_word(data: bytes) -> int:
    """RFC 1071 §4.1 as it stands there."""
    total = 0
    for at in range(0, len(data) - 1, 2):
        total += data[at] << 8 | data[at + 1]
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(long_data)
def test_sum_of_any_data_is_the_sum_word_by_word(data: bytes) -> None:
    assert checksum.sum16(data) == word_by_word(data)


@given(long_data)
def test_numpy_sums_as_python_does(data: bytes) -> None:
    pytest.importorskip("numpy")
    from usertcp.wire.checksum_numpy import sum_long

    assert sum_long(data) == word_by_word(data)
    assert sum_long(memoryview(b"x" + data)[1:]) == word_by_word(data)  # wherever it lies


@given(long_data, st.integers(0, 0xFFFF))
def test_sum_with_numpy_asked_for_is_the_sum_without(data: bytes, start: int) -> None:
    pytest.importorskip("numpy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checksum, "_sum_long", None)
        plain = checksum.sum16(data, start)
        assert checksum.use_numpy()
        assert checksum.sum16(data, start) == plain


@pure_only
def test_without_numpy_python_sums() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checksum, "_sum_long", None)
        patch.setitem(sys.modules, "usertcp.wire.checksum_numpy", None)
        assert not checksum.use_numpy()
        assert checksum.sum16(bytes(range(256)) * 4) == word_by_word(bytes(range(256)) * 4)


@given(long_data, st.lists(st.integers(0, 700), max_size=5))
def test_checksum_of_any_split_is_that_of_the_whole(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [memoryview(data)[a:b] for a, b in pairwise(edges)]
    assert checksum.checksum(*parts) == 0xFFFF - word_by_word(data)


@given(st.binary(max_size=64), u16)
def test_data_with_its_checksum_in_place_sums_to_valid(data: bytes, word: int) -> None:
    data = data[: len(data) & ~1]
    check = checksum.checksum(data, word.to_bytes(2, "big"))
    assert checksum.sum16(data + word.to_bytes(2, "big") + check.to_bytes(2, "big")) == checksum.VALID


@given(st.lists(u16, min_size=1, max_size=20), st.integers(0, 19), u16)
def test_update_of_one_word_is_the_checksum_made_anew(words: list[int], at: int, new: int) -> None:
    words = [0x4500, *words]  # as in any header, not everything is zero
    at = 1 + at % (len(words) - 1)
    before = checksum.finish(sum(words))
    old, words[at] = words[at], new
    assert checksum.update(before, old, new) == checksum.finish(sum(words))
