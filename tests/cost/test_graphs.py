"""The sizes for which vLLM captures CUDA graphs by default."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokensim.cost.graphs import captured_sizes


def test_a_large_server_captures_up_to_512() -> None:
    sizes = captured_sizes(1024, 8192)
    assert sizes[:6] == (1, 2, 4, 8, 16, 24)
    assert [size for size in sizes if 232 <= size <= 304] == [232, 240, 248, 256, 272, 288, 304]
    assert sizes[-1] == 512
    assert len(sizes) == 3 + 31 + 17


def test_twice_the_requests_are_enough() -> None:
    assert captured_sizes(256, 8192) == captured_sizes(1024, 8192)
    assert captured_sizes(64, 8192)[-1] == 128
    assert captured_sizes(3, 8192) == (1, 2, 4)
    assert captured_sizes(1, 8192) == (1, 2)


def test_no_graph_is_larger_than_a_step() -> None:
    assert captured_sizes(128, 100)[-1] == 96


@given(st.integers(1, 2000), st.integers(1, 20_000))
def test_sizes_ascend_and_stay_within_the_limits(seqs: int, tokens: int) -> None:
    sizes = captured_sizes(seqs, tokens)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] <= min(2 * seqs, 512, tokens)
