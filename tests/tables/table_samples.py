"""Small sources of measured tables in every format, with numbers that are easy to check by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from tokensim.cost.tables.base import COLUMNS, Profile

MS = 1e-3
US = 1e-6


def write_aic(root: Path, path: str, rows: list[dict[str, Any]]) -> Path:
    """A parquet file of aiconfigurator-core's layout under ``root``."""
    file = root / "systems" / "data" / f"{path}_perf.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(file)
    return file


def aic_gemm(m: int, ms: float, *, dtype: str = "bfloat16", kernel: str = "a", n: int = 64) -> dict[str, Any]:
    return {"kernel_source": kernel, "gemm_dtype": dtype, "m": m, "n": n, "k": 32, "latency": ms}


def aiconfigurator(root: Path) -> Path:
    """One system, two engines: GEMMs of two versions, attention, experts, collectives. Times in ms."""
    write_aic(root, "h100_sxm/gemm/vllm/0.24.0/gemm", [aic_gemm(1, 0.01), aic_gemm(8, 0.02)])
    write_aic(
        root,
        "h100_sxm/gemm/vllm/0.14.0/gemm",
        [aic_gemm(1, 0.05), aic_gemm(1, 0.03, dtype="fp8"), aic_gemm(2, 0.04, dtype="sq")],
    )
    write_aic(root, "h100_sxm/gemm/trtllm/1.3.0rc20/gemm", [aic_gemm(1, 0.02)])
    attention = {
        "kernel_source": "fa3",
        "batch_size": 4,
        "num_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attn_dtype": "bfloat16",
        "kv_cache_dtype": "bfloat16",
        "window_size": 0,
    }
    folder = "h100_sxm/attention/vllm/0.24.0"
    write_aic(root, f"{folder}/context_attention", [{**attention, "isl": 512, "step": 256, "latency": 0.2}])
    write_aic(
        root, f"{folder}/generation_attention", [{**attention, "isl": 1, "step": 1023, "latency": 0.05}]
    )
    all_reduce = {"op_name": "all_reduce", "num_gpus": 8, "message_size": 1024}
    write_aic(
        root,
        "h100_sxm/comm/vllm/0.24.0/custom_allreduce",
        [
            {**all_reduce, "kernel_source": "vLLM_custom_graph", "latency": 0.004},
            {**all_reduce, "kernel_source": "vLLM_custom_eager", "latency": 0.02},
            {**all_reduce, "kernel_source": "TRTLLM", "latency": 0.003},
        ],
    )
    to_all = {"kernel_source": "NCCL", "op_name": "alltoall", "num_gpus": 8, "message_size": 512}
    write_aic(
        root,
        "h100_sxm/comm/nccl/2.27.3/nccl",
        [
            {**to_all, "nccl_dtype": "half", "latency": 0.007},
            {**to_all, "nccl_dtype": "int8", "latency": 0.006},
        ],
    )
    return root


def llmservingsim(root: Path, *, model: str = "meta-llama/Llama-3.1-8B", tensor: int = 1) -> Path:
    """One profile of ``model`` on an RTX 4090. Times in µs."""
    folder = root / "RTX4090" / model / "bf16" / f"tp{tensor}"
    folder.mkdir(parents=True)
    (folder.parent / "meta.yaml").write_text(
        f"hardware: RTX4090\nmodel: {model}\nvllm_version: 0.19.0\nvariant: bf16\n", encoding="utf-8"
    )
    files = {
        "dense.csv": "layer,tokens,time_us\nqkv_proj,1,55\nqkv_proj,16,60\n",
        "per_sequence.csv": "layer,sequences,time_us\nlm_head,1,1100\n",
        "attention.csv": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n"
        "0,0,2,512,20\n16,64,2,512,35.5\n",
        "skew.csv": "regime,n,nb,ratio,skew,pc,kp,kvs,kv_big,kv_mean,t_mean_us,t_max_us,t_skew_us,alpha\n"
        "pure,2,1,0.5,4.0,0,0,128,512,320,50,60,52,0.2\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return root


def vidur(root: Path) -> Path:
    """One profile of a small model on an A100, and its node's network. Times in ms."""
    folder = root / "data" / "profiling" / "compute" / "a100" / "meta-llama" / "Meta-Llama-3-8B"
    folder.mkdir(parents=True)
    shape = "n_head,n_kv_head,n_embd,n_expanded_embd,vocab_size,use_gated_mlp,num_tokens"
    (folder / "mlp.csv").write_text(
        f"time_stats.mlp_up_proj.median,time_stats.attn_pre_proj.median,time_stats.add.median,{shape},"
        "num_tensor_parallel_workers\n"
        "0.2,0.1,0.0,32,8,4096,14336,128256,True,16,2\n",
        encoding="utf-8",
    )
    (folder / "attention.csv").write_text(
        "time_stats.attn_input_reshape.median,time_stats.attn_decode.median,time_stats.attn_prefill.median,"
        "n_embd,n_q_head,n_kv_head,num_tensor_parallel_workers,batch_size,prefill_chunk_size,kv_cache_size,"
        "is_prefill\n"
        "0.001,0.015,,4096,32,8,2,4,0,1023,False\n"
        "0.001,,0.5,4096,32,8,2,1,512,256,True\n",
        encoding="utf-8",
    )
    network = root / "data" / "profiling" / "network" / "a100_dgx"
    network.mkdir(parents=True)
    (network / "all_reduce.csv").write_text(
        ",time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node,max_devices_per_node\n"
        "0,0.05,0,2,2048,all_reduce,1,8\n1,0.02,0,2,2048,all_reduce,2,8\n2,0.04,1,2,2048,all_reduce,2,8\n",
        encoding="utf-8",
    )
    return root


def row(kind: str, seconds: float = 1e-5, **given: Any) -> dict[str, Any]:
    """A row of ``kind`` in canonical columns: 1 and ``x`` where nothing is given."""
    blanks = {"str": "x", "int": 1, "float": 1e-5}
    return {**{name: blanks[type_] for name, type_ in COLUMNS[kind].items()}, "seconds": seconds, **given}


def profile(**tables: list[dict[str, Any]]) -> Profile:
    """A profile of an H100 under vLLM with these rows."""
    return Profile(
        device="h100-sxm-80gb",
        engine="vllm",
        version="0.24.0",
        source="by hand",
        tables={
            kind: pl.DataFrame(rows, schema_overrides=schema(kind)).select([*COLUMNS[kind], "seconds"])
            for kind, rows in tables.items()
        },
        provenance={"licence": "none"},
        notes=("noted",),
    )


def schema(kind: str) -> dict[str, Any]:
    types = {"str": pl.String, "int": pl.Int64, "float": pl.Float64}
    return {name: types[type_] for name, type_ in COLUMNS[kind].items()}
