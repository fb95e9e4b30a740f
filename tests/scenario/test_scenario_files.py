"""Reading scenarios: short forms, defaults, overrides, and the way to a file and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.scenario import (
    Scenario,
    apply_overrides,
    dump_scenario,
    from_mapping,
    load_scenario,
    schema_json,
)

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def tree(**changes: Any) -> dict[str, Any]:
    """The smallest scenario, with ``changes`` at the top."""
    smallest = {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 5},
            "input_tokens": 512,
            "output_tokens": 64,
            "num_requests": 10,
        },
    }
    return {**smallest, **changes}


def write(folder: Path, text: str) -> Path:
    file = folder / "s.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_smallest_scenario_has_the_engines_defaults() -> None:
    scenario = from_mapping(tree())
    assert scenario.engine.version == "0.33.0"
    assert scenario.engine.block_size == 16
    assert scenario.engine.async_scheduling
    assert scenario.cluster.router.policy == "round-robin"
    assert scenario.slo.ttft is None
    assert scenario.seed == 0


def test_a_python_tree_and_a_file_give_equal_scenarios(tmp_path: Path) -> None:
    file = write(tmp_path, yaml.safe_dump(tree()))
    assert Scenario.from_yaml(file) == load_scenario(file) == Scenario.model_validate(tree())


def test_short_forms_mean_the_long_ones() -> None:
    short = from_mapping(tree(cluster={"pools": [{"hardware": "x"}], "router": "round-robin"}, slo=None))
    long = from_mapping(
        tree(cluster={"pools": [{"hardware": "x"}], "router": {"policy": "round-robin"}}, slo={})
    )
    assert short == long


def test_a_pool_overrides_the_engine_and_keeps_the_rest() -> None:
    scenario = from_mapping(
        tree(
            engine={"max_num_seqs": 64, "block_size": 32},
            cluster={
                "pools": [
                    {"name": "a", "hardware": "x", "engine": {"max_num_seqs": 8}},
                    {"name": "b", "hardware": "x"},
                ]
            },
        )
    )
    first, second = (scenario.pool_engine(pool) for pool in scenario.cluster.pools)
    assert (first.max_num_seqs, first.block_size) == (8, 32)
    assert second == scenario.engine


def test_a_pools_override_is_checked_together_with_the_engine() -> None:
    pools = [{"hardware": "x", "engine": {"max_num_seqs": 512}}]
    with pytest.raises(InputError) as error:
        from_mapping(tree(engine={"max_num_batched_tokens": 256}, cluster={"pools": pools}))
    assert "cluster.pools[0].engine" in str(error.value)
    assert "max_num_batched_tokens (256) is less than max_num_seqs (512)" in str(error.value)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_valid_scenario_and_survives_writing(example: Path, tmp_path: Path) -> None:
    scenario = load_scenario(example)
    assert load_scenario(write(tmp_path, dump_scenario(scenario))) == scenario


def test_there_is_a_quickstart() -> None:
    assert "quickstart" in [example.stem for example in EXAMPLES]


def test_a_written_scenario_shows_every_default() -> None:
    written = yaml.safe_load(dump_scenario(from_mapping(tree())))
    assert written["engine"]["gpu_memory_utilization"] == 0.9
    assert written["cluster"]["pools"][0]["parallel"] == {"tensor": 1, "pipeline": 1, "data": 1, "expert": 1}
    assert written["slo"]["percentile"] == 99


@given(
    name=st.text(max_size=20),
    rate=st.floats(min_value=1e-9, max_value=1e9),
    ttft=st.none() | st.floats(min_value=0, max_value=1e6),
    seed=st.integers(min_value=0, max_value=2**62),
)
def test_writing_and_reading_gives_the_same_scenario(
    name: str, rate: float, ttft: float | None, seed: int
) -> None:
    from tokensim.scenario.yaml_text import parse

    workload = {**tree()["workload"], "arrivals": {"process": "poisson", "rate": rate}}
    scenario = from_mapping(tree(name=name, workload=workload, slo={"ttft": ttft}, seed=seed))
    data, _ = parse(dump_scenario(scenario), "dump")
    assert from_mapping(data) == scenario


def test_paths_in_a_file_count_from_its_folder_and_survive_a_move(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    file = write(
        tmp_path / "a",
        "model: ./config.json\n"
        "cluster: {pools: [{hardware: mine.yaml}]}\n"
        "workload: {trace: {path: ../traces/t.csv, tokenizer: tok.json}}\n",
    )
    scenario = load_scenario(file)
    assert scenario.model == str(tmp_path / "a" / "config.json")
    assert scenario.cluster.pools[0].hardware == str(tmp_path / "a" / "mine.yaml")
    assert scenario.workload.trace is not None
    assert scenario.workload.trace.path == str(tmp_path / "traces" / "t.csv")
    assert scenario.workload.trace.tokenizer == str(tmp_path / "a" / "tok.json")
    assert load_scenario(write(tmp_path / "b", dump_scenario(scenario))) == scenario


def test_catalog_ids_are_not_taken_for_paths(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, yaml.safe_dump(tree())))
    assert scenario.model == "meta-llama/Llama-3.1-8B"
    assert scenario.cluster.pools[0].hardware == "h100-sxm-80gb"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", 16),
        ("~", None),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    from tokensim.scenario.yaml_text import parse

    assert parse(f"key: {text}", "t")[0] == {"key": value}


def test_overrides_are_yaml_and_reach_into_lists() -> None:
    data = apply_overrides(
        tree(),
        [
            "engine.max_num_seqs=512",
            "cluster.pools[0].hardware=h200-sxm-141gb",
            "cluster.pools[0].parallel={tensor: 2}",
            "slo.ttft=300ms",
            "engine.enable_prefix_caching=false",
            "engine.max_num_seqs=128",
        ],
    )
    scenario = from_mapping(data)
    assert scenario.engine.max_num_seqs == 128
    assert scenario.cluster.pools[0].hardware == "h200-sxm-141gb"
    assert scenario.cluster.pools[0].parallel.tensor == 2
    assert scenario.slo.ttft == 0.3
    assert not scenario.engine.enable_prefix_caching


def test_overriding_leaves_the_original_alone() -> None:
    before = tree()
    apply_overrides(before, ["workload.arrivals.rate=9", "cluster.pools[0].replicas=3"])
    assert before == tree()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("engine.max_num_seq=1", "unknown key 'max_num_seq' in engine\n  did you mean 'max_num_seqs'"),
        ("max_num_seqs=1", "did you mean 'engine.max_num_seqs'?"),
        ("workload.arrivals.rte=1", "did you mean 'rate'?"),
        ("cluster.pools[0].engine.block_sze=1", "did you mean 'block_size'"),
        (
            "cluster.pools[3].replicas=2",
            "cluster.pools has no entry 3\n  it has 1, counted from 0; set the whole list",
        ),
        ("cluster.pools[-1].replicas=2", "cluster.pools has no entry -1"),
        ("cluster.pools.replicas=2", "say which entry: cluster.pools[0].replicas"),
        ("engine[0]=2", "engine is not a list"),
        ("workload.input_tokens.mean=2", "workload.input_tokens is 512, not a section"),
        ("engine.max_num_seqs", "no '=' in it\n  write path=value"),
        ("engine..x=1", "'engine..x' is not a path"),
        ("=1", "'' is not a path"),
        ("engine.block_size=[1", "not valid YAML"),
    ],
)
def test_a_wrong_override_is_refused_by_its_own_text(override: str, said: str) -> None:
    data = tree(engine={"block_size": 16})
    with pytest.raises(InputError) as error:
        apply_overrides(data, [override])
    assert str(error.value).startswith(f"--set {override}")
    assert said in str(error.value)


def test_a_bad_value_of_an_override_names_the_override(tmp_path: Path) -> None:
    file = write(tmp_path, yaml.safe_dump(tree()))
    with pytest.raises(InputError) as error:
        load_scenario(file, ["seed=-1"])
    assert str(error.value) == f"{file}: --set seed=-1: seed: -1 is not right: must be at least 0"


def test_the_json_schema_knows_every_section_and_the_short_forms() -> None:
    schema = json.loads(schema_json())
    assert set(schema["properties"]) == set(Scenario.model_fields)
    assert set(schema["required"]) == {"model", "cluster", "workload"}
    assert schema["additionalProperties"] is False
    sections = schema["$defs"]
    assert sections["Pool"]["properties"]["engine"]["$ref"] == "#/$defs/Engine"
    assert {"type": "integer", "minimum": 1} in sections["WorkloadSpec"]["properties"]["input_tokens"][
        "anyOf"
    ]
    assert all(field.get("description") for field in sections["Engine"]["properties"].values())
