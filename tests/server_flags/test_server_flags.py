"""Command lines of serving engines become scenarios: every flag lands somewhere, and is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokensim import Scenario
from tokensim.errors import InputError
from tokensim.scenario.loading import from_mapping, read_document
from tokensim.server_flags import DIALECTS, Dialect, translate
from tokensim.server_flags.document import STAND_IN, as_yaml, document

EVERY = [pytest.param(dialect, id=dialect.name) for dialect in DIALECTS]


def said(command: str) -> dict[str, Any]:
    """Dotted keys that ``command`` sets, below the pool and the engine, with their values."""
    return {".".join(map(str, taken.path)): taken.value for taken in translate([command]).taken}


def scenario(command: str, *overrides: str, hardware: str = "h100-sxm-80gb") -> Scenario:
    return document(translate([command]), hardware, None, overrides).check()


@pytest.mark.parametrize("dialect", EVERY)
def test_a_flag_stands_in_one_table_alone(dialect: Dialect) -> None:
    tables = [dialect.keys, dialect.special, dialect.inert, dialect.apart]
    names = [name for table in tables for name in table] + [dialect.model]
    assert len(names) == len(set(names))
    assert set(dialect.aliases.values()) | set(dialect.short.values()) <= set(names)
    assert not set(dialect.aliases) & set(names)
    assert not [name for name in names if name.startswith("-") or name.endswith("-") or "_" in name]


@pytest.mark.parametrize("dialect", EVERY)
def test_every_key_is_one_of_the_schema(dialect: Dialect) -> None:
    data: dict[str, Any] = {
        "model": "Qwen/Qwen3-14B",
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
        "workload": STAND_IN,
    }
    tree = from_mapping(data).model_dump()
    tree["engine"]["lora"] = {"max_loras": 1, "max_lora_rank": 16, "max_cpu_loras": 1, "target_modules": []}
    tree["engine"]["policy_options"] = policy_options(dialect.name)
    for name, flag in (dialect.keys | dialect.special).items():
        place: Any = tree
        for part in flag.path:
            assert isinstance(part, int) or part in place, f"--{name}: {flag.path}"
            place = place[part]


def policy_options(engine: str) -> dict[str, Any]:
    if engine != "sglang":
        return {}
    from tokensim.scheduling.local.sglang.options import Options

    return dict.fromkeys(Options.__dataclass_fields__)


def test_a_command_line_of_vllm_becomes_a_scenario() -> None:
    found = scenario(
        "vllm serve meta-llama/Llama-3.1-8B -tp 2 --max-num-seqs 128 --max_num_batched_tokens=8K "
        "--max-model-len 32k --no-enable-prefix-caching --kv-cache-dtype fp8 --gpu-memory-utilization .85 "
        "--cudagraph-capture-sizes 1 2 4 --enforce-eager=false --host 0.0.0.0"
    )
    assert found.cluster.pools[0].parallel.tensor == 2
    engine = found.engine
    assert (engine.max_num_seqs, engine.max_num_batched_tokens, engine.max_model_len) == (128, 8192, 32000)
    assert (engine.enable_prefix_caching, engine.kv_cache_dtype) == (False, "fp8")
    assert engine.gpu_memory_utilization == 0.85
    assert engine.cudagraph_capture_sizes == [1, 2, 4]
    assert not engine.enforce_eager


def test_words_and_one_text_mean_the_same() -> None:
    words = ["VLLM_USE_V1=1", "/opt/bin/vllm", "serve", "Qwen/Qwen3-14B", "--max-num-seqs", "9"]
    text = "VLLM_USE_V1=1 /opt/bin/vllm serve \\\n  Qwen/Qwen3-14B --max-num-seqs 9  # nine"
    assert translate(words) == translate([text])
    module = "python3 -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-14B --max-num-seqs 9"
    assert translate([module]).taken == translate([text]).taken


def test_what_is_not_in_the_scenario_is_told() -> None:
    found = translate(["HF_TOKEN=secret vllm serve m --api-key secret --port 80 -O3 --attention-backend X"])
    assert found.inert == ["--api-key", "--port"]
    assert [one.given for one in found.apart] == ["HF_TOKEN", "-O3", "--attention-backend X"]
    assert not found.taken


def test_values_that_may_be_secret_are_not_written_down() -> None:
    found = translate(["HF_TOKEN=secret vllm serve Qwen/Qwen3-14B --api-key=secret --hf-token secret"])
    assert "secret" not in as_yaml(document(found, "h100-sxm-80gb"), found)


def test_an_unknown_flag_is_refused_with_the_nearest_or_stands_apart() -> None:
    with pytest.raises(InputError, match=r"--max-num-seq'.*\n.*'--max-num-seqs'"):
        translate(["vllm serve m --max-num-seq 3"])
    found = translate(["vllm serve m --new-thing a b --max-num-seqs 3"], skip_unknown=True)
    assert [(one.given, one.why) for one in found.apart] == [("--new-thing a b", "it is not known")]
    assert found.taken[0].value == 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("docker compose up", "no command that starts a server"),
        ("vllm serve", "which model"),
        ("vllm serve one two", "no flag"),
        ("vllm serve m --max-num-seqs", "a value is missing"),
        ("vllm serve m --max-num-seqs --port 3", "a value is missing"),
        ("vllm serve m --enforce-eager=maybe", "neither true nor false"),
        ("vllm serve Qwen/Qwen3-14B --max-num-seqs 0", "--max-num-seqs 0: engine.max_num_seqs"),
        ("vllm serve Qwen/Qwen3-14B --max-num-seqs many", "must be a whole number"),
        ("vllm serve Qwen/Qwen3-14C", "Qwen3-14B"),
        ("sglang serve --model-path Qwen/Qwen3-14B --dp 2 --enable-dp-attention", "data-parallel attention"),
        ("vllm serve Qwen/Qwen3-14B --speculative-config 3", "--speculative-config: engine.speculative"),
    ],
)
def test_what_cannot_be_is_refused_by_name(command: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scenario(command)


@pytest.mark.parametrize(
    ("flags", "weights"),
    [
        ("--dtype half", "float16"),
        ("--dtype auto", None),
        ("--quantization fp8 --dtype bfloat16", "fp8"),
        ("-q awq", "auto"),
        ("-q bitsandbytes", None),
    ],
)
def test_weights_follow_from_quantization_or_dtype(flags: str, weights: str | None) -> None:
    assert said(f"vllm serve Qwen/Qwen3-14B {flags}").get("weights") == weights


def test_the_dtype_of_a_quantised_model_is_not_that_of_its_weights() -> None:
    found = translate(["vllm serve deepseek-ai/DeepSeek-V3 --dtype bfloat16"])
    assert not found.taken
    assert [one.given for one in found.apart] == ["--dtype bfloat16"]


def test_experts_are_spread_over_all_ranks() -> None:
    keys = said("vllm serve m -ep -tp 2 -dp 4")
    assert keys["cluster.pools.0.parallel.expert"] == 8


def test_speculation_keeps_what_is_simulated() -> None:
    text = '{"method": "eagle3", "model": "a/b", "num_speculative_tokens": 3, "max_model_len": 10}'
    found = translate(["vllm", "serve", "m", "--speculative-config", text])
    assert found.taken[0].value == {"method": "eagle3", "num_speculative_tokens": 3}
    assert [one.given for one in found.apart] == ["--speculative-config max_model_len"]
    dotted = "--speculative-config.method eagle3 --speculative-config.num_speculative_tokens 3"
    assert translate([f"vllm serve m {dotted}"]).taken == found.taken


def test_adapters_need_to_be_enabled() -> None:
    assert said("vllm serve m --enable-lora --max-loras 4")["engine.lora.max_loras"] == 4
    found = translate(["vllm serve m --max-loras 4"])
    assert not found.taken
    assert "--enable-lora" in found.apart[0].why


def test_an_offloading_size_is_a_tier_on_the_host() -> None:
    tiers = scenario("vllm serve Qwen/Qwen3-14B --kv-offloading-size 16").memory.tiers
    assert [(tier.kind, tier.capacity) for tier in tiers] == [("host", 16 * 2**30)]


def test_a_command_line_of_sglang_becomes_a_scenario() -> None:
    found = scenario(
        "python -m sglang.launch_server --model Qwen/Qwen3-14B --tp 2 --dp-size 3 --page-size 16 "
        "--max-total-tokens 64000 --chunked-prefill-size -1 --schedule-policy lpm --disable-radix-cache"
    )
    engine, (pool,) = found.engine, found.cluster.pools
    assert (engine.policy, pool.parallel.tensor, pool.replicas) == ("sglang", 2, 3)
    assert (engine.num_gpu_blocks, engine.block_size) == (4000, 16)
    assert not engine.enable_chunked_prefill
    assert not engine.enable_prefix_caching
    assert engine.policy_options == {"schedule_policy": "lpm"}


def test_a_command_line_of_tensorrt_llm_has_its_own_defaults() -> None:
    keys = said("trtllm-serve serve Qwen/Qwen3-14B --max_batch_size 64 --tp_size 2")
    assert keys["engine.max_num_seqs"] == 64
    assert keys["engine.max_num_batched_tokens"] == 8192
    assert scenario("trtllm-serve Qwen/Qwen3-14B").engine.policy == "trtllm"


def test_the_file_is_read_back_as_it_was_meant(tmp_path: Path) -> None:
    found = translate(["vllm serve Qwen/Qwen3-14B --max-num-seqs 7 --stream-interval 4"])
    whole = document(found, "h100-sxm-80gb", None, ["engine.version=0.23.0"])
    file = tmp_path / "mine.yaml"
    file.write_text(as_yaml(whole, found), encoding="utf-8")
    assert read_document(file).check() == whole.check()
    assert whole.check().engine.version == "0.23.0"


def test_the_traffic_is_that_of_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "traffic.yaml"
    file.write_text(
        "workload: {trace: {path: mine.csv}}\nslo: {ttft: 1s}\nmodel: another\n", encoding="utf-8"
    )
    found = translate(["vllm serve Qwen/Qwen3-14B"])
    whole = document(found, "h100-sxm-80gb", file).check()
    assert whole.workload.trace is not None
    assert Path(whole.workload.trace.path) == tmp_path / "mine.csv"
    assert (whole.slo.ttft, whole.model) == (1.0, "Qwen/Qwen3-14B")
