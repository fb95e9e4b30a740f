"""Where the time of a run went: parts that sum to the whole, and figures worked out by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from curved import Curved, CurvedTime
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_device import ROUND, compiled, round_device

from tokensim.cost import CompiledStepCost, Host, OperatorTime, Roofline, Setting, StepColumns
from tokensim.hardware import Efficiency
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator

WINDOW = 100
MIXED: list[Operator] = [
    Elementwise("norm", 8192.0, 8),
    Gemm("qkv", 6144, 4096, 4, "bfloat16"),
    Attention("full", 32, 8, 128, 128, 4096.0, 3),
    Attention("sliding", 32, 8, 128, 128, 4096.0, 1, window=WINDOW),
    Collective("all_reduce", "all_reduce", 8192.0, 2, 8),
    Experts("experts", 8, 8, 2, 4096, 1024, 3, 4, "bfloat16"),
    Gemm("lm_head", 32000, 4096, 1, "bfloat16", rows="samples"),
]
SIMPLE: list[Operator] = [Attention("a", 1, 1, 50, 50, 200.0, 1), Gemm("g", 1000, 1000, 1, "bfloat16")]
SKEWED = CurvedTime((1.0, 60.0, 150.0, 400.0), (1e-5, 4e-5, 5e-5, 3e-4), 0.4)
SYNC, ASYNC = Host(1e-5, 1e-4, 1e-6, asynchronous=False), Host(1e-5, 1e-4, 1e-6, asynchronous=True)
SLOW_HOST = Host(1e-5, 5e-3, 1e-5, asynchronous=True)


@dataclass(frozen=True)
class Entry:
    """``decode`` requests with contexts ``context``, but one that is ``longer``, beside ``chunks``."""

    decode: int
    context: int
    longer: int
    chunks: tuple[tuple[int, int], ...] = ()
    steps: int = 1
    share: float = 0.0

    @property
    def total(self) -> int:
        return self.decode * self.context + (self.longer if self.decode else 0)

    @property
    def longest(self) -> int:
        return self.context + self.longer if self.decode else 0

    @property
    def capped(self) -> tuple[int, int]:
        """(sum of contexts within the window, how much it grows a step); capped ones stay so."""
        if not self.decode:
            return 0, 0
        own = [min(self.context, WINDOW)] * (self.decode - 1) + [min(self.context + self.longer, WINDOW)]
        return sum(own), sum(value < WINDOW for value in own)


ENTRIES = st.lists(
    st.builds(
        Entry,
        st.integers(0, 40),
        st.integers(1, 300),
        st.integers(0, 200),
        st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), max_size=3).map(tuple),
        st.integers(1, 30),
        st.sampled_from([0.0, 0.1, 0.5]),
    ).filter(lambda entry: entry.decode > 0 or entry.chunks),
    max_size=8,
)


def run(cost: CompiledStepCost, entries: list[Entry]) -> tuple[StepColumns, float]:
    """The columns as an engine would write them, and the seconds of all steps, one by one."""
    rows: list[dict[str, float]] = []
    total = 0.0
    for entry in entries:
        capped, growing = entry.capped
        tokens = entry.decode + sum(new for new, _ in entry.chunks)
        slowed = cost.compute_time(tokens) * entry.share
        samples = entry.decode + len(entry.chunks)
        if entry.chunks:
            steps = 1
            first = slowed + cost.step_time(
                entry.decode, entry.total, capped, entry.longest, entry.chunks, samples
            )
            seconds = first
        else:
            first, growth, most = cost.decode_run(entry.decode, entry.total, capped, growing, entry.longest)
            room = WINDOW - entry.context if growing else entry.steps
            steps = max(1, min(entry.steps, most, room))
            seconds = math.fsum(first + slowed + growth * step for step in range(steps))
        total += seconds
        rows.append(
            {
                "steps": steps,
                "decode": entry.decode,
                "context": entry.total,
                "window_context": capped,
                "window_growth": growing,
                "longest": entry.longest,
                "clock_share": entry.share,
                "seconds": seconds,
                "samples": samples,
            }
        )
    whole = ("steps", "decode", "samples")
    names = ("context", "window_context", "window_growth", "longest", "clock_share", "seconds", *whole)
    chunks = [(row, *chunk) for row, entry in enumerate(entries) for chunk in entry.chunks]
    columns = {
        name: np.array([row[name] for row in rows], np.int64 if name in whole else np.float64)
        for name in names
    }
    of_chunks = [np.array([chunk[i] for chunk in chunks], np.int64) for i in range(3)]
    return StepColumns(
        **columns,  # type: ignore[arg-type]
        chunk_row=of_chunks[0],
        chunk_tokens=of_chunks[1],
        chunk_context=of_chunks[2],
    ), total


def by_name(cost: CompiledStepCost, entries: list[Entry]) -> dict[str, OperatorTime]:
    return {part.operator: part for part in cost.breakdown(run(cost, entries)[0])}


@settings(max_examples=100, deadline=None)
@given(ENTRIES, st.sampled_from([SYNC, ASYNC, SLOW_HOST]), st.booleans(), st.booleans())
def test_the_parts_sum_to_the_time_of_all_steps(
    entries: list[Entry], host: Host, skewed: bool, padded: bool
) -> None:
    device = round_device(efficiency=Efficiency(0.7, 0.5, 0.8, 2e-6, "test"))
    sources = [Curved(SKEWED)] * skewed + [Roofline(Setting(device, "a model"))]
    cost = compiled(MIXED, device, host=host, sources=sources, graph_sizes=(1, 2, 4, 8, 16) if padded else ())
    columns, total = run(cost, entries)
    parts = cost.breakdown(columns)
    assert math.fsum(part.seconds for part in parts) == pytest.approx(total, rel=1e-9)
    for part in parts:
        assert math.fsum(part.bound_seconds.values()) == pytest.approx(part.seconds, rel=1e-12)
        assert set(part.bound_seconds) <= {"compute", "memory", "network", "host"}
        assert all(seconds >= -1e-12 * total for seconds in part.bound_seconds.values()), part
    if not entries:
        return
    (of_host,) = (part for part in parts if part.kind == "host")
    least = sum(
        steps * (host.gap_s + (0.0 if host.asynchronous else host.busy_s(entry.decode + len(entry.chunks))))
        for entry, steps in zip(entries, columns.steps.tolist(), strict=True)
    )
    assert of_host.seconds >= least - 1e-9 * total
    if not host.asynchronous:
        assert of_host.seconds == pytest.approx(least, rel=1e-6, abs=1e-9 * total)


def test_flops_bytes_and_bounds_by_hand() -> None:
    cost = compiled(SIMPLE, host=Host(0.0, 1e-3, 1e-6, asynchronous=False))
    parts = by_name(cost, [Entry(2, 10, 0, (), 3), Entry(0, 1, 0, ((1000, 0),))])
    attention, gemm, host = parts["a"], parts["g"], parts["host"]
    assert (attention.kind, gemm.kind, host.kind) == ("attention", "gemm", "host")
    # three steps of 2 rows read the weights three times, one of 1000 rows once
    assert gemm.flops == 2e6 * (3 * 2 + 1000)
    assert gemm.bytes == 4 * 2e6 + (3 * 2 + 1000) * 4e3
    assert gemm.bound_seconds["memory"] == pytest.approx(3 * (2e6 + 8e3) / 1e12)
    assert gemm.bound_seconds["compute"] == pytest.approx(2e9 / 1e14)
    # contexts 20, 22, 24 and the pairs of the prompt; each new token moves 400 bytes
    assert attention.flops == 200 * (66 + 500_500)
    assert attention.bytes == 200 * (66 + 1000) + 400 * (3 * 2 + 1000)
    assert attention.bound_seconds["memory"] == pytest.approx((66 * 200 + 6 * 400) / 1e12)
    assert attention.bound_seconds["compute"] == pytest.approx(200 * 500_500 / 1e14)
    assert host.seconds == pytest.approx(4e-3 + 7e-6)
    assert {part.source for part in (attention, gemm)} == {"roofline"}


def test_nothing_takes_no_time() -> None:
    assert compiled(MIXED).breakdown(run(compiled(MIXED), [])[0]) == []


def test_links_bind_collectives() -> None:
    parts = by_name(compiled(MIXED), [Entry(1, 1, 0)])
    assert set(parts["all_reduce"].bound_seconds) == {"network"}


def test_a_falling_clock_prolongs_compute_bound_gemms_alone() -> None:
    cost = compiled([*SIMPLE, Elementwise("e", 1e4, 1)])
    cool, slow = (by_name(cost, [Entry(0, 1, 0, ((1000, 0),), share=share)]) for share in (0.0, 0.25))
    assert slow["g"].seconds == pytest.approx(1.25 * cool["g"].seconds)
    for name in ("a", "e"):
        assert slow[name].seconds == pytest.approx(cool[name].seconds)
    decodes = [Entry(4, 100, 0, (), 5)]
    slowed = [replace(entry, share=0.25) for entry in decodes]
    assert by_name(cost, slowed)["g"].seconds == pytest.approx(by_name(cost, decodes)["g"].seconds)


def test_windows_count_only_what_is_seen() -> None:
    op = Attention("a", 1, 1, 50, 50, 200.0, 1, window=WINDOW)
    (part,) = (
        p
        for p in compiled([op]).breakdown(run(compiled([op]), [Entry(3, 500, 0, (), 4)])[0])
        if p.kind == "attention"
    )
    assert part.flops == 200 * 4 * 3 * WINDOW
    assert part.seconds == pytest.approx(4 * 3 * (400 + 200 * WINDOW) / 1e12)


def test_unequal_contexts_cost_what_the_curve_says() -> None:
    op = SIMPLE[0]
    cost = compiled([op], sources=[Curved(SKEWED), Roofline(Setting(ROUND, "a model"))])
    entry = Entry(2, 20, 70, (), 3)  # no knot is near
    expected = sum(SKEWED.decodes(2, 110 + 2 * step, 90 + step) for step in range(3))
    part = by_name(cost, [entry])["a"]
    assert part.seconds == pytest.approx(expected)
    assert part.source == "interpolated"


@pytest.mark.parametrize("host", [ASYNC, SLOW_HOST], ids=["hidden", "exposed"])
def test_time_that_the_device_waits_for_the_host_is_not_that_of_prefill_attention(host: Host) -> None:
    entries = [Entry(3, 50, 0, ((200, 0), (100, 300))), Entry(0, 1, 0, ((1000, 0),))]
    known = by_name(compiled(SIMPLE, host=Host(0.0, 0.0, 0.0, asynchronous=False)), entries)
    parts = by_name(compiled(SIMPLE, host=host), entries)
    assert parts["a"].seconds == pytest.approx(known["a"].seconds)
    assert parts["g"].seconds == pytest.approx(known["g"].seconds)
    if host is SLOW_HOST:
        device_s = sum(part.seconds for part in known.values())
        assert parts["host"].seconds == pytest.approx(2 * (5e-3 + 1e-5) + 6 * 1e-5 - device_s)
