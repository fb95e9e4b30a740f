"""``tokensim profile`` on this machine's CPU: what it leaves works in every other command.

Nothing here depends on how fast the machine is, or on what else runs on it: budgets end the measuring.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokensim.cli.app import app
from tokensim.errors import InputError
from tokensim.profiling.shapes import Shape
from tokensim.profiling.timing import Policy

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 1024,
    "max_position_embeddings": 512,
    "torch_dtype": "float32",
}
SCENARIO = """
model: MODEL
cluster: {pools: [{name: cpu, hardware: FOLDER/device.yaml}]}
performance: {operators: FOLDER/}
engine: {max_num_seqs: 8, max_num_batched_tokens: 32, max_model_len: 128, num_gpu_blocks: 1000}
workload:
  arrivals: {process: poisson, rate: 1}
  input_tokens: {distribution: fixed, value: 32}
  output_tokens: {distribution: fixed, value: 8}
  num_requests: 20
slo: {ttft: 10s, percentile: 90}
"""


def run(*arguments: str, status: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tokensim", *arguments],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1",
        },  # no waiting for busy cores
        timeout=600,
    )
    assert done.returncode in status, done.stderr
    return done.stdout if done.returncode != 2 else done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "config.json"
    file.write_text(json.dumps(TINY))
    return file


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """The operators of a tiny model, within a budget."""
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be measured here")
    folder = tmp_path_factory.mktemp("measured")
    told = run(
        "profile", "--device", "cpu", "--model", str(model), "--max-num-batched-tokens", "32",
        "--max-num-seqs", "8", "--max-model-len", "128", "--error", "90%", "--budget", "90s", "--cache",
        "hot", "-o", str(folder), "--json", status=(0, 1),
    )  # fmt: skip
    answer = json.loads(told)
    assert answer["measured"] > 30
    assert answer["refused"] == {}
    return folder


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory, model: Path, measured: Path) -> Path:
    file = tmp_path_factory.mktemp("scenario") / "scenario.yaml"
    file.write_text(SCENARIO.replace("MODEL", str(model)).replace("FOLDER", str(measured)))
    return file


def test_every_operator_of_a_step_is_measured(scenario: Path) -> None:
    told = json.loads(run("explain", str(scenario), "--step", "decode=4@64+prefill=16", "--json"))
    (device,) = told["devices"]
    rows = [row for row in device["breakdown"] if row["operator"] != "host"]
    assert len(rows) > 10
    sources = {row["operator"]: row["source"] for row in rows}
    assert not {name: source for name, source in sources.items() if "tokensim profile" not in source}
    assert {row["how"] for row in rows} <= {"exact", "interpolated"}


def test_a_scenario_runs_on_it(scenario: Path, tmp_path: Path) -> None:
    run("run", str(scenario), "--quiet", "-o", str(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["requests"]


def test_its_capacity_can_be_asked_for(scenario: Path) -> None:
    told = json.loads(run("capacity", str(scenario), "--seeds", "1", "--tolerance", "50%", "--json"))
    assert told


def test_its_tables_can_be_shown_and_compared(measured: Path) -> None:
    shown = run("profiles", "show", str(measured))
    for words in ("torch", "threads", "clocks", "kernel of gemm", "spread", "host launch"):
        assert words in shown
    compared = run("profiles", "compare", str(measured), str(measured))
    assert "decode_attention" in compared
    assert "+0.0%" in compared


def test_the_plan_says_how_long_it_takes(model: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be measured here")
    told = run(
        "profile", "--device", "cpu", "--model", str(model), "--max-model-len", "256", "--operators",
        "gemm,elementwise", "--plan", "--json",
    )  # fmt: skip
    answer = json.loads(told)
    assert set(answer["kinds"]) == {"gemm", "elementwise"}
    assert answer["about_s"] > answer["coarse_s"] > 0
    assert answer["flops"]["float32"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--device", "tpu"), "cpu, cuda or cuda:0"),
        (("--operators", "gem"), "did you mean 'gemm'"),
        (("--budget", "ten"), "10min"),
        (("--error", "0"), "between 0 and 1"),
        (("--cache", "warm"), "cold, hot or both"),
        (("--device", "cpu", "-tp", "2"), "give --model"),
        (("--base", "h101"), "h100"),
    ],
)
def test_what_is_wrong_is_refused(arguments: tuple[str, ...], says: str) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be measured here")
    result = CliRunner().invoke(app, ["profile", *arguments])
    assert isinstance(result.exception, InputError)
    assert says in str(result.exception)


def test_every_kernel_of_the_cpu_can_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be measured here")
    from tokensim.profiling.kernels import facts, open_bench

    monkeypatch.setattr(facts, "_cpu_cache", lambda: float(1 << 20))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # no waiting for busy cores
    bench = open_bench(
        "cpu", cache="both", ranks=2, policy=Policy(least=3, most=3, cap_s=0.02, warm_up_s=0.01)
    )
    heads = {"kv_dtype": "float32", "heads": 4, "kv_heads": 2, "head_dim": 16, "window": 0, "batch": 2}
    experts = {"hidden": 32, "intermediate": 16, "experts": 4, "top_k": 2, "distribution": "independent"}
    shapes = [
        *(Shape.of("gemm", dtype=dtype, n=64, k=64, m=4) for dtype in bench.facts.dtypes),
        Shape.of("decode_attention", **heads, context=32),
        Shape.of("prefill_attention", **heads, tokens=16, cached=0),
        *(Shape.of("experts", dtype="float32", **experts, tensor=1, expert=e, tokens=8) for e in (1, 2)),
        *(
            Shape.of("elementwise", operator=name, dtype="float32", row_bytes=4096, rows=4)
            for name in ("norm", "activation", "rotary", "embedding", "sampling")
        ),
        *(
            Shape.of("collective", collective=name, backend="gloo", ranks=2, bytes=4096)
            for name in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
        ),
    ]
    try:
        for shape in shapes:
            measured = bench.measure(shape)
            assert measured.seconds > 0, shape
            assert measured.samples >= 1
            assert (measured.hot_seconds is None) == (shape.kind == "collective")
        assert "kernel of experts" in bench.told()
    finally:
        bench.close()
        torch.set_num_threads(threads)


def test_what_no_kernel_takes_is_said() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be measured here")
    from tokensim.profiling.bench import Unmeasurable
    from tokensim.profiling.kernels import open_bench

    bench = open_bench("cpu", cache="hot")
    mixed = {"kv_dtype": "float32", "heads": 4, "kv_heads": 2, "head_dim": 16}
    with pytest.raises(Unmeasurable, match="neither FlashAttention nor FlashInfer"):
        bench.measure(Shape.of("mixed_attention", **mixed, tokens=8, cached=0, decodes=2, context=8))
    with pytest.raises(Unmeasurable, match="no kernel here takes it"):
        bench.measure(
            Shape.of("decode_attention", **{**mixed, "kv_dtype": "fp8"}, window=0, batch=1, context=8)
        )
    with pytest.raises(Unmeasurable, match="2 ranks"):
        bench.measure(Shape.of("collective", collective="all_reduce", backend="gloo", ranks=2, bytes=64))
    bench.close()


def test_slices_do_not_overlap_and_exceed_the_cache() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing can be measured here")
    from tokensim.profiling.kernels.arena import Arena

    cold = Arena(torch.device("cpu"), 1e6, cold=True).slices((100, 100), torch.float32)
    starts = [part.data_ptr() for part in cold]
    assert all(b - a >= 40_000 for a, b in pairwise(starts))
    assert len(cold) * 40_000 >= 4e6
    assert all(bool(torch.isfinite(part).all()) for part in cold)
    assert len(Arena(torch.device("cpu"), 1e6, cold=False).slices((100, 100), torch.float32)) == 1
