"""Reading what others measured: each format's columns, units and conventions."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import table_samples as samples
from table_samples import MS, US, aic_gemm, write_aic

from tokensim.cost.tables.aiconfigurator import read_aiconfigurator, systems, versions
from tokensim.cost.tables.llmservingsim import find_llmservingsim, read_llmservingsim
from tokensim.cost.tables.versions import by_nearness, version_key
from tokensim.cost.tables.vidur import find_vidur, read_vidur
from tokensim.errors import InputError


def rows(frame: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    return frame.select(columns).rows()


# ---- versions


def test_pre_releases_come_before_and_post_releases_after_their_release() -> None:
    known = ["1.3.0", "1.3.0rc9", "1.3.0rc20", "1.3.0.post1", "1.2.9", "0.1.dev5+gabc"]
    assert sorted(known, key=version_key) == [
        "0.1.dev5+gabc",
        "1.2.9",
        "1.3.0rc9",
        "1.3.0rc20",
        "1.3.0",
        "1.3.0.post1",
    ]


@pytest.mark.parametrize(
    ("wanted", "first"),
    [("", "0.24.0"), ("0.19.0", "0.20.0"), ("0.33.0", "0.24.0"), ("0.14.1", "0.14.0"), ("0.22.0", "0.24.0")],
)
def test_the_nearest_version_is_first_and_the_newer_of_two_as_near(wanted: str, first: str) -> None:
    assert by_nearness(wanted, ["0.14.0", "0.24.0", "0.20.0"])[0] == first


# ---- aiconfigurator-core


def test_16_bit_gemms_of_other_engines_are_read_of_their_newest_version(tmp_path: Path) -> None:
    root = samples.aiconfigurator(tmp_path)
    write_aic(root, "h100_sxm/gemm/sglang/0.4.0/gemm", [aic_gemm(1, 0.09)])
    write_aic(root, "h100_sxm/gemm/sglang/0.5.0/gemm", [aic_gemm(1, 0.03), aic_gemm(1, 0.01, dtype="fp8")])
    profile = read_aiconfigurator("h100_sxm", "vllm", root=root)
    elsewhere = profile.tables["gemm_elsewhere"]
    assert rows(elsewhere, "engine", "dtype", "m") == [("sglang", "bfloat16", 1), ("trtllm", "bfloat16", 1)]
    assert elsewhere["seconds"].to_list() == pytest.approx([0.03 * MS, 0.02 * MS])
    assert "gemm_elsewhere (gemm): sglang 0.5.0, trtllm 1.3.0rc20" in profile.notes
    alone = read_aiconfigurator("h100_sxm", "vllm", root=root, kinds=["gemm"])
    assert set(alone.tables) == {"gemm"}


def test_milliseconds_become_seconds_and_columns_canonical(tmp_path: Path) -> None:
    tables = read_aiconfigurator("h100_sxm", "vllm", root=samples.aiconfigurator(tmp_path)).tables
    assert rows(tables["prefill_attention"], "heads", "kv_heads", "batch", "tokens", "cached", "seconds") == [
        (32, 8, 4, 512, 256, 0.2 * MS)
    ]
    assert rows(tables["decode_attention"], "batch", "context", "seconds") == [(4, 1024, 0.05 * MS)]


def test_messages_count_elements_of_two_bytes_and_backends_are_named(tmp_path: Path) -> None:
    tables = read_aiconfigurator("h100_sxm", "vllm", root=samples.aiconfigurator(tmp_path)).tables
    assert rows(tables["collective"], "collective", "backend", "ranks", "bytes", "seconds") == [
        ("all_reduce", "custom_eager", 8, 2048, pytest.approx(0.02 * MS)),
        ("all_reduce", "custom_graph", 8, 2048, pytest.approx(0.004 * MS)),
        ("all_to_all", "nccl", 8, 1024, pytest.approx(0.007 * MS)),
    ]


def test_the_nearest_version_is_taken_and_filled_from_the_next_by_dtype(tmp_path: Path) -> None:
    root = samples.aiconfigurator(tmp_path)
    new = read_aiconfigurator("h100_sxm", "vllm", "0.33.0", root=root, kinds=["gemm"])
    assert rows(new.tables["gemm"], "dtype", "m", "seconds") == [
        ("bfloat16", 1, 0.01 * MS),
        ("bfloat16", 8, 0.02 * MS),
        ("fp8", 1, 0.03 * MS),
        ("int8", 2, 0.04 * MS),
    ]
    assert new.version == "0.24.0"
    assert new.notes == ("gemm (gemm): version 0.24.0; from 0.14.0 what it lacks",)
    old = read_aiconfigurator("h100_sxm", "vllm", "0.15.0", root=root, kinds=["gemm"])
    assert old.version == "0.14.0"
    assert old.tables["gemm"].filter(dtype="bfloat16")["seconds"].to_list() == [0.05 * MS]


def test_the_fastest_kernel_of_a_shape_is_kept_and_the_median_of_its_repeats(tmp_path: Path) -> None:
    repeats = [aic_gemm(1, ms, kernel="slow") for ms in (0.5, 0.5, 0.1)]
    fast = [aic_gemm(1, ms, kernel="fast") for ms in (0.2, 0.3, 0.9)]
    write_aic(tmp_path, "b60/gemm/vllm/0.26.0/gemm", [*repeats, *fast])
    table = read_aiconfigurator("b60", "vllm", root=tmp_path).tables["gemm"]
    assert table["seconds"].to_list() == [0.3 * MS]


def test_only_the_files_of_the_wanted_kinds_are_opened(tmp_path: Path) -> None:
    root = samples.aiconfigurator(tmp_path)
    bad = write_aic(root, "h100_sxm/moe/vllm/0.24.0/moe", [{"num_tokens": 1}])
    assert list(read_aiconfigurator("h100_sxm", "vllm", root=root, kinds=["gemm"]).tables) == ["gemm"]
    with pytest.raises(InputError, match="missing columns 'moe_dtype'") as refused:
        read_aiconfigurator("h100_sxm", "vllm", root=root)
    assert refused.value.where == str(bad)


def test_any_level_of_the_package_may_be_given(tmp_path: Path) -> None:
    root = samples.aiconfigurator(tmp_path)
    for level in (root, root / "systems", root / "systems" / "data"):
        assert systems(level) == {"h100_sxm": ["trtllm", "vllm"]}
    assert versions("h100_sxm", "vllm", root)["gemm"] == ["0.24.0", "0.14.0"]


def test_unknown_systems_and_engines_get_what_is_there(tmp_path: Path) -> None:
    root = samples.aiconfigurator(tmp_path)
    with pytest.raises(InputError, match="did you mean 'h100_sxm'"):
        read_aiconfigurator("h100", "vllm", root=root)
    with pytest.raises(InputError, match="measured there: trtllm, vllm"):
        read_aiconfigurator("h100_sxm", "sglang", root=root)
    with pytest.raises(InputError, match="no tables of aiconfigurator-core here"):
        systems(tmp_path / "systems" / "data" / "h100_sxm")


@pytest.mark.parametrize(
    ("rows_", "says"),
    [
        ([aic_gemm(1, -1.0)], "column 'seconds' is -0.001 in row 1"),
        ([aic_gemm(1, 1e9)], "another unit"),
        ([{**aic_gemm(1, 1.0), "latency": "1 ms"}], "cannot be read"),
    ],
)
def test_bad_tables_of_the_package_are_refused(
    tmp_path: Path, rows_: list[dict[str, object]], says: str
) -> None:
    file = write_aic(tmp_path, "b60/gemm/vllm/0.26.0/gemm", rows_)
    with pytest.raises(InputError, match=says) as refused:
        read_aiconfigurator("b60", "vllm", root=tmp_path)
    assert refused.value.where == str(file)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    file = write_aic(tmp_path, "b60/gemm/vllm/0.26.0/gemm", [aic_gemm(1, 1.0)])
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_aiconfigurator("b60", "vllm", root=tmp_path)


# ---- LLMServingSim


def test_microseconds_become_seconds_and_the_model_gives_the_heads(tmp_path: Path) -> None:
    (found,) = find_llmservingsim(samples.llmservingsim(tmp_path, tensor=2))
    profile = read_llmservingsim(found)
    assert (profile.device, profile.engine, profile.version) == ("RTX4090", "vllm", "0.19.0")
    mixed = profile.tables["mixed_attention"]
    assert rows(mixed, "heads", "kv_heads", "head_dim", "tokens", "cached", "decodes", "context") == [
        (16, 4, 128, 0, 0, 2, 512),
        (16, 4, 128, 16, 64, 2, 512),
    ]
    assert mixed["seconds"].to_list() == pytest.approx([20 * US, 35.5 * US])
    assert rows(profile.tables["layer"], "model", "dtype", "tensor", "layer", "rows") == [
        ("meta-llama/Llama-3.1-8B", "bfloat16", 2, "lm_head", 1),
        ("meta-llama/Llama-3.1-8B", "bfloat16", 2, "qkv_proj", 1),
        ("meta-llama/Llama-3.1-8B", "bfloat16", 2, "qkv_proj", 16),
    ]
    skewed = profile.tables["skewed_attention"]
    assert rows(skewed, "decodes", "context", "longest") == [(2, 320, 512)]
    times = rows(skewed, "mean_seconds", "seconds", "longest_seconds")[0]
    assert times == pytest.approx((50 * US, 52 * US, 60 * US))


@pytest.mark.parametrize(("switch", "kept"), [("true", True), ("false", False)])
def test_the_skew_of_a_profile_counts_where_its_own_switch_says_so(
    tmp_path: Path, switch: str, kept: bool
) -> None:
    (found,) = find_llmservingsim(samples.llmservingsim(tmp_path))
    with (found.folder.parent / "meta.yaml").open("a", encoding="utf-8") as meta:
        meta.write(f"skew_fit:\n  enabled: {switch}\n")
    profile = read_llmservingsim(found)
    assert ("skewed_attention" in profile.tables) == kept
    assert any("skew correction switched off" in note for note in profile.notes) != kept


def test_any_level_of_the_folders_may_be_given(tmp_path: Path) -> None:
    root = samples.llmservingsim(tmp_path)
    samples.llmservingsim(root, model="Qwen/Qwen3-8B", tensor=2)
    assert [found.model for found in find_llmservingsim(root)] == ["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B"]
    (found,) = find_llmservingsim(root)[1:]
    for level in (found.folder, found.folder.parent, found.folder.parents[1]):
        assert find_llmservingsim(level) == [found]


def test_experts_have_the_shape_of_the_model_and_the_activated_number(tmp_path: Path) -> None:
    (found,) = find_llmservingsim(samples.llmservingsim(tmp_path, model="Qwen/Qwen3-30B-A3B"))
    (found.folder / "moe.csv").write_text("tokens,activated_experts,time_us\n4,32,70\n", encoding="utf-8")
    table = read_llmservingsim(found, kinds=["experts"]).tables["experts"]
    assert rows(table, "hidden", "intermediate", "experts", "top_k", "tensor", "expert", "tokens") == [
        (2048, 768, 128, 8, 1, 1, 4)
    ]
    assert rows(table, "distribution", "activated") == [("given", 32)]


def test_experts_of_a_model_without_any_are_refused(tmp_path: Path) -> None:
    (found,) = find_llmservingsim(samples.llmservingsim(tmp_path))
    (found.folder / "moe.csv").write_text("tokens,activated_experts,time_us\n4,32,70\n", encoding="utf-8")
    with pytest.raises(InputError, match="has none"):
        read_llmservingsim(found)


def test_an_unknown_model_needs_its_config_beside_the_profile(tmp_path: Path) -> None:
    (found,) = find_llmservingsim(samples.llmservingsim(tmp_path, model="us/Ours-1B"))
    with pytest.raises(InputError, match=r"put the model's config.json beside meta.yaml"):
        read_llmservingsim(found)
    assert list(read_llmservingsim(found, kinds=["layer"]).tables) == ["layer"]
    (found.folder.parent / "config.json").write_text(
        '{"model_type": "llama", "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 64,'
        '"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4, "vocab_size": 1000,'
        '"max_position_embeddings": 4096}',
        encoding="utf-8",
    )
    mixed = read_llmservingsim(found).tables["mixed_attention"]
    assert rows(mixed.head(1), "heads", "kv_heads", "head_dim") == [(16, 2, 64)]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("dense.csv", "layer,tokens,time\nact_fn,1,2\n", "missing column 'time_us'"),
        ("dense.csv", "layer,tokens,time_us\nact_fn,1,fast\n", "column 'time_us' holds String"),
        ("dense.csv", "layer,tokens,time_us\nact_fn,1,\n", "holds String, not numbers"),
        ("dense.csv", "layer,tokens,time_us\nact_fn,1,\nact_fn,2,5\n", "column 'seconds' is empty in 1 of"),
        ("attention.csv", "", "cannot be read"),
        (
            "skew.csv",
            "n,pc,kp,kv_mean,kv_big,t_mean_us,t_max_us,t_skew_us\n2,0,0,3,4,5,-6,7\n",
            "longest_sec",
        ),
    ],
)
def test_bad_csv_files_are_refused_with_their_place(tmp_path: Path, file: str, text: str, says: str) -> None:
    (found,) = find_llmservingsim(samples.llmservingsim(tmp_path))
    (found.folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as refused:
        read_llmservingsim(found)
    assert str(found.folder) in str(refused.value.where)


def test_the_measured_profiles_are_read_whole(shared: Path) -> None:
    found = {(f.hardware, f.model, f.tensor): f for f in find_llmservingsim(shared / "profiles")}
    assert len(found) >= 4
    profile = read_llmservingsim(found["RTX4090", "meta-llama/Llama-3.1-8B", 1])
    lm_head = profile.tables["layer"].filter(layer="lm_head", rows=1)
    assert lm_head["seconds"].to_list() == [pytest.approx(1096.93e-6)]
    assert profile.tables["mixed_attention"].height > 8_000


# ---- Vidur


def test_projections_get_their_shapes_and_layers_the_common_names(tmp_path: Path) -> None:
    (found,) = find_vidur(samples.vidur(tmp_path))
    assert (found.device, found.model) == ("a100", "meta-llama/Meta-Llama-3-8B")
    profile = read_vidur(found)
    assert rows(profile.tables["gemm"], "dtype", "n", "k", "m", "seconds") == [
        ("float16", 3072, 4096, 16, 0.1 * MS),  # (16 + 2 · 4) heads of 128
        ("float16", 14336, 4096, 16, 0.2 * MS),  # gate and up, halved
    ]
    assert rows(profile.tables["layer"], "layer", "tensor", "rows") == [
        ("gate_up_proj", 2, 16),
        ("qkv_proj", 2, 16),
    ]
    assert "layer: 1 rows of 0 ms left out" in profile.notes


def test_an_attention_call_counts_what_surrounds_it(tmp_path: Path) -> None:
    (found,) = find_vidur(samples.vidur(tmp_path))
    tables = read_vidur(found).tables
    assert rows(
        tables["decode_attention"], "heads", "kv_heads", "head_dim", "batch", "context", "seconds"
    ) == [(16, 4, 128, 4, 1024, pytest.approx(0.016 * MS))]
    assert rows(tables["prefill_attention"], "batch", "tokens", "cached", "seconds") == [
        (1, 512, 256, pytest.approx(0.501 * MS))
    ]


def test_collectives_are_those_within_a_node(tmp_path: Path) -> None:
    (found,) = find_vidur(samples.vidur(tmp_path))
    profile = read_vidur(found, kinds=["collective"])
    assert rows(profile.tables["collective"], "collective", "ranks", "bytes", "seconds") == [
        ("all_reduce", 2, 2048, pytest.approx(0.03 * MS))
    ]
    assert "a100_dgx/all_reduce.csv: 1 rows across nodes left out" in profile.notes


def test_a_table_of_vidur_without_times_is_refused(tmp_path: Path) -> None:
    (found,) = find_vidur(samples.vidur(tmp_path))
    file = found.folder / "mlp.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("time_stats", "stats"), encoding="utf-8")
    with pytest.raises(InputError, match="no times"):
        read_vidur(found)
