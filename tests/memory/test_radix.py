"""The radix tree over runs of tokens against one over single tokens, and small cases by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.memory import Content, RadixPool
from tokensim.memory.radix import RadixNode, common_end, key_at


def content(*runs: tuple[int, int]) -> Content:
    return Content.of_runs(list(runs), -1)


def tokens_of(runs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Each token as (run, its start, place in it): what the identity of tokens is."""
    tokens, start = [], 0
    for run, length in runs:
        tokens += [(run, start, place) for place in range(length)]
        start += length
    return tokens


class PlainNode:
    def __init__(self, tokens: list[tuple[int, int, int]], parent: PlainNode | None, time: int) -> None:
        self.tokens = tokens
        self.parent = parent
        self.children: list[PlainNode] = []
        self.locks = 0
        self.time = time


class PlainTree:
    """SGLang's radix cache as its description says, token by token."""

    def __init__(self, size: int, page: int) -> None:
        self.page = page
        self.available = size
        self.root = PlainNode([], None, 0)
        self.clock = 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def walk(self, tokens: list[tuple[int, int, int]], touch: bool) -> tuple[PlainNode, int]:
        node, done = self.root, 0
        while True:
            for child in node.children:
                if child.tokens[: self.page] == tokens[done : done + self.page]:
                    break
            else:
                return node, done
            same = 0
            while (
                same < len(child.tokens)
                and done + same < len(tokens)
                and child.tokens[same] == tokens[done + same]
            ):
                same += 1
            same -= same % self.page
            if touch:
                child.time = self.tick()
            if same < len(child.tokens):
                upper = PlainNode(child.tokens[:same], node, self.tick())
                upper.locks = child.locks
                node.children[node.children.index(child)] = upper
                child.tokens, child.parent, child.time = child.tokens[same:], upper, self.tick()
                upper.children = [child]
                return upper, done + same
            node, done = child, done + same

    def match(self, tokens: list[tuple[int, int, int]]) -> tuple[PlainNode, int]:
        tokens = tokens[: len(tokens) - len(tokens) % self.page]
        if not tokens:
            return self.root, 0
        node, done = self.walk(tokens, False)
        now, above = self.tick(), node
        while above is not None:
            above.time, above = now, above.parent  # type: ignore[assignment]
        return node, done

    def insert(self, tokens: list[tuple[int, int, int]]) -> tuple[PlainNode, int]:
        tokens = tokens[: len(tokens) - len(tokens) % self.page]
        if not tokens:
            return self.root, 0
        node, done = self.walk(tokens, True)
        if done < len(tokens):
            leaf = PlainNode(tokens[done:], node, self.tick())
            node.children.append(leaf)
            node = leaf
        return node, done

    def nodes(self) -> Iterator[PlainNode]:
        stack = list(self.root.children)
        while stack:
            node = stack.pop()
            yield node
            stack += node.children

    def evict(self, tokens: int) -> None:
        while self.available < tokens:
            leaves = [node for node in self.nodes() if not node.children and not node.locks]
            if not leaves:
                return
            leaf = min(leaves, key=lambda node: node.time)
            assert leaf.parent is not None
            leaf.parent.children.remove(leaf)
            self.available += len(leaf.tokens)

    def lock(self, node: PlainNode | None, by: int) -> None:
        while node is not None:
            node.locks += by
            node = node.parent


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 1 << 40))
def test_the_tree_over_runs_is_the_tree_over_tokens(seed: int) -> None:
    """Random requests match, lock, insert, unlock; now and then something is evicted."""
    rng = random.Random(seed)
    page = rng.choice([1, 1, 2, 4])
    size = 60 * page
    pool, plain = RadixPool(60, page, caching=True), PlainTree(size, page)
    held: list[tuple[RadixNode, PlainNode]] = []
    for _ in range(rng.randrange(5, 60)):
        runs = [(rng.randrange(3), rng.randrange(1, 3 * page + 3)) for _ in range(rng.randrange(1, 4))]
        one, tokens = content(*runs), tokens_of(runs)
        length = rng.randrange(1, len(tokens) + 1)
        whole = length - length % page
        found = pool.find(one, length // page)
        (node, hit), (other, plain_hit) = pool.match(one, length), plain.match(tokens[:length])
        assert hit == plain_hit == found[1] * page
        pool.lock(node)
        plain.lock(other, 1)
        need = whole - hit
        pool.evict(need)
        plain.evict(need)
        assert pool.available == plain.available
        if need > pool.available:
            held.append((node, other))
            continue
        pool.take(need)
        plain.available -= need
        end, known = pool.insert(node, one, length)
        plain_end, plain_known = plain.insert(tokens[:length])
        assert known == plain_known
        pool.give(known - hit)
        plain.available += known - hit
        boundary = rng.randrange(whole + 1) // page * page
        if boundary < whole:
            pool.divide(end, boundary)
            plain.insert(tokens[:boundary])
        pool.lock(end)
        pool.unlock(node)
        plain.lock(plain_end, 1)
        plain.lock(other, -1)
        held.append((end, plain_end))
        while held and rng.random() < 0.6:
            mine, its = held.pop(rng.randrange(len(held)))
            pool.unlock(mine)
            plain.lock(its, -1)
        pool.check_integrity(0)
        protected = sum(len(node.tokens) for node in plain.nodes() if node.locks)
        assert pool.protected == protected
        assert pool.free * page == size - protected


def test_equal_prefixes_are_found_in_whole_pages() -> None:
    pool = RadixPool(100, 4, caching=True)
    pool.take(20)
    pool.insert(pool.root, content((1, 10), (2, 10)), 20)
    assert pool.match(content((1, 10), (3, 10)), 20)[1] == 8
    assert pool.match(content((1, 10), (2, 10)), 19)[1] == 16
    assert pool.match(content((1, 3), (2, 10)), 13)[1] == 0


def test_the_leaf_that_was_used_longest_ago_goes_first_and_whole() -> None:
    pool = RadixPool(20, 1, caching=True)
    pool.take(18)
    for run in (1, 2, 3):
        pool.insert(pool.root, content((run, 6)), 6)
    pool.match(content((1, 6)), 6)
    assert pool.available == 2
    assert pool.evict(3)
    assert pool.available == 8, "all six tokens of the second leaf"
    assert [pool.match(content((run, 6)), 6)[1] for run in (1, 2, 3)] == [6, 0, 6]


def test_what_is_locked_is_not_evicted() -> None:
    pool = RadixPool(10, 1, caching=True)
    pool.take(10)
    node, _ = pool.insert(pool.root, content((1, 10)), 10)
    pool.lock(node)
    assert not pool.evict(1)
    assert pool.free == 0
    pool.unlock(node)
    assert pool.free == 10 and pool.evict(1)


def test_a_split_node_keeps_its_locks_and_only_the_rest_can_go_when_they_end() -> None:
    pool = RadixPool(10, 1, caching=True)
    pool.take(10)
    one = content((1, 10))
    node, _ = pool.insert(pool.root, one, 10)
    pool.lock(node)
    upper, hit = pool.match(one, 4)
    assert hit == 4 and (upper.start, upper.end) == (0, 4) and (node.start, node.end) == (4, 10)
    pool.lock(upper)
    pool.unlock(node)
    assert (pool.protected, pool.evictable) == (4, 6)


def test_runs_with_another_start_are_other_tokens() -> None:
    assert common_end(content((1, 5), (2, 9)), content((1, 5), (2, 3), (4, 4)), 0, 12) == 8
    assert common_end(content((1, 5), (2, 9)), content((1, 6), (2, 9)), 0, 14) == 5
    assert key_at(content((1, 3), (2, 9)), 0, 4) != key_at(content((1, 4)), 0, 4)
