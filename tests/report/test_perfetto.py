from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from handmade import NAN, empty_log, floats, ints, request_columns, run_log, step_rows
from tokensim.metrics.log import LoadRows, RunLog, TierUse, TransferRows
from tokensim.report.trace import write_trace


def _trace(log: RunLog, **limits: int) -> dict[str, Any]:
    file = io.BytesIO()
    write_trace(file, log, **limits)
    tree: dict[str, Any] = json.loads(file.getvalue())
    return tree


def _events(tree: dict[str, Any], **match: object) -> list[dict[str, Any]]:
    return [e for e in tree["traceEvents"] if all(e.get(k) == v for k, v in match.items())]


def test_instances_are_processes() -> None:
    names = [(e["pid"], e["args"]["name"]) for e in _events(_trace(run_log()), ph="M", name="process_name")]
    assert names == [(0, "client"), (1, "instance 0"), (2, "instance 1")]


def test_each_run_of_steps_is_a_slice() -> None:
    slices = _events(_trace(run_log()), ph="X")
    assert [(e["pid"], e["name"]) for e in slices] == [
        *((1, "prefill"), (1, "decode"), (1, "decode"), (2, "prefill"), (2, "decode")),
    ]
    assert (slices[2]["ts"], slices[2]["dur"]) == pytest.approx((500_000, 500_000))
    assert slices[2]["args"] == {
        "steps": 2,
        "decode requests": 2,
        "prefill tokens": 0,
        "first step (ms)": 200,
        "last step (ms)": 300,
    }


def test_counters_follow_blocks_and_queues() -> None:
    tree = _trace(run_log())
    assert [e["args"]["used"] for e in _events(tree, ph="C", name="KV blocks", pid=1)] == [10, 20, 40]
    assert [e["args"] for e in _events(tree, ph="C", name="requests", pid=1)][2] == {
        "running": 3,
        "waiting": 2,
    }


def test_blocks_climb_within_a_long_run() -> None:
    grown = replace(step_rows(), first_blocks=ints(10, 12, 39, 5, 10))  # of 10, 20, 40, 5, 10
    told = _events(_trace(run_log(steps=grown)), ph="C", name="KV blocks", pid=1)
    assert [e["args"]["used"] for e in told] == [10, 12, 14, 16, 18, 20, 39, 40]
    assert [round(e["ts"]) for e in told] == [0, *range(100_000, 500_000, 80_000), 500_000, 750_000]


def test_slices_in_a_row_touch_to_the_nanosecond_and_do_not_overlap() -> None:
    """A viewer would nest a slice that starts a rounding error before the end of the one before."""
    durations = [0.1 + i / 3e7 for i in range(400)]
    starts = np.cumsum([1000.0, *durations])
    ends = starts[1:] + 1e-12
    steps = replace(
        step_rows(),
        **{
            name: np.resize(getattr(step_rows(), name), 400)
            for name in (
                *("running", "waiting", "used_blocks", "prefill_tokens", "first_step_s", "last_step_s"),
                *("first_blocks", "waited_s"),
            )
        },
        what=replace(
            step_rows().what,
            **{
                name: np.resize(getattr(step_rows().what, name), 400)
                for name in ("steps", "decode", "samples", "context", "window_context", "window_growth")
            },
        ),
        instance=np.zeros(400, dtype=np.int64),
        start_s=starts[:-1],
        end_s=ends,
    )
    file = io.BytesIO()
    write_trace(file, run_log(steps=steps, end_s=float(ends[-1])))
    tree = json.loads(file.getvalue(), parse_float=Decimal)
    slices = _events(tree, ph="X", pid=1)
    assert len(slices) == 400
    for before, after in pairwise(slices):
        assert before["ts"] + before["dur"] == after["ts"]


def test_counters_fall_to_zero_while_an_instance_is_idle() -> None:
    rows = step_rows()
    late = replace(
        rows, start_s=rows.start_s + (rows.start_s >= 0.5), end_s=rows.end_s + (rows.start_s >= 0.5)
    )
    counters = _events(_trace(run_log(steps=late, end_s=3.0)), ph="C", name="requests", pid=1)
    at = {round(e["ts"]): e["args"] for e in counters}
    assert at[500_000] == {"running": 0, "waiting": 0}
    assert at[1_500_000]["running"] == 3


def test_a_request_is_a_slice_with_its_phases_inside() -> None:
    events = _events(_trace(run_log()), cat="request", id="1")
    assert [(e["ph"], e["name"], round(e["ts"])) for e in events] == [
        ("b", "request", 100_000),
        ("b", "queue", 100_000),
        ("e", "queue", 200_000),
        ("b", "prefill", 200_000),
        ("e", "prefill", 300_000),
        ("b", "decode", 300_000),
        ("e", "decode", 700_000),
        ("e", "request", 700_000),
    ]
    assert events[0]["args"]["preemptions"] == 2
    assert events[0]["args"]["status"] == "finished"


def test_a_rejected_request_is_a_mark_of_the_client() -> None:
    (mark,) = _events(_trace(run_log()), name="rejected")
    assert (mark["ph"], mark["pid"], mark["ts"], mark["args"]["request"]) == ("i", 0, 600_000, "3")


def test_an_unfinished_request_lasts_to_the_end() -> None:
    cut = request_columns(
        finish_s=floats(0.5, 0.7, 1.0, NAN, NAN), status=np.array([1, 1, 1, 3, 0], dtype=np.int8)
    )
    tree = _trace(run_log(requests=cut, complete=False))
    assert tree["otherData"]["complete"] is False
    assert _events(tree, cat="request", id="4")[-1]["ts"] == 2_000_000


def test_a_whole_run_says_so() -> None:
    assert _trace(run_log())["otherData"] == {"shown": "the whole run", "complete": True}


@pytest.mark.parametrize(("limits", "until"), [({"max_steps": 2}, 0.5), ({"max_requests": 3}, 0.6)])
def test_a_long_run_is_cut_and_says_so(limits: dict[str, int], until: float) -> None:
    tree = _trace(run_log(), **limits)
    note = f"the first {until:g} s of 2 s: later steps and requests are left out"
    assert tree["otherData"]["shown"] == note
    assert _events(tree, ph="i", s="g")[0]["name"] == "end of this timeline: " + note
    assert all(
        e["ts"] < until * 1e6 for e in [*_events(tree, ph="X"), *_events(tree, ph="b", name="request")]
    )
    assert len(_events(tree, ph="X")) <= limits.get("max_steps", 5)
    assert len(_events(tree, ph="b", name="request")) <= limits.get("max_requests", 5)


def test_names_of_any_kind_are_escaped() -> None:
    names = ['a"b', "ü\n", "c", "d", "e\\"]
    starts = _events(_trace(run_log(requests=request_columns(names=names))), ph="b", name="request")
    assert [e["args"]["request"] for e in starts] == [names[0], names[1], names[2], names[4]]


def test_an_empty_run_is_an_empty_timeline() -> None:
    tree = _trace(empty_log())
    assert {e["ph"] for e in tree["traceEvents"]} == {"M"}


def _moved(**changes: object) -> TransferRows:
    rows: dict[str, object] = {
        "start_s": floats(0.2, 0.25, 0.9),
        "end_s": floats(0.4, 0.5, 1.0),
        "bytes": floats(2e9, 1e9, 1e9),
        "source": ints(0, -1, 0),
        "target": ints(1, 1, 1),
        "kind": ints(0, 1, 0),
        "arrived": np.array([True, True, False]),
        "kinds": ("kv", "weights"),
    }
    return TransferRows(**{**rows, **changes})  # type: ignore[arg-type]


def test_transfers_are_slices_of_the_network_on_the_track_of_their_pair() -> None:
    tree = _trace(run_log(transfers=_moved()))
    (process,) = [e for e in _events(tree, ph="M", name="process_name") if e["args"]["name"] == "network"]
    begun = _events(tree, ph="b", cat="transfer")
    assert {e["pid"] for e in begun} == {process["pid"]} == {3}
    assert [e["name"] for e in begun] == [
        "instance 0 → instance 1",
        "elsewhere → instance 1",
        "instance 0 → instance 1",
    ]
    assert begun[0]["args"] == {"kind": "kv", "bytes": 2e9, "GB/s": 10.0, "arrived": True}
    assert [round(e["ts"]) for e in _events(tree, ph="e", cat="transfer")] == [400_000, 500_000, 1_000_000]


def test_arrows_lead_from_instance_to_instance_where_something_arrived() -> None:
    tree = _trace(run_log(transfers=_moved()))
    starts, ends = (_events(tree, ph=ph, cat="transfer", name="KV") for ph in ("s", "f"))
    assert [(e["pid"], round(e["ts"]), e["id"]) for e in starts] == [(1, 200_000, 0)]
    assert [(e["pid"], round(e["ts"]), e["id"]) for e in ends] == [(2, 400_000, 0)]


def test_loads_from_a_tier_are_slices_of_the_instance() -> None:
    loads = LoadRows(
        request=ints(1, 3),
        tier=ints(0, 0),
        hit_tokens=ints(64, 0),
        tokens=ints(64, 64),
        bytes=floats(1e6, 1e6),
        start_s=floats(0.1, 0.6),
        end_s=floats(0.2, 0.7),
    )
    tier = TierUse("host", "host", 1, *([0.0] * 7))
    tree = _trace(run_log(loads=loads, tiers=(tier,)))
    (begun,) = _events(tree, ph="b", cat="load")  # request 3 was rejected: no instance took it
    assert (begun["pid"], begun["name"], begun["args"]["request"]) == (1, "load from host", 1)


def test_a_timeline_that_is_cut_leaves_out_later_transfers() -> None:
    tree = _trace(run_log(transfers=_moved()), max_steps=2)
    assert [round(e["ts"]) for e in _events(tree, ph="b", cat="transfer")] == [200_000, 250_000]
