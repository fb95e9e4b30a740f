"""The busiest rank's load: by hand where that is possible, else against drawn choices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.model.routing import chances, expert_load, greatest, linear, packed, zipf


def test_popularity_follows_zipfs_law_in_every_layer() -> None:
    popularity = zipf(4, 1.0, layers=3)
    assert popularity.shape == (3, 4)
    assert np.sort(popularity, axis=1)[0][::-1] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert len({tuple(layer) for layer in popularity.tolist()}) > 1, "popular experts lie elsewhere in each"
    assert (zipf(4, 0.0, layers=3) == np.ones((1, 4))).all()


def test_no_expert_is_chosen_more_than_always() -> None:
    # In proportion, the first would get 2 · 6/9: it is certain, and the others share the second choice.
    assert chances(np.array([[6.0, 2.0, 1.0, 0.0]]), 2) == pytest.approx(np.array([[1, 2 / 3, 1 / 3, 0]]))
    assert chances(np.ones((2, 8)), 2) == pytest.approx(np.full((2, 8), 0.25))


def test_experts_lie_in_order() -> None:
    assert linear(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert linear(5, 2).tolist() == [0, 0, 0, 1, 1], "the first ranks take what does not divide"


def test_heavy_experts_get_copies_and_ranks_like_loads() -> None:
    expert, rank = packed(np.array([0.9, 0.1, 0.5, 0.5]), ranks=2, redundant=2)
    # Copies: of expert 0 (0.45 each), then of 2 (the first of the two with 0.5).
    assert expert.tolist() == [0, 0, 1, 2, 2, 3]
    load = np.array([0.45, 0.45, 0.1, 0.25, 0.25, 0.5])
    # Heaviest first: 3 → 0; 0 → 1; 0 → 1 (0.45 < 0.5: now 0.9); 2 → 0; 2 → 0 (full: 1.0); 1 → 1.
    assert [load[rank == r].sum() for r in (0, 1)] == pytest.approx([1.0, 1.0])
    assert np.bincount(rank).tolist() == [3, 3]


def test_one_rank_has_every_visit() -> None:
    load = expert_load(np.ones((1, 8)), 2, ranks=1)
    tokens = np.array([1.0, 5.0, 1000.0])
    assert load.rows(tokens) == pytest.approx(2 * tokens)
    assert load.hits(np.array([1.0, 2.0])) == pytest.approx([2.0, 8 * (1 - 0.75**2)])
    assert load.imbalance == pytest.approx(1.0)


def test_many_tokens_show_the_heaviest_rank() -> None:
    # Two of four experts a token; ranks of two: 1 + 2/3 visits against 1/3 + 0.
    load = expert_load(np.array([[6.0, 2.0, 1.0, 0.0]]), 2, ranks=2)
    assert load.rows(np.array([1e6]))[0] == pytest.approx(1e6 * 5 / 3, rel=1e-3)
    assert load.imbalance == pytest.approx(5 / 3)
    assert load.hits(np.array([1e6]))[0] == pytest.approx(2.0)


def test_placement_by_load_takes_the_imbalance_away() -> None:
    popularity = zipf(64, 1.0, layers=8)
    linear_, eplb = (expert_load(popularity, 4, 8, **k) for k in ({}, {"eplb": True, "redundant": 16}))  # type: ignore[arg-type]
    assert linear_.imbalance > 1.5
    assert eplb.imbalance < 1.05


def test_the_greatest_of_two_equal_normals() -> None:
    # E max of two standard normals is 1/√π.
    assert greatest(np.zeros(2), np.ones(2)) == pytest.approx(1 / np.sqrt(np.pi))
    assert greatest(np.array([5.0, 1.0]), np.zeros(2)) == pytest.approx(5.0)


def drawn(chance: np.ndarray, top_k: int, tokens: int, rng: np.random.Generator) -> np.ndarray:
    """Visits of each expert: systematic sampling in random order, which has exactly these chances."""
    counts = np.zeros(len(chance), dtype=np.int64)
    for _ in range(tokens):
        order = rng.permutation(len(chance))
        edges = np.concatenate([[0.0], np.cumsum(chance[order])])
        points = rng.random() + np.arange(top_k)
        counts[order[np.searchsorted(edges, points, side="right") - 1]] += 1
    return counts


@pytest.mark.parametrize(("exponent", "ranks"), [(0.0, 8), (0.7, 4), (1.0, 8)])
def test_loads_are_those_of_drawn_choices(exponent: float, ranks: int) -> None:
    rng = np.random.default_rng(3)
    experts, top_k, layers, tokens = 32, 4, 6, 48
    popularity = zipf(experts, exponent, layers)
    load = expert_load(popularity, top_k, ranks)
    rows, hits = [], []
    for one in chances(popularity, top_k):
        for _ in range(60 // len(popularity)):
            counts = drawn(one, top_k, tokens, rng)
            by_rank = counts.reshape(ranks, -1)
            rows.append(by_rank.sum(axis=1).max())
            hits.append((by_rank > 0).sum(axis=1).max())
    at = np.array([float(tokens)])
    assert load.rows(at)[0] == pytest.approx(np.mean(rows), rel=0.06)
    assert load.hits(at)[0] == pytest.approx(np.mean(hits), rel=0.06)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda ranks: st.tuples(
            st.just(ranks),
            st.lists(st.floats(0.01, 9.0), min_size=ranks * 2, max_size=24).filter(lambda w: len(w) >= 4),
        )
    ),
    st.integers(1, 3),
)
def test_the_busiest_rank_has_its_share_at_least_and_all_at_most(
    drawn_: tuple[int, list[float]], top_k: int
) -> None:
    ranks, weights = drawn_
    load = expert_load(np.array([weights]), top_k, ranks)
    tokens = np.geomspace(1, 1e6, 40)
    rows, hits = load.rows(tokens), load.hits(tokens)
    assert (rows >= tokens * top_k / ranks * (1 - 1e-9)).all()
    assert (rows <= tokens * top_k * (1 + 1e-9)).all()
    assert (rows[1:] > rows[:-1] * 0.999).all()
    assert (hits <= -(-len(weights) // ranks) + 1e-9).all()
    assert (np.diff(hits) >= -1e-9).all()
