"""Pages of a study's capacities and of a search, from small tables; and what is made again from folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_study import SCENARIO, study

from tokensim.errors import InputError
from tokensim.explore.capacities import capacities
from tokensim.explore.capacities_page import CapacitiesData, capacities_figures, capacities_page
from tokensim.explore.executors import make_executor
from tokensim.explore.extremes import extremes
from tokensim.explore.kinds import KINDS, figures_in, kind_of, page_of
from tokensim.explore.optimize import optimize
from tokensim.explore.optimum_figures import OptimumData, optimum_figures
from tokensim.explore.optimum_page import optimum_page
from tokensim.explore.question import Question
from tokensim.explore.study import Study
from tokensim.explore.sweep import sweep
from tokensim.report.figures.base import Figure

HERE = make_executor("serial")


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    assert len({figure.name for figure in figures}) == len(figures)
    return {figure.name: figure for figure in figures}


def borne(priced: bool = True, seeds: int = 2) -> CapacitiesData:
    """Three configurations, of which the last has no capacity; a device costs 2 US$ an hour, or nothing."""
    made = study({"engine.max_num_seqs": [8, 64, 128]})
    rows = [
        {
            "engine.max_num_seqs": slots,
            "status": "found" if capacity else "none",
            "error": None,
            "load": "rate",
            "unit": "requests/s",
            "capacity": capacity,
            "interval_low": capacity and capacity - 1 if seeds > 1 else None,
            "interval_high": capacity and capacity + 2 if seeds > 1 else None,
            "seeds": seeds,
            "runs": 7,
            "bound": "TTFT p99",
            "notes": f"{slots} requests are too few",
            "at.makespan_s": 1800.0,
            "at.spending.usd": 1.0 if priced else 0.0,
            "at.spending.usd_per_million_output_tokens": 0.5 if priced else 0.0,
        }
        for slots, capacity in ((8, 4.0), (64, 10.0), (128, None))
    ]
    return CapacitiesData(made, pl.DataFrame(rows, infer_schema_length=None))


def test_a_capacity_over_a_number_is_a_line_with_its_intervals() -> None:
    figures = by_name(capacities_figures(borne()))
    table = figures["capacity"].datasets["study"]
    assert (table["max_num_seqs"], table["capacity"]) == ([8, 64], [4, 10])
    assert (table["interval low"], table["interval high"]) == ([3, 9], [6, 12])
    assert [layer["mark"]["type"] for layer in figures["capacity"].spec["layer"]] == ["line", "rule"]
    assert "rule" not in str(by_name(capacities_figures(borne(seeds=1)))["capacity"].spec)


def test_money_is_drawn_where_it_is_known() -> None:
    table = by_name(capacities_figures(borne()))["capacity-per-dollar"].datasets["study"]
    assert table["capacity per US$"] == [2, 5]  # at 2 US$ an hour
    assert "capacity-per-dollar" not in by_name(capacities_figures(borne(priced=False)))


def test_notes_that_differ_in_numbers_are_told_once_and_all_configurations_are_listed() -> None:
    page = capacities_page(borne())
    assert "8 requests are too few (and 2 configurations more, with other numbers)" in page
    assert "64 requests" not in page.split("<script")[0]
    assert "none: TTFT p99" in page and "3 to 6" in page and "of 3; 21 runs" in page


def test_no_capacity_at_all_is_a_page_too() -> None:
    data = borne()
    nothing = CapacitiesData(data.study, data.frame.filter(pl.col("capacity").is_null()))
    assert capacities_figures(nothing) == []
    assert "none: TTFT p99" in capacities_page(nothing)


def searched(goals: list[dict[str, str]], **more: Any) -> OptimumData:
    """Five trials: the best, one that misses, one that only keeps, one that a rule spared, one impossible."""
    made = study({"cluster.pools[0].replicas": [1, 2, 3, 4, 5]}, goals=goals)
    rows = []
    for point, (cost, ttft, feasible, best) in enumerate(
        [(1.0, 0.9, False, False), (3.0, 0.1, True, "maximize" in str(goals)), (2.0, 0.4, True, True)]
    ):
        figures = {"spending.usd_per_million_total_tokens": cost, "latency.ttft_s.p99": ttft}
        figures |= {"slo.bounds.ttft.value_s": ttft, "slo.bounds.ttft.bound_s": 0.5, "slo.percentile": 99.0}
        told = {"status": "ok", "error": None, "rule": "", "feasible": feasible, "best": best}
        rows.append({"point": point, "cluster.pools[0].replicas": point + 1, "seed": 0, **told, **figures})
    for point, rule, error in ((3, "worse", "cannot do as well as trial 2"), (4, "refused", "no room")):
        told = {"status": "pruned", "error": error, "rule": rule, "feasible": False, "best": False}
        rows.append({"point": point, "cluster.pools[0].replicas": point + 1, "seed": None, **told})
    answer = {
        "title": "Fleet",
        "statement": "The best.",
        "goals": [
            {"name": name, "figure": FULL[name], "direction": way}
            for goal in goals
            for way, name in goal.items()
        ],
        "best": [{"trial": 2, "parameters": {"replicas": 3}, "goals": BEST, "binding": {"slo.ttft": -0.02}}],
        "trials": 5,
        "space": 5,
        "run_in_full": 3,
        "runs": 3,
        "spared": {"worse": 1, "refused": 1},
        "missed": {"slo.ttft": 1},
        "complete": True,
        "interrupted": False,
        **more,
    }
    return OptimumData(made, answer, pl.DataFrame(rows, infer_schema_length=None))


TTFT = "latency.ttft_s.p99"
FULL = {"cost": "spending.usd_per_million_total_tokens", "ttft": TTFT, TTFT: TTFT}
BEST = {"cost": 2.0, "ttft": 0.4, TTFT: 0.4}
CHEAP = [{"minimize": "cost"}]


def test_one_goal_is_drawn_against_the_latency_that_binds() -> None:
    figures = by_name(optimum_figures(searched(CHEAP)))
    found = figures["found"]
    assert found.title == "Cost against TTFT p99"
    assert found.datasets["trials"]["TTFT p99"] == [0.9, 0.1, 0.4]
    assert found.datasets["trials"]["outcome"] == ["misses some", "keeps all", "best"]
    assert "limit 500 ms" in str(found.spec)
    assert figures["progress-cost"].datasets["best"] == {"trial": [1, 2, 4], "best so far": [3, 2, 2]}
    bars = figures["outcomes"].datasets["study"]
    assert bars["outcome"] == [
        *("best", "misses some", "keeps all", "not possible", "cannot beat what was found")
    ]
    assert bars["configurations"] == [1, 1, 1, 1, 1]
    assert len(figures["coordinates"].numbers["replicas"]) == 3


def test_two_goals_are_a_front() -> None:
    figures = by_name(optimum_figures(searched([*CHEAP, {"maximize": "ttft"}])))
    front = figures["front-ttft-cost"]
    assert any(layer["mark"].get("interpolate") == "step-after" for layer in front.spec["layer"])
    assert {"progress-cost", "progress-ttft"} <= figures.keys()


def test_a_goal_given_by_its_path_is_a_column_that_figures_can_name() -> None:
    data = searched([*CHEAP, {"maximize": "latency.ttft_s.p99"}])
    figures = by_name(optimum_figures(data))
    assert figures["progress-latency-ttft-s-p99"].datasets["trials"]["latency ttft_s p99"] == [0.9, 0.1, 0.4]
    assert {"front-latency-ttft-s-p99-cost", "coordinates"} <= figures.keys()
    columns = {name for figure in figures.values() for table in figure.datasets.values() for name in table}
    assert not [name for name in columns if "." in name or "[" in name]
    assert "latency.ttft_s.p99" in optimum_page(data)


def test_the_page_of_a_search_says_what_became_of_the_rest() -> None:
    page = optimum_page(searched(CHEAP))
    for text in ("The best.", "$2.00", "slo.ttft", "2.0% inside", "cannot do as well as trial 2", "no room"):
        assert text in page, text
    assert "was ended before" not in page
    assert "was ended before" in optimum_page(searched(CHEAP, complete=False))
    none = optimum_page(searched(CHEAP, best=[], statement="Nothing keeps it."))
    assert "Nothing keeps it." in none


def small(**keys: Any) -> Study:
    workload = {**SCENARIO["workload"], "num_requests": 60}
    scenario = {**SCENARIO, "workload": workload, "slo": {"ttft": 0.02, "percentile": 90}}
    parameters = {"cluster.pools[0].parallel.tensor": [1, 2, 3]}
    return Study.from_mapping({"scenario": scenario, "parameters": parameters, **keys})


def test_folders_are_known_by_their_files_and_give_their_page_again(tmp_path: Path) -> None:
    capacities(small(), Question(seeds=1, tolerance=0.5), tmp_path / "capacity", executor=HERE)
    optimize(small(goals=[{"minimize": "cost"}]), tmp_path / "optimize", executor=HERE)
    sweep(small(), tmp_path / "sweep", executor=HERE)
    for command in ("capacity", "optimize", "sweep"):
        folder = tmp_path / command
        assert kind_of(folder).command == command
        assert page_of(folder) == (folder / "report.html").read_text(encoding="utf-8")
        assert len(page_of(folder)) < 3e6
        assert figures_in(folder)


def test_no_kind_hides_another() -> None:
    for at, kind in enumerate(KINDS):
        assert not any(set(earlier.files) <= set(kind.files) for earlier in KINDS[:at])


def test_a_folder_of_nothing_is_refused_with_the_commands_that_leave_some(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no result of a command\n.*`tokensim run, .*sweep` left"):
        page_of(tmp_path)
    with pytest.raises(InputError, match="there is no such folder"):
        figures_in(tmp_path / "nowhere")
    (tmp_path / "comparison.json").write_text("[")
    with pytest.raises(InputError, match="cannot be read"):
        page_of(tmp_path)


def test_a_search_as_plain_data_names_the_best_and_what_binds(tmp_path: Path) -> None:
    answer = optimize(small(goals=[{"minimize": "cost"}]), tmp_path, executor=HERE)
    plain = json.loads((tmp_path / "optimum.json").read_text())
    assert plain == json.loads(json.dumps(answer.to_dict()))
    (best,) = plain["best"]
    assert best["parameters"] == {"cluster.pools[0].parallel.tensor": 1}
    assert plain["spared"] == answer.rules() and plain["spared"]["refused"] == 1
    assert plain["statement"].startswith(
        "Of all 3 configurations, run in full or ruled out, tensor 1 has the"
    )


def test_the_best_of_a_sweep_is_by_means_over_seeds_of_configurations_that_are_ok() -> None:
    given = {"workload.arrivals.rate": [5, 10], "cluster.pools[0].parallel.tensor": [1, 3]}
    result = sweep(study(given, seeds=2), executor=HERE)
    names = ["throughput.output_tokens_per_s", "latency.ttft_s.p99", "simulated_s", "complete", "no.such"]
    most, least, shortest = extremes(result, names)
    rows = result.frame.filter(pl.col("status") == "ok")
    means = [
        part["throughput.output_tokens_per_s"].mean() for part in rows.partition_by("workload.arrivals.rate")
    ]
    assert most.values == (means[0], None, means[1], None)
    assert (most.best, most.point, most.most) == (means[1], 4, True)
    assert not least.most and not shortest.most
    plain = json.loads(json.dumps(result.to_dict()))
    told = plain["extremes"]["throughput.output_tokens_per_s"]
    assert told == {
        "best": "most",
        "value": means[1],
        "point": 4,
        "parameters": {"workload.arrivals.rate": 10, "cluster.pools[0].parallel.tensor": 1},
    }
    assert plain["counts"] == {"ok": 4, "refused": 4}
