"""What the endpoint is made of: tokens of text, prompts by their blocks, histograms, the pacer's clock."""

from __future__ import annotations

from bisect import bisect_left
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.serve.clock import Clock
from tokensim.serve.histogram import Histogram
from tokensim.serve.prefixes import PromptIndex, cut
from tokensim.serve.tokens import FILLER, Filler, RuleOfThumb


@given(st.text(), st.text())
def test_text_that_is_appended_after_a_space_leaves_the_tokens_before_it_alone(
    first: str, second: str
) -> None:
    tokens = RuleOfThumb()
    alone = tokens.encode(first, True)
    assert tokens.encode(first + "\n" + second, True)[: len(alone)] == alone


@given(st.lists(st.sampled_from(FILLER)))
def test_each_filler_word_is_one_token(words: list[str]) -> None:
    tokens = RuleOfThumb()
    by_word = dict(zip(tokens.words, tokens.word_ids, strict=True))
    assert tokens.encode("".join(words), True) == [by_word[word] for word in words]


def test_a_rule_of_thumb_is_about_four_characters_of_english() -> None:
    text = "Requests that share the beginning of their prompts can reuse what has been computed for it. " * 20
    assert 3.5 < len(text) / len(RuleOfThumb().encode(text, True)) < 6


@given(st.integers(0, 2**32), st.integers(0, 50), st.integers(0, 20))
def test_filler_is_a_function_of_its_seed_and_place(seed: int, first: int, count: int) -> None:
    filler = Filler(FILLER, seed)
    assert filler.some(first, count) == [filler[first + k] for k in range(count)]


def by_hand(seen: list[tuple[list[int], bytes]], prompt: list[int], salt: bytes, block: int) -> int:
    """Full blocks of ``prompt`` that some earlier prompt with its answer began with."""
    best = 0
    for tokens, other in seen:
        if other == salt:
            common = 0
            while (common + 1) * block <= min(len(tokens), len(prompt)) and tokens[
                : (common + 1) * block
            ] == prompt[: (common + 1) * block]:
                common += 1
            best = max(best, common)
    return best * block


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),  # which earlier text it goes on from
            st.integers(0, 30),  # how much of it
            st.lists(st.integers(0, 1), max_size=9),
            st.lists(st.integers(0, 1), min_size=1, max_size=9),
            st.sampled_from([b"", b"adapter"]),
        ),
        max_size=12,
    ),
    st.sampled_from([1, 3, 4]),
)
def test_prompts_share_the_blocks_that_they_have_in_common_with_any_earlier_text(
    turns: list[tuple[int, int, list[int], list[int], bytes]], block: int
) -> None:
    index = PromptIndex(block, 10**6)
    seen: list[tuple[list[int], bytes]] = []
    paths: list[list[int]] = []  # (segment, token in it) of each token, as one number
    for which, kept, more, answer, salt in turns:
        old = seen[which % len(seen)][0][:kept] if seen else []
        prompt = [*old, *more] or [1]
        segments, output = index.enter(prompt, answer, salt)
        assert sum(tokens for _, tokens in segments) == len(prompt)
        path = [
            (one << 20) + at for one, tokens in (*segments, (output, len(answer))) for at in range(tokens)
        ]
        shared = max((len(common(path, other)) for other in paths), default=0)
        assert shared == by_hand(seen, prompt, salt, block)
        seen.append(([*prompt, *answer], salt))
        paths.append(path)


def common(first: list[int], second: list[int]) -> list[int]:
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return first[:length]


def test_only_so_many_blocks_are_remembered() -> None:
    index = PromptIndex(2, 10)
    for number in range(50):
        index.enter([number] * 6, [number], b"")
    assert len(index) == 10
    assert index.enter([49] * 6, [0], b"")[0][0][1] == 6, "the latest is known"
    assert len(index.enter([1] * 6, [0], b"")[0]) == 1, "the oldest is forgotten"


def test_a_path_is_cut_within_a_segment() -> None:
    assert cut(((7, 5), (8, 4)), 7) == [(7, 5), (8, 2)]
    assert cut(((7, 5), (8, 4)), 5) == [(7, 5)]


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1.0))
def test_a_histogram_counts_and_bounds_its_quantiles(values: list[float], share: float) -> None:
    histogram = Histogram([0.1, 1.0, 5.0])
    for value in values:
        histogram.add(value)
    assert histogram.count == len(values)
    assert histogram.cumulative()[-1] == ("+Inf", len(values))
    assert histogram.total == pytest.approx(sum(values))
    exact = sorted(values)[min(len(values) - 1, max(0, -(-int(share * len(values) * 10**9) // 10**9) - 1))]
    bound = histogram.quantile(share)
    assert bound >= min(exact, histogram.largest)
    bounds = (0.1, 1.0, 5.0, inf)
    assert bound <= bounds[min(3, bisect_left(bounds, exact) + 1)]


def test_simulated_time_passes_faster_by_the_scale() -> None:
    now = [100.0]
    clock = Clock(10.0, lambda: now[0])
    now[0] = 102.5
    assert clock.now() == 25.0
    assert clock.until(30.0) == pytest.approx(0.5)
    assert clock.until(20.0) == pytest.approx(-0.5)
