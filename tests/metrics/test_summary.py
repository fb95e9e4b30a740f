from __future__ import annotations

import json

import numpy as np
import pytest

from handmade import NAN, FakeCost, empty_log, facts, floats, request_columns, run_log, summary
from tokensim.metrics.attribution import time_shares
from tokensim.metrics.slo import Slo
from tokensim.metrics.summary import summarize


def test_every_request_is_accounted_for() -> None:
    counts = summary().requests
    assert (counts.total, counts.finished, counts.truncated, counts.rejected, counts.unfinished) == (
        *(5, 3, 1, 1, 0),
    )


def test_rates_are_over_the_makespan() -> None:
    s = summary()
    assert (s.simulated_s, s.makespan_s) == (2.0, 2.0)
    assert s.throughput.requests_per_s == pytest.approx(4 / 2)
    assert s.throughput.arrivals_per_s == pytest.approx(4 / 1.0)
    assert s.throughput.input_tokens_per_s == pytest.approx(650 / 2)
    assert s.throughput.output_tokens_per_s == pytest.approx(18 / 2)
    assert s.throughput.total_tokens_per_s == pytest.approx(668 / 2)


def test_the_makespan_starts_with_the_first_arrival_and_ends_with_the_last_finish() -> None:
    later = request_columns(arrival_s=floats(0.05, 0.1, 0.5, 0.6, 1.0))
    assert summary(run_log(requests=later, end_s=9.0)).makespan_s == pytest.approx(1.95)
    assert summary(run_log(requests=later, end_s=9.0, complete=False)).makespan_s == pytest.approx(8.95)


def test_tokens_and_preemptions_add_up() -> None:
    s = summary()
    assert (s.tokens.input, s.tokens.output, s.tokens.total) == (650, 18, 668)
    assert (s.tokens.cached, s.tokens.recomputed) == (65, 32)
    assert s.tokens.cached_share == pytest.approx(0.1)
    assert (s.preemptions, s.preempted_requests) == (2, 1)


def test_latencies_leave_out_what_never_happened() -> None:
    latency = summary().latency
    assert latency.ttft_s.count == latency.e2e_s.count == latency.queue_s.count == 4
    assert latency.ttft_s.mean == pytest.approx(0.25)
    assert latency.tpot_s.count == 3
    assert latency.tpot_s.max == pytest.approx(0.2)
    assert latency.itl_s.count == 16


def test_time_is_shared_out_by_kind_and_bound() -> None:
    time = summary().time
    assert time.step_s == pytest.approx(4 * 16)
    assert time.by_kind == pytest.approx({"gemm": 0.75, "attention": 0.25})
    assert time.by_bound == pytest.approx({"compute": 0.875, "memory": 0.125})
    assert list(time.by_kind) == ["gemm", "attention"], "largest first"
    assert [(o.operator, o.flops) for o in time.operators] == [("qkv", 480), ("attention", 32)]


def test_replicas_that_share_a_cost_are_priced_in_one_go() -> None:
    cost = FakeCost()
    summarize(run_log(), facts(cost=cost))
    assert len(cost.asked) == 1
    assert list(cost.asked[0].steps) == [1, 4, 2, 1, 8]


def test_each_cost_gets_the_steps_of_its_own_instance() -> None:
    first, second = FakeCost(), FakeCost()
    time_shares(run_log().steps, [first, second])
    assert list(first.asked[0].steps) == [1, 4, 2]
    assert list(first.asked[0].chunk_tokens) == [100]
    assert list(second.asked[0].steps) == [1, 8]
    assert list(second.asked[0].chunk_row) == [0, 0]
    assert list(second.asked[0].chunk_context) == [0, 64]


def test_money_is_price_times_devices_times_makespan() -> None:
    spending = summary().spending
    assert spending.device_hours == pytest.approx(4 * 2 / 3600)
    assert spending.usd == pytest.approx(9 * 4 * 2 / 3600)
    assert spending.usd_per_million_total_tokens == pytest.approx(0.02 / 668 * 1e6)


def test_notes_say_what_to_mind() -> None:
    rejected, truncated = summary().notes
    assert rejected.startswith("1 of 5 requests rejected on arrival")
    assert truncated.startswith("1 of 5 requests cut short")


def test_an_interrupted_run_says_that_it_is_partial() -> None:
    cut = request_columns(
        finish_s=floats(0.5, 0.7, NAN, NAN, NAN), status=np.array([1, 1, 0, 3, 0], dtype=np.int8)
    )
    s = summary(run_log(requests=cut, end_s=1.1, complete=False))
    assert not s.complete
    assert s.notes[0] == (
        "partial results: the run was interrupted at 1.1 s of simulated time, "
        "with 2 of 5 requests not finished"
    )
    assert s.makespan_s == pytest.approx(1.1)
    assert s.throughput.requests_per_s == pytest.approx(2 / 1.1)


def test_requests_left_over_by_a_complete_run_are_noted() -> None:
    left = request_columns(status=np.array([1, 1, 0, 3, 2], dtype=np.int8))
    assert summary(run_log(requests=left)).notes[0] == "1 of 5 requests never finished"


def test_a_run_that_did_nothing_is_all_null_and_zero() -> None:
    s = summary(empty_log(), slo=Slo(ttft_s=1.0))
    tree = s.to_dict()
    json.dumps(tree, allow_nan=False)
    assert tree["requests"] == {
        "total": 2,
        "finished": 0,
        "truncated": 0,
        "rejected": 0,
        "failed": 0,
        "cancelled": 0,
        "unfinished": 2,
    }
    assert tree["makespan_s"] == 0.0
    assert tree["throughput"]["requests_per_s"] is None
    assert tree["latency"]["ttft_s"] == {
        **{"count": 0, "mean": None, "p50": None, "p90": None, "p95": None, "p99": None, "max": None}
    }
    assert tree["spending"]["usd_per_million_output_tokens"] is None


def test_the_dict_is_json_in_a_fixed_order() -> None:
    tree = summary(slo=Slo(ttft_s=0.3)).to_dict()
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert list(tree)[:5] == ["complete", "notes", "simulated_s", "makespan_s", "requests"]
    assert json.dumps(tree) == json.dumps(summary(slo=Slo(ttft_s=0.3)).to_dict())


def test_the_dict_does_not_depend_on_how_fast_the_simulation_ran() -> None:
    assert summary(run_log(wall_s=1.0)).to_dict() == summary(run_log(wall_s=2.0)).to_dict()
