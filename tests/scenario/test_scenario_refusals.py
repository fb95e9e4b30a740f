"""What a user reads when a scenario is wrong: file, line, path, value, and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokensim.errors import InputError
from tokensim.scenario import load_scenario

GOOD = """\
model: meta-llama/Llama-3.1-8B
cluster:
  pools:
    - name: serve
      hardware: h100-sxm-80gb
engine:
  max_num_seqs: 64
workload:
  arrivals: {process: poisson, rate: 5}
  input_tokens: 512
  output_tokens: 64
  num_requests: 10
"""


def refusal(folder: Path, text: str) -> str:
    """The message for the file ``s.yaml`` with ``text``, without its folder."""
    file = folder / "s.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_scenario(file)
    return str(error.value).replace(f"{folder}/", "")


def edited(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_the_text_that_the_tests_edit_is_right(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    assert load_scenario(tmp_path / "s.yaml").engine.max_num_seqs == 64


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  max_num_seqs: 64",
            "  max_num_seq: 64",
            "s.yaml: line 7: engine.max_num_seq: unknown key\n  did you mean 'max_num_seqs' or",
        ),
        (
            "model: ",
            "modle: ",
            "s.yaml: 2 problems\n"
            "  - line 1: modle: unknown key; did you mean 'model'?\n"
            "  - model: is missing; it has no default; add it",
        ),
        (
            "max_num_seqs: 64",
            "max_num_seqs: many",
            "s.yaml: line 7: engine.max_num_seqs: 'many' is not right: must be a whole number",
        ),
        (
            "max_num_seqs: 64",
            "max_num_seqs: -1",
            "s.yaml: line 7: engine.max_num_seqs: -1 is not right: must be at least 1",
        ),
        (
            "max_num_seqs: 64",
            "gpu_memory_utilization: 90",
            "s.yaml: line 7: engine.gpu_memory_utilization: 90 is not right: must be at most 1",
        ),
        (
            "max_num_seqs: 64",
            "enable_prefix_caching: yes",
            "s.yaml: line 7: engine.enable_prefix_caching: 'yes' is not right: must be true or false",
        ),
        (
            "max_num_seqs: 64",
            "kv_cache_dtype: fp9",
            "s.yaml: line 7: engine.kv_cache_dtype: unknown value 'fp9'\n  did you mean 'fp8'?",
        ),
        (
            "max_num_seqs: 64",
            "version: 0.23",
            's.yaml: line 7: engine.version: a version is a text\n  write it in quotes and whole: "0.23.0"',
        ),
        (
            "  max_num_seqs: 64",
            "  version: 0.23.0\n  watermark: 0.1",
            "s.yaml: line 6: engine: watermark does not exist in vLLM 0.23.0\n"
            "  it needs version 0.33.0 or later; leave it out or set engine.version",
        ),
        (
            "max_num_seqs: 64",
            "swap_space: 8GiB",
            "s.yaml: line 6: engine: swap_space is given, but nothing is swapped\n"
            "  set preemption: swap, or leave it out",
        ),
        ("rate: 5", "rate: -5", "workload.arrivals.rate: -5 is not right: must be more than 0"),
        ("rate: 5", "rate: 0", "workload.arrivals.rate: 0 is not right: must be more than 0"),
        ("rate: 5", "rate: .nan", "line 9: workload.arrivals.rate: nan is not"),
        ("rate: 5", "rate: five", "workload.arrivals.rate: 'five' is not right: must be a number"),
        (
            "poisson",
            "poison",
            "line 9: workload.arrivals: unknown arrival process 'poison'; did you mean 'poisson'",
        ),
        ("rate: 5", "rte: 5", "workload.arrivals.rte: unknown key; did you mean 'rate'?"),
        (
            "name: serve",
            "role: prefill",
            "cluster: there are pools of role prefill, and none that could decode",
        ),
        (
            "max_num_seqs: 64",
            "speculative: {method: eagle, num_speculative_tokens: 3}",
            "engine.speculative.acceptance: is missing",
        ),
        (
            "max_num_seqs: 64",
            "speculative: {method: eagle, num_speculative_tokens: 3, acceptance: {rate: 0.5, recorded: [1]}}",
            "engine.speculative.acceptance: rate and recorded are given\n  exactly one of rate, per_position",
        ),
        (
            "max_num_seqs: 64",
            "speculative: {method: draft_model, num_speculative_tokens: 3, acceptance: {rate: 0.5}}",
            "engine.speculative: method draft_model needs a model",
        ),
        (
            "max_num_seqs: 64",
            "speculative: {method: eagel, num_speculative_tokens: 3, acceptance: {rate: 0.5}}",
            "engine.speculative.method: unknown value 'eagel'\n  did you mean 'eagle' or 'eagle3'?",
        ),
        (
            "name: serve",
            "parallel: {tensor: 2, data: 2, expert: 2}",
            "s.yaml: line 4: cluster.pools[0].parallel: expert is 2 with tensor 2 and data 2\n"
            "  vLLM spreads experts over all ranks or none: 1 or 4",
        ),
        (
            "name: serve",
            "parallel: {tensor: 4, expert: 2}",
            "s.yaml: line 4: cluster.pools[0].parallel: expert is 2 with tensor 4\n"
            "  vLLM spreads experts over all ranks or none: 1 or 4",
        ),
        ("name: serve", "replicas: 0", "cluster.pools[0].replicas: 0 is not right: must be at least 1"),
        (
            "name: serve",
            "engine: {block_sise: 32}",
            "s.yaml: line 4: cluster.pools[0].engine.block_sise: unknown key\n  did you mean 'block_size'",
        ),
        ("engine:", "seed: -1\nengine:", "s.yaml: line 6: seed: -1 is not right: must be at least 0"),
        (
            "engine:",
            "slo: {ttft: 500 parsecs}\nengine:",
            "s.yaml: line 6: slo.ttft: '500 parsecs' is not a duration: unknown unit 'parsecs'; write e.g.",
        ),
        (
            "engine:",
            "slo: {percentile: 101}\nengine:",
            "slo.percentile: 101 is not right: must be at most 100",
        ),
        (
            "engine:",
            "weights: bfloat61\nengine:",
            "s.yaml: line 6: weights: unknown value 'bfloat61'\n  did you mean 'bfloat16'",
        ),
        (
            "engine:",
            "performance: {front_end: perhaps}\nengine:",
            "s.yaml: line 6: performance.front_end: 'perhaps' neither turns the front end on nor off\n"
            "  true, false, or a section with its times: {request: 1ms, chunk: 10us, client: 2ms}",
        ),
        (
            "engine:",
            "performance: {front_end: {chunks: 1ms}}\nengine:",
            "performance.front_end.chunks: unknown key\n  did you mean 'chunk'?",
        ),
        (
            "engine:",
            "performance: {host: {step: -1ms}}\nengine:",
            "performance.host.step: '-1ms' is negative",
        ),
        (
            "engine:",
            "performance: {clock: {slowdown: 1, time_constant: 5s}}\nengine:",
            "performance.clock.slowdown: 1 is not right: must be less than 1",
        ),
        (
            "engine:",
            "performance: {clock: {slowdown: 0.1, time_constant: 0}}\nengine:",
            "performance.clock.time_constant: 0 is not right: must be more than 0",
        ),
        (
            "engine:",
            "performance: {clock: {slowdown: 0.1}}\nengine:",
            "performance.clock.time_constant: is missing\n  it has no default; add it",
        ),
        (
            "engine:",
            "performance: {operators: 5}\nengine:",
            "performance.operators: 5 is not right: must be a",
        ),
        (
            "engine:",
            "performance: {calibration: ''}\nengine:",
            "performance.calibration: '' is not right: must not be empty",
        ),
        (
            "max_num_seqs: 64",
            "cudagraph_capture_sizes: [1, 0]",
            "engine.cudagraph_capture_sizes[1]: 0 is not right: must be at least 1",
        ),
        ("model: meta-llama/Llama-3.1-8B", "model: 8", "line 1: model: "),
        ("engine:\n  max_num_seqs: 64", "engine: fast", "engine: 'fast' is not right: must be a section"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_is_right(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    said = refusal(tmp_path, edited(old, new))
    assert message in said
    assert said.startswith("s.yaml: ")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("{bandwidth: 400Gb/s}", "cluster.network.bandwidth: unknown key"),
        ("{inter_node: 7}", "cluster.network.inter_node: 7 is not right: must be a section"),
        ("{inter_node: {bandwidth: 0}}", "inter_node.bandwidth: 0 is not right: must be more than 0"),
        ("{inter_node: {bandwidth: 400 Gb}}", "'400 Gb' is not a bandwidth"),
        ("{host: {efficiency: 1.5}}", "cluster.network.host.efficiency: 1.5 is not right: must be at most 1"),
        ("{host: {latency: -1us}}", "'-1us' is negative"),
        ("{inter_node: {per: rack}}", "cluster.network.inter_node.per: unknown value 'rack'"),
        ("{intra_node: {per: node}}", "cluster.network.intra_node.per: unknown key"),
        ("{cluster: {latency: 1us}}", "cluster.network.cluster.bandwidth: is missing"),
        ("{placement: pack}", "did you mean 'packed'?"),
    ],
)
def test_an_impossible_network_is_refused(tmp_path: Path, network: str, message: str) -> None:
    assert message in refusal(tmp_path, edited("cluster:", f"cluster:\n  network: {network}"))


def test_all_problems_are_told_from_top_to_bottom(tmp_path: Path) -> None:
    text = (
        edited("max_num_seqs: 64", "max_num_seqs: 0")
        .replace("name: serve", "nam: serve")
        .replace("rate: 5", "rate: -5")
    )
    assert refusal(tmp_path, text) == (
        "s.yaml: 3 problems\n"
        "  - line 4: cluster.pools[0].nam: unknown key; did you mean 'name'?\n"
        "  - line 7: engine.max_num_seqs: 0 is not right: must be at least 1\n"
        "  - line 9: workload.arrivals.rate: -5 is not right: must be more than 0"
    )


def test_two_pools_of_one_name_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, edited("engine:", "    - {name: serve, hardware: l4-24gb}\nengine:"))
    assert "cluster.pools: pools 0 and 1 are both named 'serve'" in said


def test_a_cluster_without_pools_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("    - name: serve\n      hardware: h100-sxm-80gb\n", "    []\n"))
    assert "cluster.pools: must not be empty" in said


def test_a_key_given_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    assert refusal(tmp_path, GOOD + "engine: {block_size: 32}\n") == (
        "s.yaml:13: engine: the key 'engine' is given twice\n  it stands in line 6 already; keep one of them"
    )


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, edited("rate: 5}", "rate: 5"))
    assert said.startswith("s.yaml:10: not valid YAML: ")
    assert "look at this line and the one before it" in said


def test_a_tab_is_refused_with_its_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, edited("  max_num_seqs", "\tmax_num_seqs")).startswith(
        "s.yaml:7: not valid YAML"
    )


def test_an_alias_that_contains_itself_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "model: &m\n  again: *m\n" + GOOD.partition("\n")[2])
    assert said == (
        "s.yaml:1: model.again is an alias of a section that it stands in\n"
        "  write the value out instead of the alias"
    )


def test_yaml_that_makes_objects_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "model: !!python/object/apply:os.getcwd []\n")
    assert said.startswith("s.yaml:1: not valid YAML: could not determine a constructor")


@pytest.mark.parametrize(
    ("text", "said"), [("", "the file is empty"), ("- 1\n", "not a scenario"), ("x", "not a s")]
)
def test_a_file_without_a_scenario_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text).startswith(f"s.yaml: {said}")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"model: x\n\xff\xfe\x00")
    with pytest.raises(InputError, match=r"s\.yaml:2: not a UTF-8 text"):
        load_scenario(tmp_path / "s.yaml")


def test_control_characters_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"model: \x00\x01")
    with pytest.raises(InputError, match=r"s\.yaml: not valid YAML"):
        load_scenario(tmp_path / "s.yaml")


def test_a_file_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(GOOD)
    with pytest.raises(InputError) as error:
        load_scenario(tmp_path / "quikstart.yaml")
    assert "quikstart.yaml: no such file\n  did you mean 'quickstart.yaml'?" in str(error.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, not a scenario file"):
        load_scenario(tmp_path)
