"""Arrival processes: rates and burstiness by theory, exact counts, and separate random streams."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import Workload, build_workload

N = 200_000


def make(arrivals: Any, seed: int = 0, **keys: Any) -> Workload:
    keys = {"input_tokens": 10, "output_tokens": 10} | keys
    if "duration" not in keys:
        keys.setdefault("num_requests", N)
    return build_workload(WorkloadSpec.model_validate({"arrivals": arrivals, **keys}), seed)


def gaps(workload: Workload) -> np.ndarray[Any, Any]:
    return np.diff(workload.arrival_s, prepend=0.0)


RENEWAL: list[tuple[dict[str, Any], float]] = [
    ({"process": "poisson", "rate": 20}, 1.0),
    ({"process": "gamma", "rate": 20, "cv": 3.0}, 3.0),
    ({"process": "gamma", "rate": 20, "burstiness": 4.0}, 0.5),
    ({"process": "weibull", "rate": 20, "shape": 0.5}, math.sqrt(5.0)),  # Γ(5)/Γ(3)² - 1 = 5
]
PROCESSES: list[dict[str, Any]] = [
    *(arrivals for arrivals, _ in RENEWAL),
    {"process": "constant", "rate": 20},
    {"process": "on-off", "rate_on": 40, "mean_on": 5, "mean_off": "5s"},
    {"process": "diurnal", "mean": 20, "amplitude": 0.8, "period": 100},
    {"process": "diurnal", "points": [[0, 10], [50, 30]], "period": 100},
]


@pytest.mark.parametrize(("arrivals", "cv"), RENEWAL)
def test_gaps_have_the_asked_mean_and_spread(arrivals: dict[str, Any], cv: float) -> None:
    found = gaps(make(arrivals))
    # Five standard errors of the mean; the spread of a heavy tail converges more slowly.
    assert abs(found.mean() * 20 - 1) < 5 * cv / math.sqrt(N)
    assert found.std() / found.mean() == pytest.approx(cv, rel=0.05)


def test_poisson_gaps_are_memoryless() -> None:
    found = gaps(make({"process": "poisson", "rate": 20}))
    for t in (0.01, 0.05, 0.2):
        assert (found > t).mean() == pytest.approx(math.exp(-20 * t), abs=5 * 0.5 / math.sqrt(N))


def test_constant_arrivals_start_at_once_and_keep_step() -> None:
    assert make({"process": "constant", "rate": 4}, num_requests=5).arrival_s.tolist() == [
        0,
        0.25,
        0.5,
        0.75,
        1,
    ]
    assert len(make({"process": "constant", "rate": 4}, duration=1)) == 4
    assert len(make({"process": "constant", "rate": 10}, duration=0.3)) == 3


@pytest.mark.parametrize("arrivals", PROCESSES)
def test_a_duration_gives_all_the_arrivals_before_it(arrivals: dict[str, Any]) -> None:
    workload = make(arrivals, duration=2_000)
    assert workload.arrival_s[-1] < 2_000
    assert len(workload) == pytest.approx(20 * 2_000, rel=0.1)
    counted = make(arrivals, num_requests=len(workload) + 1)
    assert counted.arrival_s[-1] >= 2_000
    assert counted.arrival_s[:-1] == pytest.approx(workload.arrival_s, abs=2e-9)


@pytest.mark.parametrize("arrivals", PROCESSES)
def test_more_requests_only_add_to_the_end(arrivals: dict[str, Any]) -> None:
    few, many = make(arrivals, num_requests=1_000), make(arrivals, num_requests=70_000)
    assert (many.arrival_s[:1_000] == few.arrival_s).all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PROCESSES), st.integers(0, 2**32), st.integers(1, 500))
def test_arrivals_are_counted_ordered_and_whole_nanoseconds(
    arrivals: dict[str, Any], seed: int, count: int
) -> None:
    times = make(arrivals, seed, num_requests=count).arrival_s
    assert len(times) == count
    assert times[0] >= 0
    assert (np.diff(times) >= 0).all()
    assert (np.rint(times * 1e9).astype(np.int64) / 1e9 == times).all()


def test_bursts_come_at_the_two_rates() -> None:
    arrivals = {"process": "onoff", "rate_on": 100, "rate_off": 0, "mean_on": 1, "mean_off": 9}
    workload = make(arrivals, duration=20_000)
    # 10 % of the time at 100/s; 2,000 cycles, so the mean is good to 1/sqrt(2000) and a little.
    assert len(workload) / 20_000 == pytest.approx(10, rel=0.1)
    found = gaps(workload)
    assert np.median(found) == pytest.approx(math.log(2) / 100, rel=0.05)
    assert (found > 0.5).sum() == pytest.approx(20_000 / 10 * math.exp(-0.5 / 9), rel=0.1)


def test_a_diurnal_rate_follows_its_curve() -> None:
    sine = make({"process": "diurnal", "mean": 50, "amplitude": 1.0, "period": "100s"}, duration=10_000)
    phase = np.mod(sine.arrival_s, 100)
    first, second = (phase < 50).sum(), (phase >= 50).sum()
    # The halves of a full sine hold 1/2 ± 1/π of the mass.
    assert first / (first + second) == pytest.approx(0.5 + 1 / math.pi, abs=0.01)
    line = make({"process": "diurnal", "points": [[0, 0], [50, 100]], "period": 100}, duration=10_000)
    assert len(line) == pytest.approx(50 * 10_000, rel=0.02)
    phase = np.mod(line.arrival_s, 100)
    assert ((phase > 25) & (phase < 75)).mean() == pytest.approx(0.75, abs=0.01)


def test_all_at_once_is_a_batch_at_time_zero() -> None:
    workload = make("all-at-once", num_requests=7)
    assert workload.arrival_s.tolist() == [0.0] * 7
    assert workload.concurrency is None


def test_a_closed_loop_has_users_who_think() -> None:
    workload = make({"process": "closed-loop", "concurrency": 8, "think_time": "250ms"}, num_requests=20)
    assert workload.concurrency == 8
    assert workload.think_s is not None
    assert workload.think_s.tolist() == [0.0] * 8 + [0.25] * 12
    assert workload.arrival_s.tolist() == [0.0] * 20


@pytest.mark.parametrize(
    ("think", "mean", "std"),
    [
        ({"distribution": "exponential", "mean": "2s"}, 2, 2),
        ({"distribution": "lognormal", "mean": "2s", "cv": 0.5}, 2, 1),
        ({"distribution": "uniform", "min": "1s", "max": "3s"}, 2, 2 / math.sqrt(12)),
    ],
)
def test_think_times_have_the_asked_mean_and_spread(think: Any, mean: float, std: float) -> None:
    workload = make({"process": "closed-loop", "concurrency": 1, "think_time": think})
    assert workload.think_s is not None
    assert workload.think_s.mean() == pytest.approx(mean, abs=5 * std / math.sqrt(N))
    assert workload.think_s.std() == pytest.approx(std, rel=0.05)


def test_a_cap_on_requests_in_flight_goes_with_any_process() -> None:
    for arrivals in [*PROCESSES, "all-at-once", {"process": "closed-loop", "concurrency": 4}]:
        assert make(arrivals, num_requests=3, max_in_flight=2).max_in_flight == 2


def test_changing_lengths_does_not_change_arrivals_and_the_other_way_round() -> None:
    long = {"distribution": "lognormal", "mean": 900, "cv": 2}
    base = make({"process": "poisson", "rate": 20}, input_tokens=long, output_tokens=long, num_requests=500)
    other = make({"process": "poisson", "rate": 20}, input_tokens=5, output_tokens=long, num_requests=500)
    assert (base.arrival_s == other.arrival_s).all()
    assert (base.output_tokens == other.output_tokens).all()
    gamma = make(
        {"process": "gamma", "rate": 9, "cv": 2}, input_tokens=long, output_tokens=long, num_requests=500
    )
    assert (base.input_tokens == gamma.input_tokens).all()
    assert np.corrcoef(base.input_tokens, base.output_tokens)[0, 1] < 0.2


def test_the_seed_alone_decides() -> None:
    poisson = {"process": "poisson", "rate": 20}
    assert (make(poisson, 1).arrival_s == make(poisson, 1).arrival_s).all()
    assert not (make(poisson, 1).arrival_s == make(poisson, 2).arrival_s).any()


def test_the_same_seed_gives_the_same_bytes_on_any_machine() -> None:
    """Recorded once; another NumPy, C library or processor must give these bytes too."""
    digest = hashlib.sha256()
    lengths = ["lognormal", "normal"]
    for arrivals in PROCESSES:
        spec = {"distribution": lengths[len(arrivals) % 2], "mean": 700, "cv": 1.5, "max": 9_000}
        workload = make(arrivals, 7, input_tokens=spec, output_tokens=spec, num_requests=2_000)
        for column in (workload.arrival_s, workload.input_tokens, workload.output_tokens):
            digest.update(column.astype(column.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest() == "54fdbb0aed8c83eca669db0bd1c9908704055d965737bfc75f3c6ec8f2482b3b"


def test_endless_workloads_are_refused_before_memory_runs_out() -> None:
    with pytest.raises(InputError, match=r"about 1e\+12 requests would arrive"):
        make({"process": "poisson", "rate": 1e6}, duration="1000000s")
    with pytest.raises(InputError, match="146 years"):
        make({"process": "poisson", "rate": 1e-7}, num_requests=1_000)
    with pytest.raises(InputError, match=r"no request arrives within 0\.001 s"):
        make({"process": "poisson", "rate": 1e-3}, duration="1ms")
