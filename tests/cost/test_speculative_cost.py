"""The cost of verifying and drafting: sums that can be checked, and breakdowns that add up to the steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tokensim.cost import Setting
from tokensim.cost.base import Drafting, StepColumns
from tokensim.cost.build import build_cost
from tokensim.cost.host import Host
from tokensim.cost.roofline import Roofline
from tokensim.cost.sends import stage_sends
from tokensim.cost.speculative import NGRAM_TOKEN_S, DraftPasses, SpeculativeStepCost
from tokensim.cost.step import CompiledStepCost
from tokensim.hardware import load_device
from tokensim.model import load_model, operators

HOST = Host(0.0, 1e-4, 1e-6, asynchronous=True)
NOTHING = Host(0.0, 0.0, 0.0, asynchronous=True)


def cost_of(name: str, host: Host) -> CompiledStepCost:
    setting = Setting(load_device("h100-sxm-80gb", "hardware"), name)
    ops = operators(load_model(name, "model"), "bfloat16", "bfloat16", 1, 1)
    return build_cost(ops, setting, [Roofline(setting)], host)


@pytest.fixture(scope="module")
def target() -> CompiledStepCost:
    return cost_of("meta-llama/Llama-3.1-8B", HOST)


@pytest.fixture(scope="module")
def drafter() -> CompiledStepCost:
    return cost_of("meta-llama/Llama-3.2-1B", NOTHING)


def test_without_drafts_a_step_is_the_plain_one(target: CompiledStepCost) -> None:
    cost = SpeculativeStepCost(target, None, 3)
    spent = cost.verify_time(8, 0, 8000.0, 0.0, 0.0, (), 8)
    assert spent.step_s - spent.search_s == pytest.approx(target.decode_run(8, 8000.0, 0.0, 0.0, 0.0)[0])
    assert spent.search_s == NGRAM_TOKEN_S * 8000
    chunks = [(100, 0)]
    mixed = cost.verify_time(8, 0, 8000.0, 0.0, 0.0, chunks, 9)
    plain = target.step_time(8, 8000.0, 0.0, 0.0, chunks, 9)
    assert mixed.step_s - mixed.search_s == pytest.approx(plain)


def test_drafts_are_rows_and_the_cache_is_read_once(target: CompiledStepCost) -> None:
    cost = SpeculativeStepCost(target, None, 3)
    plain = cost.verify_time(8, 0, 8000.0, 0.0, 0.0, (), 8)
    verified = cost.verify_time(8, 24, 8000.0, 0.0, 0.0, (), 32)
    rows = target.rows_time(32, 32) - target.rows_time(8, 8)
    assert verified.step_s - plain.step_s == pytest.approx(rows)


def test_many_rows_on_a_long_context_are_bound_by_arithmetic(target: CompiledStepCost) -> None:
    cost = SpeculativeStepCost(target, None, 400)
    context = 8 * 50_000.0
    verified = cost.verify_time(8, 8 * 400, context, 0.0, 0.0, (), 8 * 401)
    (part,) = target.attention_parts
    arithmetic = part.arithmetic_s(401 * context)
    assert arithmetic > sum(target.decode_attention(8, context, 0.0, 0.0))
    assert verified.step_s == pytest.approx(
        target.rows_time(3208, 3208) + arithmetic + NGRAM_TOKEN_S * context
    )


def test_a_draft_model_runs_as_many_passes_as_it_drafts(
    target: CompiledStepCost, drafter: CompiledStepCost
) -> None:
    cost = SpeculativeStepCost(target, DraftPasses(drafter, drafter), 4)
    spent = cost.verify_time(8, 32, 8000.0, 0.0, 0.0, (), 40)
    first = drafter.rows_time(40, 8) + sum(drafter.decode_attention(8, 8000.0, 0.0, 0.0))
    later = sum(
        drafter.rows_time(8, 8) + sum(drafter.decode_attention(8, 8000.0 + 8 * k, 0.0, 0.0))
        for k in (1, 2, 3)
    )
    assert spent.first_s == pytest.approx(first)
    assert spent.later_s == pytest.approx(later)
    alone = SpeculativeStepCost(target, None, 4).verify_time(8, 32, 8000.0, 0.0, 0.0, (), 40)
    assert spent.step_s == pytest.approx(alone.step_s - alone.search_s + first + later)


def columns(cost: SpeculativeStepCost, steps: list[tuple[int, int, float, list[tuple[int, int]]]]) -> Any:
    """Steps of (decodes, drafts, sum of contexts, chunks) as the recorder would write them down."""
    spent = [
        cost.verify_time(n, d, context, 0.0, 0.0, chunks, n + d + len(chunks))
        for n, d, context, chunks in steps
    ]
    flat = [(row, *chunk) for row, step in enumerate(steps) for chunk in step[3]]
    zeros = np.zeros(len(steps))
    return StepColumns(
        steps=np.ones(len(steps), np.int64),
        decode=np.array([s[0] for s in steps]),
        context=np.array([s[2] for s in steps]),
        window_context=zeros,
        window_growth=zeros,
        longest=zeros,
        clock_share=zeros,
        seconds=np.array([s.step_s for s in spent]),
        samples=np.array([s[0] + s[1] + len(s[3]) for s in steps]),
        chunk_row=np.array([c[0] for c in flat], np.int64),
        chunk_tokens=np.array([c[1] for c in flat], np.int64),
        chunk_context=np.array([c[2] for c in flat], np.int64),
        drafting=Drafting(
            np.array([s[1] for s in steps]),
            np.array([s.first_s for s in spent]),
            np.array([s.later_s for s in spent]),
            np.array([s.search_s for s in spent]),
        ),
    )


STEPS: list[tuple[int, int, float, list[tuple[int, int]]]] = [
    (8, 24, 8000.0, []),
    (8, 24, 8100.0, [(100, 0), (50, 200)]),
    (0, 0, 0.0, [(512, 0)]),
    (3, 5, 900.0, []),
    (8, 0, 9000.0, []),
]


@pytest.mark.parametrize("method", ["draft_model", "ngram"])
def test_the_parts_of_steps_add_up_to_their_time(
    target: CompiledStepCost, drafter: CompiledStepCost, method: str
) -> None:
    passes = DraftPasses(drafter, drafter) if method == "draft_model" else None
    cost = SpeculativeStepCost(target, passes, 3)
    what = columns(cost, STEPS)
    times = {time.operator: time for time in cost.breakdown(what)}
    assert sum(t.seconds for t in times.values()) == pytest.approx(float(what.seconds.sum()))
    for time in times.values():
        assert time.seconds == pytest.approx(sum(time.bound_seconds.values()))
        assert time.seconds >= -1e-12, time.operator
    drafted = sum(t.seconds for name, t in times.items() if name.startswith("draft_"))
    assert drafted == pytest.approx(float((what.drafting.first_s + what.drafting.later_s).sum()))
    assert times["host"].seconds == pytest.approx(float(what.drafting.search_s.sum()), abs=1e-9)
    rows = np.array([n + d + sum(c[0] for c in chunks) for n, d, _, chunks in STEPS], float)
    (qkv,) = [part for part in target.token_parts if part.op.name == "qkv_proj"]
    assert times["qkv_proj"].seconds == pytest.approx(float(qkv.time.seconds(rows).sum()))


def test_sends_take_the_link_that_lies_between_two_stages() -> None:
    device = replace(load_device("h100-sxm-80gb", "hardware"), devices_per_node=4)
    inside, across, again = stage_sends(device, 4, 2, 16384.0)
    assert inside == again
    assert inside.token_s < across.token_s
    assert across.token_s == pytest.approx(16384 / 2 / (device.inter_node.bandwidth_bytes_per_s * 0.92))
    assert inside.seconds(1000) - inside.seconds(0) == pytest.approx(1000 * inside.token_s)
    assert stage_sends(device, 1, 8, 16384.0) == ()


def test_a_drafter_works_the_device_too(target: CompiledStepCost, drafter: CompiledStepCost) -> None:
    cost = SpeculativeStepCost(target, DraftPasses(drafter, drafter), 4)
    steps = columns(cost, STEPS)
    alone, together = target.activity(steps), cost.activity(steps)
    # A step of the drafter over one row a request, K - 1 times, and one over all rows of the step.
    first = drafter.activity(
        replace(
            steps,
            drafting=replace(steps.drafting),
            samples=steps.decode + np.bincount(steps.chunk_row, minlength=len(STEPS)),
        )
    )
    assert (together.memory_s > alone.memory_s + first.memory_s).all()
    assert (together.compute_s > alone.compute_s + first.compute_s).all()
    decode_only = np.array([not chunks for *_, chunks in STEPS])
    assert (together.prefill_share[decode_only] == 0).all()
    mixed = together.prefill_share[~decode_only]
    assert ((mixed > 0) & (mixed < 1)).all()


def test_verified_drafts_cost_arithmetic_but_read_the_cache_once(target: CompiledStepCost) -> None:
    cost = SpeculativeStepCost(target, None, 3)
    plain, drafted = (cost.activity(columns(cost, [(8, d, 400_000.0, [])])) for d in (0, 24))
    work = target.attention_parts[0]
    pairs_s = work.arithmetic_s(400_000.0)
    assert drafted.compute_s[0] > plain.compute_s[0] + 3 * pairs_s
    assert drafted.memory_s[0] < 1.05 * plain.memory_s[0]
