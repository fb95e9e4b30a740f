from __future__ import annotations

import polars as pl
import pytest

from handmade import NAN, empty_log, floats, ints, request_columns, run_log
from tokensim.metrics.frames import requests_frame, steps_frame
from tokensim.metrics.log import HandoverRows, LoadRows, TierUse

DESIGNED = [
    *("request_id", "arrival_s", "input_tokens", "output_tokens", "cached_tokens", "instance", "scheduled_s"),
    *("first_token_s", "finish_s", "ttft_s", "tpot_s", "e2e_s", "queue_s", "preemptions", "status"),
]


def test_request_columns_come_in_the_designed_order() -> None:
    frame = requests_frame(run_log())
    assert frame.columns[: len(DESIGNED)] == DESIGNED
    assert frame.columns[len(DESIGNED) :] == [
        *("intended_s", "requested_output_tokens", "recomputed_tokens"),
        *("queued_s", "first_delivery_s", "last_delivery_s"),
    ]


def test_request_rows_hold_what_was_logged() -> None:
    row = requests_frame(run_log()).row(1, named=True)
    assert row["request_id"] == "1"
    assert (row["arrival_s"], row["intended_s"]) == (0.1, 0.05)
    assert (row["ttft_s"], row["tpot_s"], row["e2e_s"], row["queue_s"]) == pytest.approx((0.2, 0.2, 0.6, 0.1))
    assert (row["preemptions"], row["recomputed_tokens"], row["cached_tokens"]) == (2, 32, 64)


def test_latencies_count_what_the_client_gets() -> None:
    """Request 0 is sent at 0 s and has 5 tokens; the engine's are 0.1 s and 0.5 s."""
    first, last = floats(0.2, 0.3, 1.0, NAN, 1.2), floats(0.8, 0.7, 1.0, NAN, 2.0)
    columns = request_columns(first_delivery_s=first, last_delivery_s=last)
    row = requests_frame(run_log(requests=columns)).row(0, named=True)
    assert (row["first_token_s"], row["finish_s"]) == (0.1, 0.5)
    assert (row["first_delivery_s"], row["last_delivery_s"]) == (0.2, 0.8)
    assert (row["ttft_s"], row["tpot_s"], row["e2e_s"]) == pytest.approx((0.2, 0.15, 0.8))


def test_queued_is_when_the_engine_took_the_request_in() -> None:
    frame = requests_frame(run_log())
    # requests 0 and 4 find their instance idle, 1 a step that begins, 2 one that begins, none takes 3
    assert frame["queued_s"].to_list() == [0.0, 0.1, 0.5, None, 1.0]


def test_what_never_came_is_null() -> None:
    frame = requests_frame(run_log())
    rejected = frame.row(3, named=True)
    assert rejected["status"] == "rejected"
    for column in (
        "instance",
        "scheduled_s",
        "first_token_s",
        "finish_s",
        "ttft_s",
        "tpot_s",
        "e2e_s",
        "queue_s",
    ):
        assert rejected[column] is None
    assert frame["tpot_s"][2] is None
    assert frame["status"].to_list() == ["finished", "finished", "finished", "rejected", "truncated"]
    assert not any(frame[c].is_nan().any() for c in frame.columns if frame[c].dtype == pl.Float64)


def test_names_of_the_trace_are_kept() -> None:
    names = ["a", "b", "c", "d", "e"]
    frame = requests_frame(run_log(requests=request_columns(names=names)))
    assert frame["request_id"].to_list() == names


def test_step_rows_carry_their_chunks() -> None:
    frame = steps_frame(run_log())
    assert len(frame) == 5
    assert frame["steps"].to_list() == [1, 4, 2, 1, 8]
    assert frame["chunk_tokens"].to_list() == [[100], None, None, [200, 100], None]
    assert frame["chunk_context"].to_list() == [[0], None, None, [0, 64], None]
    assert "row" not in frame.columns


def test_frames_of_an_empty_run_have_the_same_types() -> None:
    assert steps_frame(empty_log()).schema == steps_frame(run_log()).schema
    assert requests_frame(empty_log()).schema == requests_frame(run_log()).schema


def test_requests_say_where_their_prompt_was_computed_and_when_its_kv_had_come() -> None:
    # 0 was prefilled on instance 1 and moved once more while it decoded; 1 was prefilled on instance 1
    moved = HandoverRows(
        request=ints(0, 1, 0),
        source=ints(1, 1, 0),
        preemptions=ints(0, 0, 0),
        migrates=ints(0, 0, 1),
        stopped_s=floats(0.1, 0.2, 0.3),
        granted_s=floats(0.1, 0.2, 0.3),
        arrived_s=floats(0.15, 0.35, 0.4),
        bytes=floats(1.0, 1.0, 1.0),
    )
    frame = requests_frame(run_log(handovers=moved))
    assert frame["prefill_instance"].to_list() == [1, 1, 0, None, 1]
    assert frame["kv_arrived_s"].to_list() == [0.4, 0.35, None, None, None]


def test_requests_say_how_often_they_were_taken_up_again() -> None:
    assert requests_frame(run_log(retries=ints(0, 2, 0, 0, 1)))["retries"].to_list() == [0, 2, 0, 0, 1]
    assert "retries" not in requests_frame(run_log()).columns, "nothing failed"


def test_requests_say_which_hits_came_from_which_tier() -> None:
    tiers = tuple(TierUse(name, "host", 1, 1e9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0) for name in ("host", "remote"))
    loads = LoadRows(
        request=ints(1, 1, 4),
        tier=ints(0, 1, 1),
        hit_tokens=ints(16, 32, 0),
        tokens=ints(16, 32, 16),
        bytes=floats(1.0, 2.0, 1.0),
        start_s=floats(0.1, 0.1, 1.0),
        end_s=floats(0.2, 0.2, 1.1),
    )
    frame = requests_frame(run_log(tiers=tiers, loads=loads))
    assert frame["cached_tokens_host"].to_list() == [0, 16, 0, 0, 0]
    assert frame["cached_tokens_remote"].to_list() == [0, 32, 0, 0, 0], "not what a preemption brought back"
