"""A capacity that is known is found, in few runs; what can find none says so."""

from __future__ import annotations

from math import exp, factorial, floor, log, log2
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import STEP_S, server
from test_study import SCENARIO, study
from test_sweep import Counting

from tokensim.errors import InputError
from tokensim.explore.capacities import capacities
from tokensim.explore.capacity import capacity
from tokensim.explore.capacity_report import statement
from tokensim.explore.executors import make_executor
from tokensim.explore.judging import doubts, verdict_of
from tokensim.explore.load import load_of
from tokensim.explore.question import Capacity, Question
from tokensim.explore.search import Edge, Search, Terms, Verdict, find_edge, together
from tokensim.scenario import Scenario
from tokensim.scenario.loading import from_mapping

SERIAL = make_executor("serial")


def asked(search: Search[float, Verdict, Edge], judge: Any) -> tuple[Edge, list[float]]:
    """What ``search`` finds if ``judge`` says how a load does, and the loads that it asked for."""
    loads: list[float] = []
    try:
        asks = next(search)
        while True:
            loads += asks
            asks = search.send([judge(load) for load in asks])
    except StopIteration as end:
        return end.value, loads


@settings(deadline=None)
@given(
    edge=st.floats(1e-3, 1e4),
    start=st.floats(1e-2, 1e3),
    tolerance=st.floats(0.001, 0.1),
    steepness=st.floats(0.01, 50),
)
def test_the_edge_of_any_rising_figure_is_found_in_few_runs(
    edge: float, start: float, tolerance: float, steepness: float
) -> None:
    def judge(load: float) -> Verdict:
        margin = steepness * (load / edge - 1)
        return Verdict(margin <= 0, margin)

    found, loads = asked(find_edge([start], Terms(tolerance)), judge)
    assert found.low is not None and found.high is not None
    assert found.low <= edge < found.high <= found.low * (1 + tolerance)
    # Growth by 8 at the latest from the fourth load on, then halving with every other run at least.
    away = abs(log(edge / start, 8))
    assert len(loads) <= away + 5 + 3 * (1 + log2(3.0 / tolerance))
    assert len(loads) == len(set(loads))


@settings(deadline=None)
@given(edge=st.integers(0, 300), start=st.integers(1, 300), most=st.integers(1, 300))
def test_among_whole_numbers_the_edge_is_exact(edge: int, start: int, most: int) -> None:
    terms = Terms(1e-6, whole=True, least=1, most=most)
    found, loads = asked(find_edge([start], terms), lambda load: Verdict(load <= edge, load - edge - 0.5))
    assert all(load == round(load) and 1 <= load <= most for load in loads)
    if edge == 0:
        assert found == Edge(None, 1)
    elif edge >= most:
        assert found == Edge(most, None)
    else:
        assert found == Edge(edge, edge + 1)


def test_of_met_and_missed_loads_that_alternate_the_lowest_miss_counts() -> None:
    verdicts = {1.0: True, 2.0: False, 3.0: True}
    known = {load: Verdict(met, -0.1 if met else 0.1) for load, met in verdicts.items()}
    found, loads = asked(find_edge([1], Terms(0.1), known), lambda load: Verdict(load < 1.5, load - 1.5))
    assert found.low is not None and found.low < 1.5 <= (found.high or 0) <= found.low * 1.1
    assert max(loads) < 2


def test_a_system_that_idles_and_misses_ends_the_search() -> None:
    found, loads = asked(find_edge([10], Terms()), lambda load: Verdict(False, 0.2, idle=load < 1))
    assert found.low is None and len(loads) < 6


def test_searches_together_find_what_each_finds_alone() -> None:
    def judge(load: float) -> Verdict:
        return Verdict(load <= 7, load - 7)

    starts = [1.0, 5.0, 100.0]
    alone = [asked(find_edge([start], Terms()), judge)[0] for start in starts]
    all_of_them, _ = asked(together([find_edge([start], Terms()) for start in starts]), judge)  # type: ignore[arg-type]
    assert all_of_them == alone


def find(scenario: Scenario, **keys: Any) -> Capacity:
    return capacity(scenario, Question(**keys), executor=SERIAL)


def test_a_server_of_constant_arrivals_bears_what_it_serves() -> None:
    """One step of 10 ms a request: 100 requests a second, one after the other, and no more."""
    scenario = server({"process": "constant", "rate": 10}, 2000, slo={"ttft": 0.015})
    found = find(scenario, seeds=2)
    assert found.status == "found" and found.value is not None
    assert 98 <= found.value <= 100.5
    assert found.saturated_per_s == pytest.approx(100, rel=1e-3)
    assert found.bound == "TTFT p99"
    assert any("random" in note for note in found.notes)
    assert found.runs < 12


def test_a_poisson_server_bears_what_queueing_theory_says() -> None:
    """M/D/1: the load at which one request in ten waits for more than three services (Crommelin, 1932)."""
    from scipy.optimize import brentq

    def within(load: float, wait: float) -> float:
        terms = range(floor(wait) + 1)
        return (1 - load) * sum(
            (-load * (wait - k)) ** k / factorial(k) * exp(load * (wait - k)) for k in terms
        )

    load = brentq(lambda load: within(load, 3) - 0.9, 0.1, 0.99)
    slo = {"ttft": 4 * STEP_S, "percentile": 90}
    found = find(server({"process": "poisson", "rate": 3}, 3000, slo=slo), seeds=3)
    assert found.value is not None and found.interval is not None
    assert found.value == pytest.approx(load / STEP_S, rel=0.04)
    assert found.interval[0] < found.value < found.interval[1]
    assert len(found.edges) == 3
    assert all(e.low and e.high and e.high <= e.low * 1.02 * (1 + 1e-9) for e in found.edges)


def test_users_who_wait_are_counted_one_by_one() -> None:
    """A step lasts 10 ms and 1 ms for each request: TPOT is at most 20.5 ms up to ten users."""
    closed = {"process": "closed-loop", "concurrency": 3}
    scenario = server(closed, 400, slo={"tpot": 0.0205}, request_s=1e-3, most=256, tokens=40)
    found = find(scenario, seeds=1, tolerance=0.001)
    assert (found.edges[0].low, found.edges[0].high) == (10, 11)
    assert found.interval is None
    assert found.saturated_per_s is None


def test_a_share_of_good_requests_may_be_asked_for_instead() -> None:
    slo = {"ttft": 0.015, "percentile": 50}
    scenario = server({"process": "poisson", "rate": 30}, 1500, slo=slo)
    half = find(scenario, seeds=1)
    most = find(scenario, seeds=1, goodput=0.95)
    assert half.value and most.value and most.value < 0.5 * half.value
    assert most.bound == "goodput"
    share = most.figures["slo.good_share"]
    assert isinstance(share, float) and share >= 0.95


def test_an_slo_that_an_idle_server_misses_is_told() -> None:
    found = find(server({"process": "poisson", "rate": 30}, 200, slo={"ttft": 0.005}), seeds=3)
    assert found.status == "none" and found.value is None
    assert "TTFT" in found.binding
    assert len(found.edges) == 1


def test_a_run_that_is_too_short_to_miss_anything_is_told() -> None:
    found = find(server({"process": "poisson", "rate": 30}, 50, slo={"ttft": 10.0}), seeds=3)
    assert found.status == "unbounded"
    assert "more requests" in found.notes[0]


def test_no_load_above_the_maximum_is_tried() -> None:
    scenario = server({"process": "constant", "rate": 10}, 500, slo={"ttft": 0.015})
    found = find(scenario, maximum=50, seeds=1)
    assert found.status == "unbounded" and found.edges[0].low == 50


def test_requests_that_are_not_served_are_no_load_that_is_met() -> None:
    figures = {"requests.total": 10, "requests.finished": 9, "requests.truncated": 0, "slo.percentile": 99.0}
    good = {**figures, "requests.finished": 10}
    bound = {"slo.bounds.ttft.value_s": 0.1, "slo.bounds.ttft.bound_s": 0.2}
    assert verdict_of({**good, **bound}).met
    assert not verdict_of({**figures, **bound}).met


def test_short_runs_are_doubted_and_the_number_wanted_is_enough() -> None:
    scenario = server({"process": "poisson", "rate": 60}, 100, slo={"ttft": 0.1})
    found = find(scenario, seeds=1)
    assert any("1,000 are needed" in note for note in found.notes)
    figures = {
        "requests.total": 5000,
        "slo.percentile": 99.0,
        "throughput.requests_per_s": 50.0,
        "latency.e2e_s.mean": 2.0,
        "slo.bounds.ttft.bound_s": 1.0,
    }
    assert doubts(figures, 0.02, open_loop=True) == []
    for fewer, why in ((999, "beyond 99 %"), (2499, "grows by 0.02 s a second")):
        assert any(why in note for note in doubts({**figures, "requests.total": fewer}, 0.02, open_loop=True))
    assert doubts({**figures, "requests.total": 1000}, 0.02, open_loop=False) == []


def test_a_run_that_ends_before_the_queue_shows_is_told() -> None:
    """150 requests at 300 a second, where 100 are served, wait for a second at most; 300 of them do not."""
    found = find(server({"process": "constant", "rate": 50}, 150, slo={"ttft": 1.0}), seeds=1)
    assert found.value == pytest.approx(300, rel=0.05)
    assert any("twice the requests" in note for note in found.notes)
    assert not found.lasts and statement(found).startswith("Not for long")
    fine = find(server({"process": "constant", "rate": 50}, 2000, slo={"ttft": 0.015}), seeds=1)
    assert not any("twice the requests" in note for note in fine.notes)
    assert fine.lasts and statement(fine).startswith("Capacity: ")


def workload(arrivals: Any, **keys: Any) -> Scenario:
    given = {**SCENARIO["workload"], "arrivals": arrivals, **keys}
    return from_mapping({**SCENARIO, "workload": {k: v for k, v in given.items() if v is not None}})


def test_each_workload_has_its_load() -> None:
    kinds = {
        "rate": workload({"process": "gamma", "rate": 4, "burstiness": 0.5}),
        "rate-scale": workload({"process": "diurnal", "points": [[0, 1], [10, 3]], "period": 20}),
        "concurrency": workload({"process": "all-at-once"}, max_in_flight=7),
    }
    for kind, scenario in kinds.items():
        load = load_of(scenario)
        assert load.kind == kind
        data = load.at(scenario.model_dump(mode="json"), 2)
        assert load_of(from_mapping(data)).kind == kind
    assert data["workload"]["max_in_flight"] == 2
    scaled = load_of(kinds["rate-scale"]).at(kinds["rate-scale"].model_dump(mode="json"), 2)
    assert scaled["workload"]["arrivals"]["points"] == [[0, 2], [10, 6]]


@pytest.mark.parametrize(
    ("arrivals", "kind", "said"),
    [
        ({"process": "all-at-once"}, "auto", "in flight"),
        ({"process": "closed-loop", "concurrency": 4}, "rate", "no rate"),
        ({"process": "poisson", "rate": 4}, "speed", "unknown load"),
        ({"process": "on-off", "rate_on": 4, "mean_on": 1, "mean_off": 1}, "rate", "no single rate"),
    ],
)
def test_a_load_that_a_workload_has_not_is_refused(arrivals: Any, kind: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_of(workload(arrivals), kind)


def test_a_scenario_without_slo_is_refused() -> None:
    with pytest.raises(InputError, match="no SLO"):
        find(from_mapping(SCENARIO))


@pytest.mark.parametrize("keys", [{"seeds": 0}, {"tolerance": 0.0}, {"confidence": 1.0}, {"goodput": 2.0}])
def test_questions_without_meaning_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--"):
        Question(**keys)


def of_study() -> Any:
    base = {**SCENARIO, "slo": {"ttft": "40ms", "percentile": 90}}
    parameters = {"engine.max_num_seqs": [1, 64], "cluster.pools[0].parallel.tensor": [1, 3]}
    return study(parameters, scenario=base)


def test_configurations_are_searched_together_and_go_on_where_they_were(tmp_path: Path) -> None:
    question = Question(seeds=2, tolerance=0.1)
    first = Counting(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        capacities(of_study(), question, tmp_path, executor=first)
    rest = Counting()
    found = capacities(of_study(), question, tmp_path, executor=rest, resume=True)
    assert [result.status for result in found.results] == ["found", "refused", "found", "refused"]
    assert found.best == 2
    # The runs of refused configurations are made again, as nothing is kept of them.
    assert found.reused == 3
    frame = pl.read_parquet(tmp_path / "capacity.parquet")
    assert frame.equals(found.frame)
    assert frame["engine.max_num_seqs"].to_list() == [1, 1, 64, 64]
    assert frame["capacity"][2] > frame["capacity"][0]
    assert "3" in frame["error"][1]
    alone = capacities(of_study(), question, executor=SERIAL)
    assert [result.value for result in alone.results] == [result.value for result in found.results]


def test_a_study_of_which_nothing_can_be_is_refused() -> None:
    with pytest.raises(InputError, match="no SLO"):
        capacities(study({"engine.max_num_seqs": [1, 2]}), executor=SERIAL)
