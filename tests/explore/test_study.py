"""A study file becomes points: which, in which order, with which scenario; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokensim.errors import InputError
from tokensim.explore.study import Study, digest

SCENARIO: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "cluster": {"pools": [{"name": "serve", "hardware": "h100-sxm-80gb"}]},
    "performance": {"operators": "builtin"},
    "workload": {
        "arrivals": {"process": "poisson", "rate": 10},
        "input_tokens": 100,
        "output_tokens": 10,
        "num_requests": 20,
    },
    "seed": 7,
}


def study(parameters: dict[str, Any], **keys: Any) -> Study:
    return Study.from_mapping({"scenario": SCENARIO, "parameters": parameters, **keys})


def settings(made: Study) -> list[dict[str, Any]]:
    return [{k: v for c in point.choices for k, v in c.settings.items()} for point in made]


def test_a_grid_has_every_combination_the_last_parameter_fastest_and_seeds_faster_still() -> None:
    made = study({"engine.max_num_seqs": [8, 16], "workload.arrivals.rate": [1, 2, 3]}, seeds=2)
    assert len(made) == 12
    assert [(p.choices[0].label, p.choices[1].label, p.seed) for p in made][:5] == [
        (8, 1, 7),
        (8, 1, 8),
        (8, 2, 7),
        (8, 2, 8),
        (8, 3, 7),
    ]
    task = made.task(made.point(11))
    assert task.data["engine"] == {"max_num_seqs": 16}
    assert task.data["workload"]["arrivals"]["rate"] == 3
    assert task.data["seed"] == 8


def test_zip_takes_the_first_of_each_then_the_second_of_each() -> None:
    made = study({"engine.max_num_seqs": [8, 16], "workload.arrivals.rate": [1, 2]}, method="zip")
    assert settings(made) == [
        {"engine.max_num_seqs": 8, "workload.arrivals.rate": 1},
        {"engine.max_num_seqs": 16, "workload.arrivals.rate": 2},
    ]


def test_random_points_lie_in_their_ranges_and_are_the_same_each_time() -> None:
    given = {
        "workload.arrivals.rate": {"from": 0.1, "to": 10, "scale": "log"},
        "engine.max_num_seqs": {"from": 1, "to": 4},
        "engine.block_size": [16, 32],
    }
    made = study(given, method="random", samples=200)
    drawn = settings(made)
    assert drawn == settings(study(given, method="random", samples=200))
    assert drawn != settings(study(given, method="random", samples=200, seed=1))
    rates = [d["workload.arrivals.rate"] for d in drawn]
    assert all(0.1 <= rate <= 10 for rate in rates)
    assert 60 < sum(rate < 1 for rate in rates) < 140  # half of them on a log scale
    assert {d["engine.max_num_seqs"] for d in drawn} == {1, 2, 3, 4}
    assert {d["engine.block_size"] for d in drawn} == {16, 32}


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"from": 1, "to": 16, "steps": 4}, [1, 6, 11, 16]),
        ({"from": 1, "to": 16, "steps": 5, "scale": "log"}, [1, 2, 4, 8, 16]),
        ({"from": 1.0, "to": 2, "steps": 3}, [1.0, 1.5, 2.0]),
        ({"from": 1, "to": 2, "steps": 5}, [1, 2]),  # whole numbers, none twice
    ],
)
def test_a_range_has_evenly_spaced_values_with_both_ends(given: Any, values: list[float]) -> None:
    made = study({"workload.arrivals.rate": given})
    assert [point.choices[0].label for point in made] == pytest.approx(values)


def test_a_name_of_ones_own_sets_several_keys_at_once() -> None:
    made = study(
        {
            "hardware": {
                "one H100": {"cluster.pools[0].hardware": "h100-sxm-80gb"},
                "two A100": {"cluster.pools[0].hardware": "a100-sxm-80gb", "cluster.pools[0].replicas": 2},
            }
        }
    )
    assert [point.choices[0].label for point in made] == ["one H100", "two A100"]
    assert made.task(made.point(1)).data["cluster"]["pools"][0] == {
        "name": "serve",
        "hardware": "a100-sxm-80gb",
        "replicas": 2,
    }
    assert made.task(made.point(0)).data["cluster"]["pools"][0]["hardware"] == "h100-sxm-80gb"


def test_files_count_from_the_folder_of_the_study(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model: ./m.json\nworkload: {trace: {path: x.csv}}\n")
    file = tmp_path / "study.yaml"
    file.write_text("scenario: base.yaml\nparameters: {workload.trace.path: [a.csv, b.csv]}\n")
    made = Study.from_yaml(file)
    assert [made.task(point).data["workload"]["trace"]["path"] for point in made] == [
        str(tmp_path / "a.csv"),
        str(tmp_path / "b.csv"),
    ]
    assert made.task(made.point(0)).data["model"] == str(tmp_path / "m.json")


def test_runs_are_known_by_what_they_are_not_by_their_number() -> None:
    few = study({"engine.max_num_seqs": [8, 16]})
    more = study({"engine.max_num_seqs": [4, 8, 16]})
    assert digest(few.task(few.point(0))) == digest(more.task(more.point(1)))
    assert len({digest(more.task(point)) for point in more}) == 3


def test_a_scenario_is_told_from_a_study() -> None:
    with pytest.raises(InputError, match="is a scenario, not a study"):
        Study.from_mapping(SCENARIO)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"parameters": {"engine.max_num_sequences": [1]}}, "unknown key 'max_num_sequences'"),
        ({"parameters": {"nonsense": {"A": {"engine.blocksize": 1}}}}, "did you mean 'block_size'"),
        ({"parameters": {"cluster.pools[3].replicas": [1]}}, "has no entry 3"),
        ({"parameters": {"engine.block_size": []}}, "no values"),
        ({"parameters": {"engine.block_size": 16}}, "neither a list"),
        ({"parameters": {"workload.arrivals.rate": {"from": 1, "to": 2}}}, "without steps"),
        ({"parameters": {"workload.arrivals.rate": {"from": 2, "to": 1, "steps": 2}}}, "give from < to"),
        ({"parameters": {"engine.block_size": {"from": 0, "to": 1, "steps": 2, "scale": "log"}}}, "above 0"),
        ({"parameters": {"workload.arrivals.rate": {"from": 0, "to": 1, "step": 2}}}, "'steps'"),
        ({"parameters": {"engine.block_size": [16]}, "samples": 3}, "samples"),
        ({"parameters": {"engine.block_size": [16]}, "method": "random"}, "samples: 100"),
        ({"parameters": {"engine.block_size": [16], "seed": [1, 2]}, "method": "zip"}, "different lengths"),
        ({"parameters": {}}, "parameters"),
        ({"parameters": {"engine.block_size": [16]}, "sedes": 3}, "sedes"),
    ],
)  # fmt: skip
def test_what_no_point_can_be_made_of_is_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as error:
        Study.from_mapping({"scenario": SCENARIO, **keys})
    assert told in str(error.value)
