"""Kernels that fail: others count, all is told, and nothing is lost with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tokensim.profiling.bench import Unmeasurable
from tokensim.profiling.shapes import Shape
from tokensim.profiling.timing import Policy

DECODE = Shape.of(
    "decode_attention", kv_dtype="float32", heads=4, kv_heads=2, head_dim=16, window=0, batch=1, context=8
)
REDUCE = Shape.of("collective", collective="all_reduce", backend="gloo", ranks=2, bytes=64)


@pytest.fixture
def bench() -> Iterator[Any]:
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be measured here")
    from tokensim.profiling.kernels import open_bench

    opened = open_bench(
        "cpu", cache="hot", ranks=2, policy=Policy(least=3, most=3, cap_s=0.02, warm_up_s=0.01)
    )
    yield opened
    opened.close()


def fails(error: Exception) -> Callable[[], Any]:
    def call() -> None:
        raise error

    return call


def variants(monkeypatch: pytest.MonkeyPatch, **rows: Callable[[], list[Callable[[], Any]]]) -> None:
    from tokensim.profiling.kernels import bench as module

    monkeypatch.setattr(module, "attention_calls", lambda shape, arena, device: rows)


def test_a_kernel_that_fails_leaves_the_others(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    variants(
        monkeypatch,
        at_its_call=lambda: [fails(AssertionError("only fp16 and bf16"))],
        at_its_plan=fails(OSError("no nvcc")),
        sound=lambda: [lambda: None],
    )
    assert bench.measure(DECODE).seconds > 0.0
    told = bench.told()
    assert told["kernel of decode_attention"] == "sound (1)"
    assert "at_its_call: only fp16 and bf16" in told["kernels that failed"]
    assert "at_its_plan: no nvcc" in told["kernels that failed"]


def test_where_all_fail_the_last_reason_is_given(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    variants(monkeypatch, one=fails(KeyError("a")), two=lambda: [fails(ValueError("head_dim 24"))])
    with pytest.raises(Unmeasurable, match="decode_attention: head_dim 24"):
        bench.measure(DECODE)


def test_what_is_out_of_memory_is_tried_once_more(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    room = iter([False, True])

    def call() -> None:
        if not next(room, True):
            raise MemoryError

    variants(monkeypatch, only=lambda: [call])
    assert bench.measure(DECODE).seconds > 0.0
    variants(monkeypatch, only=fails(MemoryError()))
    with pytest.raises(Unmeasurable, match=r"^out of memory$"):
        bench.measure(DECODE)


def test_a_rank_that_dies_ends_its_collective_and_no_other(bench: Any) -> None:
    assert bench.measure(REDUCE).seconds > 0.0
    (ranks,) = bench._ranks.values()
    ranks._processes[0].kill()
    ranks._processes[0].join()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(Unmeasurable, match="all_reduce among 2 ranks"):
            bench.measure(REDUCE.at(bytes=128))
    assert time.monotonic() - began < 30.0  # seconds: the other rank waits for a minute if it is let
    assert not any(process.is_alive() for process in ranks._processes)
    assert bench.measure(REDUCE.at(collective="all_gather")).seconds > 0.0


def test_rates_that_fail_are_told(monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    from tokensim.profiling.kernels import rates

    monkeypatch.setattr(rates, "_flops", lambda dtype, device, runner: {"float32": 1e12}[dtype])
    monkeypatch.setattr(rates, "_bandwidth", lambda device, facts, runner: 1e11)
    monkeypatch.setattr(rates, "_host_link", fails_with(RuntimeError("somebody else's memory")))
    found = bench.rates()
    assert dict(found.flops) == {"float32": 1e12}
    assert found.host_link is None
    assert found.failed["host link"] == "somebody else's memory"
    assert "bfloat16" in found.failed


def fails_with(error: Exception) -> Callable[..., Any]:
    def call(*arguments: Any) -> None:
        raise error

    return call


def test_the_clock_is_asked_for_while_the_device_works(monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    import torch

    from tokensim.profiling.kernels.clocks import Clocks

    clocks = Clocks(torch.device("cpu"))
    worked: list[int] = []

    def ask(self: Clocks) -> float:
        while len(worked) < 3:
            time.sleep(0.001)
        return 1980.0

    monkeypatch.setattr(Clocks, "_ask", ask)
    assert clocks.now(lambda: worked.append(1)) == 1980.0
    assert len(worked) >= 3
