"""The selector: what is there is found at once, and a timer is not rounded up to milliseconds."""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
import time

import pytest

from tokensim.selector import FineSelector, fine_loop

FINE = hasattr(selectors, "EpollSelector")


@pytest.mark.parametrize("timeout", [0.0, 1e-4, 0.01, None])
def test_bytes_that_are_there_are_found_whatever_the_timeout(timeout: float | None) -> None:
    own, other = socket.socketpair()
    with own, other, FineSelector() as selector:
        selector.register(own, selectors.EVENT_READ)
        other.send(b"x")
        assert [key.fileobj for key, _ in selector.select(timeout)] == [own]


@pytest.mark.skipif(not FINE, reason="only epoll counts in milliseconds")
def test_a_wait_of_a_tenth_of_a_millisecond_does_not_last_a_whole_one() -> None:
    waits = []
    with FineSelector() as selector:
        for _ in range(100):
            began = time.perf_counter()
            assert selector.select(1e-4) == []
            waits.append(time.perf_counter() - began)
    assert 0.9e-4 < min(waits) < 1e-3  # epoll's own would be 1 ms at least, each of them


@pytest.mark.skipif(not FINE, reason="only epoll counts in milliseconds")
def test_a_descriptor_that_select_cannot_take_is_left_to_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokensim.selector.MOST_FD", 0)
    monkeypatch.setattr(select, "select", None)
    with FineSelector() as selector:
        assert selector.select(1e-4) == []


def test_an_event_loop_runs_on_it() -> None:
    async def sleeping() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(asyncio.sleep(0.001 * number) for number in range(5)))
        return asyncio.get_running_loop().time() - began

    with asyncio.Runner(loop_factory=fine_loop) as runner:
        assert runner.run(sleeping()) >= 0.004
