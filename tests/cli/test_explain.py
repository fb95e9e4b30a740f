"""``tokensim explain``: what it accepts, what it prints, and that its parts sum to what the engine uses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim import cli
from tokensim.cost import CompiledStepCost
from tokensim.cost.explain import Step, explain, parse_step
from tokensim.errors import InputError
from tokensim.model import load_model
from tokensim.plan import plan_pool
from tokensim.scenario import from_mapping

Command = Callable[..., tuple[int, str, str]]
SCENARIO = """
model: {model}
cluster:
  pools:
    - {{name: prefill, hardware: h100-sxm-80gb}}
    - {{name: decode, hardware: h200-sxm-141gb, parallel: {{tensor: 4}}}}
performance: {{operators: roofline}}
workload: {{arrivals: {{process: poisson, rate: 1}}, input_tokens: 100, output_tokens: 10, num_requests: 1}}
"""


@pytest.fixture
def tokensim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line; gives (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tokensim", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    file = tmp_path / "scenario.yaml"
    file.write_text(SCENARIO.format(model="meta-llama/Llama-3.1-8B"), encoding="utf-8")
    return str(file)


def compiled(model: str, pool: int = 0) -> CompiledStepCost:
    import yaml

    checked = from_mapping(yaml.safe_load(SCENARIO.format(model=model)))
    return plan_pool(checked, pool, load_model(model, "model")).cost


def test_a_step_is_read_from_parts_joined_by_plus_or_repeated() -> None:
    step = parse_step(["decode=64@1024+prefill=512@4096", "prefill=2048", "decode=2@9000"])
    assert step == Step(((64, 1024), (2, 9000)), ((512, 4096), (2048, 0)))
    assert (step.decode, step.requests, step.tokens) == (66, 68, 66 + 512 + 2048)
    assert step.contexts() == (64 * 1024 + 2 * 9000, 9000)
    assert step.contexts(4096) == (64 * 1024 + 2 * 4096, 4096)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decode=64", "does not say how long the contexts are"),
        ("decode=64@0", "does not say how long the contexts are"),
        ("decode=0@10", "nothing to run"),
        ("prefill=-3", "not a part of a step"),
        ("decode=64@1k", "not a part of a step"),
        ("prefil=64", "did you mean 'prefill'"),
        ("prefill=64+", "not a part of a step"),
        ("", "not a part of a step"),
    ],
)
def test_what_is_not_a_step_is_refused_with_what_would_be(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        parse_step([text])
    assert "decode=" in str(refused.value) or "1 or more" in str(refused.value)


MODELS = {
    name: compiled(name, 1)
    for name in ("meta-llama/Llama-3.1-8B", "mistralai/Mixtral-8x7B-v0.1", "google/gemma-2-9b")
}
REQUESTS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 20000)), max_size=3)
CHUNKS = st.lists(st.tuples(st.integers(1, 4000), st.integers(0, 20000)), max_size=3)


@settings(deadline=None)
@given(st.sampled_from(sorted(MODELS)), REQUESTS, CHUNKS)
def test_the_parts_sum_to_the_step_that_the_engine_uses(
    model: str, decodes: list[tuple[int, int]], chunks: list[tuple[int, int]]
) -> None:
    cost = MODELS[model]
    step = Step(tuple(decodes), tuple(chunks))
    if not step.requests:
        return
    explanation = explain(cost, step)
    context, longest = step.contexts()
    capped, _ = step.contexts(cost.window)
    if chunks:
        expected = cost.step_time(step.decode, context, capped, longest, chunks, step.requests)
    else:
        expected, _, _ = cost.decode_run(step.decode, context, capped, float(step.decode), longest)
    assert explanation.step_s == pytest.approx(expected, rel=1e-9)
    assert sum(operator.seconds for operator in explanation.operators) == pytest.approx(expected, rel=1e-9)


def test_the_work_of_an_operator_is_that_of_all_its_runs() -> None:
    by_name = {
        o.operator: o for o in explain(compiled("meta-llama/Llama-3.1-8B"), Step(((64, 1024),))).operators
    }
    gemm = by_name["o_proj"]
    assert gemm.flops == 32 * 2 * 64 * 4096 * 4096
    assert gemm.bytes == 32 * 2 * (4096 * 4096 + 64 * 2 * 4096)
    assert (gemm.bound, gemm.shape, gemm.count) == ("memory", "m=64 n=4096 k=4096 bfloat16", 32)
    assert gemm.of_peak == pytest.approx(gemm.bytes / 3.35e12 / gemm.seconds)
    attention = by_name["attention"]
    assert attention.flops == 32 * 64 * 1024 * 4 * 32 * 128
    assert attention.bytes == pytest.approx(32 * 64 * 1024 * 2 * 2 * 8 * 128, rel=0.02)


def test_large_prefills_are_bound_by_compute_and_collectives_by_the_network() -> None:
    operators = explain(compiled("meta-llama/Llama-3.1-8B", 1), Step(chunks=((8192, 0),))).operators
    bounds = {operator.operator: operator.bound for operator in operators}
    assert bounds["qkv_proj"] == bounds["attention"] == "compute"
    assert bounds["ffn_all_reduce"] == "network"
    assert bounds["norm"] == "memory"
    assert list(bounds)[-1] == bounds["host"] == "host"


def test_the_table_has_a_line_for_each_operator_and_says_what_of_the_total_is_host(
    tokensim: Command, scenario: str
) -> None:
    code, out, err = tokensim("explain", scenario, "--step", "decode=60@1024")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "NVIDIA H100 SXM5 80 GB: 60 decodes of 1,024 tokens"
    table = lines[2 : lines.index("", 2)]
    assert table[0].split() == [
        *(
            "operator",
            "shape",
            "runs",
            "time",
            "share",
            "GFLOP",
            "MB",
            "of",
            "peak",
            "bound",
            "known",
            "source",
        )
    ]
    assert {"qkv_proj", "attention", "lm_head", "sampling", "host"} <= {line.split()[0] for line in table}
    assert any(line.startswith("step ") and " host " in line for line in lines)
    assert "note: 60 tokens run as 64, the next captured CUDA graph" in lines


def test_two_devices_stand_side_by_side(tokensim: Command, scenario: str) -> None:
    code, out, _ = tokensim(
        *("explain", scenario, "--step", "decode=64@1024"),
        *("--hardware", "h100-sxm-80gb", "--hardware", "a100-sxm-80gb"),
    )
    assert code == 0
    lines = out.splitlines()
    assert "H100" in lines[0]
    assert "A100" in lines[0]
    total = next(line for line in lines if line.startswith("total"))
    assert float(total.split()[-1]) > 1.2  # an A100 has 0.61 of an H100's bandwidth


def test_json_gives_the_same_in_si_units(tokensim: Command, scenario: str) -> None:
    code, out, _ = tokensim(
        *("explain", scenario, "--json", "--step", "prefill=512@4096", "--step", "decode=8@100"),
        *("--pool", "decode"),
    )
    assert code == 0
    data = json.loads(out)
    assert data["step"] == {
        "decodes": [{"requests": 8, "context": 100}],
        "chunks": [{"tokens": 512, "cached": 4096}],
    }
    (device,) = data["devices"]
    assert device["hardware"] == "h200-sxm-141gb"
    assert device["step_s"] == pytest.approx(device["device_s"] + device["host_s"])
    assert device["step_s"] == pytest.approx(sum(o["seconds"] for o in device["breakdown"]))
    assert sum(o["share"] for o in device["breakdown"]) == pytest.approx(1.0)
    assert "attention_all_reduce" in {o["operator"] for o in device["breakdown"]}


def test_a_step_that_the_engine_would_not_run_is_explained_with_a_note(
    tokensim: Command, scenario: str
) -> None:
    code, out, _ = tokensim("explain", scenario, "--step", "decode=64@8", "--set", "engine.max_num_seqs=32")
    assert code == 0
    assert "note: the engine would not run this step: 64 requests, max_num_seqs is 32" in out
    _, out, _ = tokensim("explain", scenario, "--step", "decode=8@128", "--set", "engine.num_gpu_blocks=50")
    assert "note: the engine would not run this step: 1,024 tokens, its KV pool holds 800" in out
    _, out, _ = tokensim("explain", scenario, "--step", "decode=8@100", "--set", "engine.num_gpu_blocks=50")
    assert "would not run" not in out


def test_a_user_s_own_source_is_asked_first(tokensim: Command, scenario: str, tmp_path: Path) -> None:
    plugin = tmp_path / "fused.py"
    plugin.write_text(
        "from tokensim import register\n"
        "from tokensim.cost import Origin\n"
        "from tokensim.model.operators import Elementwise\n"
        "class Nothing:\n"
        "    def seconds(self, rows): return 0 * rows\n"
        "    def origin(self, rows): return Origin('exact', 'wishful thinking')\n"
        "@register.operator_cost('fused')\n"
        "class Fused:\n"
        "    name = 'fused'\n"
        "    def __init__(self, setting): pass\n"
        "    def price(self, operators):\n"
        "        return {op.name: Nothing() for op in operators if isinstance(op, Elementwise)}\n",
        encoding="utf-8",
    )
    code, out, err = tokensim(
        *("explain", scenario, "--step", "decode=1@1", "--json"),
        *("--plugin", str(plugin), "--operators", "fused"),
    )
    assert code == 0, err
    breakdown = {o["operator"]: o for o in json.loads(out)["devices"][0]["breakdown"]}
    assert breakdown["norm"]["seconds"] == 0
    assert breakdown["norm"]["source"] == "wishful thinking"
    assert breakdown["norm"]["of_peak"] is None
    assert breakdown["qkv_proj"]["seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pool", "decod"), "did you mean 'decode'"),
        (("--hardware", "h10"), "did you mean 'h100'"),
        (("--hardware", "h100", "--hardware", "h200", "--hardware", "a100"), "--hardware is given 3 times"),
        (("--operators", "rooflin"), "did you mean 'roofline'"),
        (("--set", "cluster.pools[0].hardware=l4"), "does not fit|memory"),
    ],
)
def test_bad_options_are_refused(
    tokensim: Command, scenario: str, arguments: tuple[str, ...], message: str
) -> None:
    import re

    options = (*arguments, "--set", "model=meta-llama/Llama-3.1-70B") if "l4" in arguments[-1] else arguments
    code, out, err = tokensim("explain", scenario, "--step", "prefill=16", *options)
    assert (code, out) == (2, "")
    assert re.search(message, err)
    assert "Traceback" not in err
