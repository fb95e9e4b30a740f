"""A search finds what an exhaustive comparison finds, in fewer runs, and can be ended and gone on with."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_study import SCENARIO

from tokensim.errors import InputError
from tokensim.explore.executors import make_executor
from tokensim.explore.goals import dominated
from tokensim.explore.optimize import optimize
from tokensim.explore.optimum import Optimum
from tokensim.explore.study import Study
from tokensim.explore.task import Outcome, Task, evaluate

HARDWARE = {
    "A100": {"cluster.pools[0].hardware": "a100-sxm-80gb"},
    "H100": {"cluster.pools[0].hardware": "h100-sxm-80gb"},
    "L40S": {"cluster.pools[0].hardware": "l40s-48gb"},
}


class Counting:
    """Runs here, counts, and can be interrupted."""

    def __init__(self, stop_after: int = 1 << 30) -> None:
        self.ran = 0
        self.stop_after = stop_after

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        for task in tasks:
            if self.ran == self.stop_after:
                raise KeyboardInterrupt
            self.ran += 1
            yield evaluate(task)


def study(parameters: dict[str, Any] | None = None, *, rate: float = 20, **keys: Any) -> Study:
    data = copy.deepcopy(SCENARIO)
    data["workload"]["arrivals"]["rate"] = rate
    data["workload"]["num_requests"] = 40
    data["slo"] = {"ttft": 0.3, "tpot": 0.015, "percentile": 90}
    parameters = parameters or {
        "hardware": HARDWARE,
        "cluster.pools[0].replicas": [1, 2, 3],
        "cluster.pools[0].parallel.tensor": [1, 2, 3],
    }
    given = {"scenario": data, "parameters": parameters, "goals": [{"minimize": "cost"}], **keys}
    return Study.from_mapping(given)


def answer(given: Study, **options: Any) -> Optimum:
    return optimize(given, executor=options.pop("executor", make_executor("serial")), **options)


def losses(found: Optimum) -> list[tuple[float, ...] | None]:
    return [trial.record.losses for trial in found.best]


def test_the_cheapest_that_keeps_the_slo_is_found_with_few_runs() -> None:
    every, few = Counting(), Counting()
    whole = answer(study(), prune=False, executor=every)
    found = answer(study(), executor=few)
    assert whole.complete and found.complete
    assert losses(found) == losses(whole) != []
    assert found.settings(found.best[0]) == whole.settings(whole.best[0])
    assert every.ran == 18 and few.ran < 6  # 9 of 27 do not divide the heads by 3
    assert found.rules()["refused"] == 9 and found.rules()["worse"] > 10


@pytest.mark.parametrize("case", range(3))
def test_no_pruning_ever_costs_the_optimum(case: int) -> None:
    """Random small spaces, loads, bounds and goals: with and without pruning, the same best or front."""
    chance = random.Random(case)
    parameters = {
        "hardware": dict(chance.sample(list(HARDWARE.items()), 2)),
        "cluster.pools[0].replicas": sorted(chance.sample([1, 2, 3, 4], 2)),
        "cluster.pools[0].parallel": chance.sample([{"tensor": 1}, {"tensor": 2}, {"pipeline": 2}], 2),
        "engine.max_num_seqs": chance.choice([[8, 64], [2, 256]]),
    }
    goals = chance.choice(
        [
            [{"minimize": "cost"}],
            [{"maximize": "throughput"}],
            [{"minimize": "cost"}, {"minimize": "tpot"}],
            [{"minimize": "spending.usd"}, {"maximize": "goodput"}],
        ]
    )
    made = study(
        parameters,
        rate=chance.choice([5, 50, 200]),
        goals=goals,
        subject_to={"slo": chance.random() < 0.7, "latency.e2e_s.p90": {"max": chance.choice([1, 5])}},
    )
    assert losses(answer(made)) == losses(answer(made, prune=False))


def test_a_front_holds_every_trade_off_and_nothing_else() -> None:
    found = answer(study(goals=[{"minimize": "cost"}, {"minimize": "tpot"}], subject_to={"slo": False}))
    points = {trial.number: trial.record.losses or () for trial in found.best}
    assert len(points) > 1
    assert all(dominated(each, points) is None for each in points.values())
    assert list(points.values()) == sorted(points.values())


def test_a_large_space_is_sampled_the_same_way_each_time() -> None:
    given = study(
        {
            "hardware": HARDWARE,
            "engine.max_num_seqs": {"from": 1, "to": 512, "scale": "log"},
            "engine.gpu_memory_utilization": {"from": 0.5, "to": 0.95},
        }
    )
    one, two = (answer(given, trials=16) for _ in range(2))
    assert [trial.place for trial in one.trials] == [trial.place for trial in two.trials]
    assert len(one.trials) == 16 and one.space is None
    assert [t.record.losses for t in one.trials] == [t.record.losses for t in two.trials]
    assert one.best


def test_runs_at_a_time_change_which_trials_are_made_not_what_they_say() -> None:
    """A sampler that asks for three at once, twice the same among them: it is run once."""

    class Three(Counting):
        jobs = 3

    small = {"cluster.pools[0].replicas": {"from": 1, "to": 3}, "cluster.pools[0].parallel.tensor": [1, 2]}
    three = Three()
    found = answer(study(small), trials=12, executor=three, prune=False)
    places = {tuple(sorted(trial.place.items())): trial.record.losses for trial in found.trials}
    assert len(found.trials) == 12 and three.ran == len(places) < 12
    assert found.rules()["repeated"] == 12 - len(places)
    for trial in found.trials:
        assert trial.record.losses == places[tuple(sorted(trial.place.items()))]


def test_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    small = study({"cluster.pools[0].replicas": [1, 2, 3], "cluster.pools[0].parallel.tensor": [1, 3]})
    first = answer(small, folder=tmp_path, executor=Counting(stop_after=1), prune=False)
    assert first.interrupted and not first.complete
    rest = Counting()
    second = answer(small, folder=tmp_path, executor=rest, prune=False, resume=True)
    assert second.complete and rest.ran == 2
    assert losses(second) == losses(answer(small))
    table = pl.read_parquet(tmp_path / "results.parquet")
    assert table.equals(second.frame)
    assert table["best"].sum() == 1 and set(table["status"]) == {"ok", "refused"}


def test_a_sampled_search_can_be_made_whole(tmp_path: Path) -> None:
    small = study({"cluster.pools[0].replicas": [1, 2, 3], "engine.max_num_seqs": [8, 16]})
    few = answer(small, folder=tmp_path, trials=5, prune=False)
    whole = answer(small, folder=tmp_path, trials=6, prune=False, resume=True)
    assert few.complete and whole.complete
    assert len({tuple(trial.place.values()) for trial in whole.trials}) == 6


def test_searches_are_not_mixed(tmp_path: Path) -> None:
    small = {"cluster.pools[0].replicas": [1, 2]}
    answer(study(small), folder=tmp_path)
    with pytest.raises(InputError, match="--resume"):
        answer(study(small), folder=tmp_path)
    with pytest.raises(InputError, match="another search"):
        answer(study(small, rate=21), folder=tmp_path, resume=True)


def test_several_processes_share_a_storage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    small = {"hardware": HARDWARE, "cluster.pools[0].replicas": [1, 2, 3]}
    answer(study(small), storage=url, trials=3)
    both = answer(study(small), storage=url, trials=6)
    assert len(both.trials) == 6
    with pytest.raises(InputError, match="cannot be used"):
        answer(study(small), storage="nonsense://")


def test_seeds_are_averaged_and_all_must_keep_what_is_required() -> None:
    found = answer(study({"cluster.pools[0].replicas": [1, 2]}, seeds=2), prune=False)
    assert found.frame["seed"].to_list() == [7, 8] * 2
    (best,) = found.best
    each = [run.figures["spending.usd_per_million_total_tokens"] for run in best.record.runs]
    assert best.record.losses == pytest.approx((sum(each) / 2,))


def test_what_binds_is_told() -> None:
    found = answer(study({"cluster.pools[0].replicas": [1]}, subject_to={"slo": False}))
    ttft = found.figure(found.best[0], "latency.ttft_s.p99")
    assert isinstance(ttft, float)
    tight = answer(
        study({"cluster.pools[0].replicas": [1]}, subject_to={"slo": False, "ttft": {"max": ttft * 1.02}})
    )
    ((name, miss),) = tight.binding(tight.best[0])
    assert name == "latency.ttft_s.p99" and miss == pytest.approx(-0.02 / 1.02)
    none = answer(
        study({"cluster.pools[0].replicas": [1]}, subject_to={"slo": False, "ttft": {"max": ttft * 0.98}})
    )
    assert none.best == () and none.missed() == [("latency.ttft_s.p99", 1)]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"goals": []}, "no goals"),
        ({"method": "random", "samples": 3}, "leave it out"),
        ({"goals": [{"minimise": "cost"}]}, "minimise"),
        ({"subject_to": {"latency.ttft_s.p42": {"max": 1}}}, "did you mean"),
    ],
)
def test_a_study_that_says_not_what_it_wants_is_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        answer(study(**keys))


def test_a_search_has_no_points_to_sweep() -> None:
    from tokensim.explore.sweep import sweep

    endless = study({"engine.max_num_seqs": {"from": 1, "to": 512}})
    with pytest.raises(InputError, match="without steps"):
        sweep(endless, executor=make_executor("serial"))


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokensim.explore.optimize.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tokensim\[search\]"):
        answer(study())


def test_a_sweep_finds_the_same_best_as_a_search() -> None:
    from tokensim.explore.sweep import sweep
    from tokensim.explore.wants import best_points

    for goals in ([{"minimize": "cost"}], [{"minimize": "cost"}, {"minimize": "tpot"}]):
        made = study({"hardware": HARDWARE, "cluster.pools[0].replicas": [1, 2]}, goals=goals, seeds=2)
        table = sweep(made, executor=make_executor("serial")).frame
        best = best_points(made, table.iter_rows(named=True))
        found = answer(made, prune=False)
        assert [[choice.label for choice in made.point(point).choices] for point in best] == [
            list(found.settings(trial).values()) for trial in found.best
        ]
        assert best
