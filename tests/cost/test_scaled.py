"""A calibration's factors on compute-bound and on memory-bound time."""

from __future__ import annotations

import numpy as np
import pytest
from curved import Curved, CurvedTime
from paper_device import ROUND, compiled

from tokensim.cost import Roofline, Setting
from tokensim.cost.calibration import Calibration
from tokensim.cost.scaled import ScaledAttention
from tokensim.model.operators import Attention, Collective, Elementwise, Gemm, Operator

GEMM = Gemm("g", 1000, 1000, 1, "bfloat16")
ATTENTION = Attention("a", 1, 1, 50, 50, 200.0, 1)
CURVE = CurvedTime((0.0, 100.0, 200.0), (0.0, 1.0, 3.0), 0.5)
OPERATORS: list[Operator] = [GEMM, Elementwise("e", 1e4, 1), Collective("c", "all_reduce", 1e4, 2, 1)]


def seconds(operator: str, rows: float, calibration: Calibration | None = None) -> float:
    cost = compiled(OPERATORS, calibration=calibration)
    (part,) = (part for part in cost.token_parts if part.op.name == operator)
    return float(part.time.seconds(np.array([rows]))[0])


@pytest.mark.parametrize(("operator", "rows"), [("g", 1.0), ("g", 100.0), ("e", 1.0), ("e", 5000.0)])
def test_what_memory_binds_follows_the_rate_of_memory(operator: str, rows: float) -> None:
    faster = seconds(operator, rows, Calibration(memory_scale=1.25))
    assert faster == pytest.approx(seconds(operator, rows) / 1.25)
    assert seconds(operator, rows, Calibration(compute_scale=2.0)) == seconds(operator, rows)


def test_what_arithmetic_binds_follows_the_rate_of_arithmetic() -> None:
    assert seconds("g", 1000.0, Calibration(compute_scale=0.8)) == pytest.approx(seconds("g", 1000.0) / 0.8)
    assert seconds("g", 1000.0, Calibration(memory_scale=2.0)) == seconds("g", 1000.0)


def test_collectives_stay_as_they_are() -> None:
    both = Calibration(compute_scale=2.0, memory_scale=2.0)
    assert seconds("c", 50.0, both) == seconds("c", 50.0)


def test_decodes_are_scaled_with_memory_skew_and_all() -> None:
    scaled = ScaledAttention(CURVE, compute=10.0, memory=2.0)
    curve = scaled.decode(3)
    assert curve.contexts == CURVE.contexts
    assert curve.seconds == pytest.approx([2 * value for value in CURVE.decode(3).seconds])
    assert curve.skew == 0.5
    assert scaled.needs_longest


@pytest.mark.parametrize("context", [0.0, 90.0, 150.0, 260.0, 700.0])
def test_of_a_mixed_step_the_decodes_follow_memory_and_the_rest_arithmetic(context: float) -> None:
    scaled = ScaledAttention(CURVE, compute=10.0, memory=2.0)
    chunks = [(100, 0), (50, 1000)]
    decodes = CURVE.decodes(2, context, 400.0)
    alone = CURVE.mixed(chunks, 0, 0.0, 0.0)
    assert scaled.mixed(chunks, 2, context, 400.0) == pytest.approx(2 * decodes + 10 * alone)
    assert scaled.mixed(chunks, 0, 0.0, 0.0) == pytest.approx(10 * alone)


def test_decodes_that_chunks_hide_are_no_more_than_the_whole() -> None:
    class Hidden(CurvedTime):
        def mixed(self, chunks: object, requests: int, context: float, longest: float) -> float:
            return 0.01

    scaled = ScaledAttention(Hidden((0.0, 100.0), (0.0, 1.0)), compute=10.0, memory=2.0)
    assert scaled.mixed([(1, 0)], 2, 200.0, 100.0) == pytest.approx(0.02)


def test_a_calibration_of_ones_changes_nothing() -> None:
    cost = compiled([GEMM, ATTENTION], calibration=Calibration())
    plain = compiled([GEMM, ATTENTION])
    assert cost.step_time(2, 10.0, 0.0, 0.0, [(9, 0)], 3) == plain.step_time(2, 10.0, 0.0, 0.0, [(9, 0)], 3)


def test_runs_of_decodes_follow_the_scaled_curve() -> None:
    sources = [Curved(CURVE), Roofline(Setting(ROUND, "a model"))]
    plain = compiled([ATTENTION], sources=sources)
    half = compiled([ATTENTION], sources=sources, calibration=Calibration(memory_scale=2.0))
    first, growth, steps = plain.decode_run(2, 100.0, 0.0, 0.0, 90.0)
    assert half.decode_run(2, 100.0, 0.0, 0.0, 90.0) == pytest.approx((first / 2, growth / 2, steps))
