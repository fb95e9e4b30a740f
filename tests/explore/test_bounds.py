"""What rules a configuration out before it runs is true: no run ever shows more."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_study import SCENARIO

from tokensim.explore.bounds import NOTHING, _brackets
from tokensim.explore.examine import examine, short_is_late
from tokensim.explore.goals import SloKept
from tokensim.explore.task import Task, evaluate

DEVICES = ("h100-sxm-80gb", "a100-sxm-80gb", "l40s-48gb", "h200-sxm-141gb")


def task(**keys: Any) -> Task:
    data = copy.deepcopy(SCENARIO)
    for path, value in keys.items():
        at = data
        *parents, last = path.split("__")
        for name in parents:
            at = at[int(name) if name.isdigit() else name]
        at[last] = value
    return Task(0, data)


def lengths(mean: int) -> dict[str, Any]:
    return {"distribution": "lognormal", "mean": mean, "cv": 1.0, "max": 4000}


@settings(max_examples=12, deadline=None)
@given(
    hardware=st.sampled_from(DEVICES),
    replicas=st.integers(1, 3),
    parallel=st.sampled_from([{"tensor": 1}, {"tensor": 2}, {"pipeline": 2}, {"data": 2}]),
    rate=st.sampled_from([0.5, 5, 50, 500]),
    prompt=st.sampled_from([20, 300, 2000]),
    answer=st.sampled_from([2, 50, 400]),
    seqs=st.sampled_from([1, 16, 256]),
    tpot=st.sampled_from([0.003, 0.008, 0.02]),
    patience=st.sampled_from([0.05, 1.0, 10.0]),
    seed=st.integers(0, 99),
)
def test_a_bound_holds_in_every_run(
    hardware: str,
    replicas: int,
    parallel: dict[str, int],
    rate: float,
    prompt: int,
    answer: int,
    seqs: int,
    tpot: float,
    patience: float,
    seed: int,
) -> None:
    made = task(
        cluster__pools__0__hardware=hardware,
        cluster__pools__0__replicas=replicas,
        cluster__pools__0__parallel=parallel,
        workload__arrivals__rate=rate,
        workload__input_tokens=lengths(prompt),
        workload__output_tokens=lengths(answer),
        workload__num_requests=60,
        engine={"max_num_seqs": seqs},
        slo={"ttft": patience, "tpot": tpot, "e2e": 3 * patience, "percentile": 90},
        seed=seed,
    )
    known = examine([made], [SloKept()])
    outcome = evaluate(made)
    if known.error is not None:
        assert outcome.status == "refused"
        return
    assert outcome.status == "ok"
    (outlook,) = known.outlooks
    assert outlook.figures
    for name, (low, high) in outlook.figures.items():
        value = outcome.figures.get(name)
        if isinstance(value, int | float):
            assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9), name
    if outlook.late is not None:
        assert outcome.figures["slo.met"] is False
        assert outcome.figures[f"slo.bounds.{outlook.late.removeprefix('slo.')}.met"] is False


def test_a_pool_that_cannot_keep_up_is_known_without_a_run() -> None:
    """1,000 requests with 200 tokens in a second: one H100 decodes a few 10,000 tokens a second at best."""
    heavy = {"workload__arrivals__rate": 1000, "workload__num_requests": 1000, "workload__output_tokens": 200}
    slow = examine([task(**heavy, slo={"e2e": 0.5})], [SloKept()])
    assert slow.outlooks[0].late == "slo.e2e"
    patient = examine([task(**heavy, slo={"e2e": 500})], [SloKept()])
    assert patient.outlooks[0].late is None


def test_the_price_and_idle_power_of_a_pool_for_as_long_as_requests_arrive_are_the_least_it_takes() -> None:
    known = examine([task(workload__arrivals={"process": "constant", "rate": 0.1})], [])
    low, _ = known.interval("spending.usd")
    from tokensim.hardware import load_device

    device = load_device("h100-sxm-80gb", "hardware")
    hours = 19 / 0.1 / 3600  # 20 requests, 10 s apart
    assert low == pytest.approx(hours * device.price_per_hour_usd)
    assert known.interval("spending.energy_kwh")[0] == pytest.approx(hours * device.idle_w / 1000)


@pytest.mark.parametrize(
    "keys",
    [
        {"cluster__admission": {"max_outstanding": 4}},
        {"cluster__pools__0__autoscale": {"policy": "queue", "target": 4, "max": 3}},
        {"cluster__failures": [{"pool": "serve", "at": 1, "replica": 0}]},
    ],
)
def test_nothing_is_claimed_of_clusters_that_change(keys: dict[str, Any]) -> None:
    assert examine([task(**keys)], []).outlooks == (NOTHING,)


def test_batch_sizes_are_all_covered_once() -> None:
    for most in (1, 7, 256, 8192):
        covered = [n for low, high in _brackets(most) for n in range(low, high + 1)]
        assert covered == list(range(1, most + 1))


def test_what_is_late_in_a_short_run_is_late_in_the_whole() -> None:
    overloaded = {"workload__arrivals__rate": 400, "workload__num_requests": 1600}
    slo = {"ttft": "50ms", "percentile": 99}
    whole = task(**overloaded, workload__input_tokens=2000, slo=slo)
    known = examine([whole], [SloKept()])
    assert known.short is not None and known.short.data["workload"]["num_requests"] == 200
    assert known.too_late == pytest.approx(2 * 0.01 * 1600)
    assert short_is_late(evaluate(known.short).figures, known) == "slo.ttft"
    assert evaluate(whole).figures["slo.met"] is False
    idle = examine([task(workload__arrivals__rate=1, workload__num_requests=1600, slo=slo)], [SloKept()])
    assert idle.short is not None and short_is_late(evaluate(idle.short).figures, idle) is None


@pytest.mark.parametrize(
    "keys",
    [
        {"workload__num_requests": 400},  # too short to show anything
        {"workload__arrivals": {"process": "closed-loop", "concurrency": 8}},
        {"workload__max_in_flight": 8},
        {"slo": {"ttft": 1, "percentile": 90}},  # more may be late than a short run has requests
    ],
)
def test_no_short_run_where_it_proves_nothing(keys: dict[str, Any]) -> None:
    asked = {"workload__num_requests": 1600, "slo": {"ttft": 1, "percentile": 99}, **keys}
    assert examine([task(**asked)], [SloKept()]).short is None
