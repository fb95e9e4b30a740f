"""The closed forms of decoding requests against a list of them walked one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.scheduling.local import Request
from tokensim.scheduling.local.decoding import FAR, DecodeSet, WindowedDecodeSet

SEATS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 60), st.integers(1, 40), st.integers(0, 30)), max_size=12
)
"""(steps after the one before at which it joins, context then, tokens to decode, when it is taken out)."""


@dataclass
class Plain:
    """The decoding requests as a list."""

    size: int
    window: int
    requests: list[Request] = field(default_factory=list)

    def context(self, step: int) -> int:
        return sum(r.base + step for r in self.requests)

    def blocks_at(self, step: int) -> int:
        """A token that is the first of a block needs a new one."""
        return sum((r.base + step - 1) % self.size == 0 for r in self.requests)

    def blocks_over(self, step: int, steps: int) -> int:
        return sum(self.blocks_at(step + i) for i in range(steps))

    def steps_within(self, step: int, steps: int, free: int) -> int:
        return max(n for n in range(steps + 1) if self.blocks_over(step, n) <= free)

    def next_finish(self) -> int:
        return min((r.finish_step for r in self.requests), default=FAR)

    def capped(self, step: int) -> int:
        return sum(min(r.base + step, self.window) for r in self.requests)


def decoding(index: int, step: int, context: int, tokens: int) -> Request:
    """A request that has ``context`` computed tokens after ``step`` and decodes ``tokens`` more."""
    request = Request(index, 0.0, context, tokens, context + tokens)
    request.base = context - step
    request.finish_step = step + tokens
    return request


def assert_alike(decode: DecodeSet, plain: Plain, step: int) -> None:
    assert decode.n == len(plain.requests)
    assert decode.next_finish() == plain.next_finish()
    for at in (step, step + 1, step + 7):
        assert decode.context(at) == plain.context(at)
        assert decode.blocks_at(at) == plain.blocks_at(at)
    for steps in (0, 1, 5, 23):
        assert decode.blocks_over(step, steps) == plain.blocks_over(step, steps)
        for free in (0, 1, 3, 10, 200):
            assert decode.steps_within(step, steps, free) == plain.steps_within(step, steps, free)


@settings(deadline=None)
@given(seats=SEATS, size=st.sampled_from([1, 2, 4, 16]), window=st.integers(1, 50))
def test_everything_about_decoding_requests_is_what_walking_them_gives(
    seats: list[tuple[int, int, int, int]], size: int, window: int
) -> None:
    sets = DecodeSet(size), WindowedDecodeSet(size, window)
    plain = Plain(size, window)
    step = 0
    leaving: list[tuple[int, Request]] = []
    for index, (wait, context, tokens, stay) in enumerate(seats):
        for _ in range(wait + 1):
            step += 1
            for request in [r for r in plain.requests if r.finish_step == step - 1]:
                retire(sets, plain, request, step - 1)
            for at, request in leaving:
                if at == step and request in plain.requests:
                    take_out(sets, plain, request, step)
            compare_windows(sets[1], plain, step)
        request = decoding(index, step, context, tokens)
        plain.requests.append(request)
        for decode in sets:
            decode.join(request, step)
        leaving.append((step + 1 + stay, request))
        for decode in sets:
            assert_alike(decode, plain, step + 1)


def retire(sets: tuple[DecodeSet, ...], plain: Plain, request: Request, step: int) -> None:
    """Its last token was scheduled in ``step``."""
    plain.requests.remove(request)
    for decode in sets:
        decode.leave(request, step)
        decode.withdraw(request)


def take_out(sets: tuple[DecodeSet, ...], plain: Plain, request: Request, step: int) -> None:
    """It is preempted in ``step``."""
    retire(sets, plain, request, step)


def compare_windows(decode: WindowedDecodeSet, plain: Plain, step: int) -> None:
    """The capped sum, how much it grows, and how long it grows like that."""
    total, growth = decode.window_context(step)
    assert total == plain.capped(step)
    assert growth == plain.capped(step + 1) - total
    last = decode.next_crossing(step)
    assert last > step
    for at in range(step + 1, min(last, step + 60) + 1):
        assert plain.capped(at) == total + (at - step) * growth


def test_blocks_by_hand() -> None:
    """Two requests of 3 and 4 tokens after step 1, in blocks of 4: the second needs one in step 2, the first
    in step 3.
    """
    decode = DecodeSet(4)
    decode.join(decoding(0, 1, 3, 20), 1)
    decode.join(decoding(1, 1, 4, 20), 1)
    assert [decode.blocks_at(step) for step in range(2, 8)] == [1, 1, 0, 0, 1, 1]
    assert decode.blocks_over(2, 6) == 4
    assert [decode.steps_within(2, 10, free) for free in (0, 1, 2, 3, 4)] == [0, 1, 4, 5, 8]


def test_a_request_that_is_taken_out_does_not_finish() -> None:
    decode = DecodeSet(4)
    first, second = decoding(0, 1, 3, 5), decoding(1, 1, 3, 9)
    decode.join(first, 1)
    decode.join(second, 1)
    assert decode.next_finish() == 6
    decode.leave(first, 3)
    decode.withdraw(first)
    assert decode.next_finish() == 10
    decode.leave(second, 3)
    decode.withdraw(second)
    assert decode.next_finish() == FAR


def test_without_a_window_nothing_is_capped() -> None:
    decode = DecodeSet(4)
    decode.join(decoding(0, 1, 3, 5), 1)
    assert (decode.window_context(2), decode.next_crossing(2)) == ((0, 0), FAR)


def test_a_window_by_hand() -> None:
    """Contexts 4 and 9 in step 2, window 6: the first grows until step 4, the second no more."""
    decode = WindowedDecodeSet(4, 6)
    decode.join(decoding(0, 1, 3, 20), 1)
    decode.join(decoding(1, 1, 8, 20), 1)
    assert decode.next_crossing(1) == 4
    assert [decode.window_context(step) for step in (2, 3, 4, 5)] == [(10, 1), (11, 1), (12, 0), (12, 0)]
    assert decode.next_crossing(4) == FAR
