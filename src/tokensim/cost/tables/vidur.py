"""Reader of Vidur's profiling layout: ``compute/<device>/<model>/*.csv`` and ``network/<node>/*.csv``.

Times in milliseconds, columns ``time_stats.<operation>.median`` (github.com/microsoft/vidur, data/profiling):

- ``mlp.csv``, a row a number of tokens and tensor-parallel degree → ``layer`` for every operation, under the
  names that the other sources use, and ``gemm`` for the four projections, whose shapes follow from the row;
- ``attention.csv`` → ``prefill_attention`` and ``decode_attention``; an attention call is what Vidur adds up:
  reshaping, saving to the cache, and attention itself;
- ``all_reduce.csv`` and ``send_recv.csv``, ``size`` in bytes → ``collective``, within one node.

Vidur profiles in 16-bit floats with the kernels of Sarathi-Serve, a fork of vLLM.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.cost.tables.base import Profile, checked
from tokensim.cost.tables.files import normalised, read_csv
from tokensim.errors import InputError

if TYPE_CHECKING:
    import polars as pl

KINDS = ("gemm", "prefill_attention", "decode_attention", "collective", "layer")

DTYPE = "float16"
ENGINE = "sarathi-serve"

_LAYERS = {
    "emb": "embedding",
    "input_layernorm": "layernorm",
    "post_attention_layernorm": "layernorm",
    "attn_pre_proj": "qkv_proj",
    "attn_rope": "rotary_emb",
    "attn_post_proj": "o_proj",
    "mlp_up_proj": "gate_up_proj",
    "mlp_act": "act_fn",
    "mlp_down_proj": "down_proj",
    "add": "add",
}
"""Vidur's operations, and the names of the layers (those of vLLM's modules; ``add`` is the residual)."""

_AROUND_ATTENTION = ("attn_input_reshape", "attn_kv_cache_save", "attn_output_reshape")
_NETWORK = {"all_reduce.csv": "all_reduce", "send_recv.csv": "send_recv"}
_SECONDS_PER_MS = 1e-3


@dataclass(frozen=True, slots=True)
class Found:
    """One profile: the ``folder`` of ``model`` on ``device``, and the ``network`` folders of such devices."""

    folder: Path
    device: str
    model: str
    network: tuple[Path, ...]


def find_vidur(root: Path) -> list[Found]:
    """The profiles at ``root`` or below, in order of their path.

    ``root`` may be ``data/profiling``, any folder above it, or one below ``compute``. A network belongs to
    the devices whose name its own starts with (``a100_dgx`` to ``a100``).
    """
    found = []
    for file in sorted({*root.rglob("mlp.csv"), *root.rglob("attention.csv")}):
        parts = file.parent.parts
        if "compute" not in parts:
            continue
        at = len(parts) - 1 - parts[::-1].index("compute")
        if len(parts) < at + 3:  # compute/<device>/<model, of one part or two>
            continue
        device = parts[at + 1]
        nodes = sorted(Path(*parts[:at], "network").glob("*/"))
        one = Found(
            folder=file.parent,
            device=device,
            model="/".join(parts[at + 2 :]),
            network=tuple(node for node in nodes if normalised(node.name).startswith(normalised(device))),
        )
        if one not in found:
            found.append(one)
    return found


def read_vidur(found: Found, *, kinds: Collection[str] | None = None, device: str | None = None) -> Profile:
    """The tables of one profile; only the files of the wanted ``kinds`` (default: all) are opened.

    Rows of 0 ms (below the timer's microsecond) and, of collectives, those across nodes are left out, and
    counted in the notes. ``device`` is the name for the profile (default: the folder's). Raises
    ``InputError`` for an unreadable or impossible table.
    """
    import polars as pl

    wanted = set(KINDS if kinds is None else kinds)
    frames: list[tuple[str, Path, pl.DataFrame]] = []
    notes: list[str] = []
    mlp, attention = found.folder / "mlp.csv", found.folder / "attention.csv"
    if wanted & {"gemm", "layer"} and mlp.is_file():
        layers = _layers(mlp, found.model)
        if "layer" in wanted:
            frames.append(("layer", mlp, layers))
        if "gemm" in wanted:
            frames.append(("gemm", mlp, layers.filter(pl.col("n").is_not_null())))
    if wanted & {"prefill_attention", "decode_attention"} and attention.is_file():
        calls = _attention(attention, notes)
        for kind, prefill in (("prefill_attention", True), ("decode_attention", False)):
            rows = calls.filter(pl.col("is_prefill") == prefill)
            if kind in wanted and not rows.is_empty():
                frames.append((kind, attention, rows))
    if "collective" in wanted:
        files = [node / name for node in found.network for name in _NETWORK if (node / name).is_file()]
        if files:
            rows = pl.concat([_collective(file, notes) for file in files], how="vertical_relaxed")
            frames.append(("collective", files[0].parent, rows))
    tables = {}
    for kind, file, frame in frames:
        timed = frame.with_columns(seconds=pl.col("ms") * _SECONDS_PER_MS)
        kept = timed.filter(pl.col("seconds") != 0)
        if kept.height < timed.height:
            notes.append(f"{kind}: {timed.height - kept.height} rows of 0 ms left out")
        tables[kind], said = checked(kind, kept, str(file))
        notes += said
    return Profile(
        device=device or found.device,
        engine=ENGINE,
        version="",
        source=f"Vidur profile {found.device}/{found.model}",
        tables=tables,
        provenance={"model": found.model, "network": ", ".join(node.name for node in found.network)},
        notes=tuple(notes),
    )


def _layers(file: Path, model: str) -> pl.DataFrame:
    """One row an operation: its time (ms), and its GEMM's shape where it is one."""
    import polars as pl

    shape = ("n_head", "n_kv_head", "n_embd", "n_expanded_embd", "use_gated_mlp")
    wide = read_csv(file, (*shape, "num_tokens", "num_tensor_parallel_workers"))
    operations = [name for name in _LAYERS if f"time_stats.{name}.median" in wide.columns]
    if not operations:
        raise InputError(
            "no times", where=str(file), hint="expected columns such as time_stats.mlp_up_proj.median"
        )
    ranks = pl.col("num_tensor_parallel_workers")
    hidden, width = pl.col("n_embd"), pl.col("n_expanded_embd") // ranks
    head = pl.col("n_embd") // pl.col("n_head")
    # K and V heads are repeated where there are fewer than ranks
    kv_heads = pl.max_horizontal(pl.col("n_kv_head") // ranks, pl.lit(1))
    shapes = {
        "attn_pre_proj": ((pl.col("n_head") // ranks + 2 * kv_heads) * head, hidden),
        "attn_post_proj": (hidden, pl.col("n_head") // ranks * head),
        "mlp_up_proj": (width * (1 + pl.col("use_gated_mlp").cast(pl.Int64)), hidden),
        "mlp_down_proj": (hidden, width),
    }
    nothing = (pl.lit(None, pl.Int64), pl.lit(None, pl.Int64))
    return pl.concat(
        wide.select(
            model=pl.lit(model),
            tensor=ranks,
            layer=pl.lit(_LAYERS[name]),
            rows="num_tokens",
            dtype=pl.lit(DTYPE),
            n=shapes.get(name, nothing)[0],
            k=shapes.get(name, nothing)[1],
            m="num_tokens",
            ms=_median(file, wide, name),
        ).drop_nulls("ms")
        for name in operations
    )


def _attention(file: Path, notes: list[str]) -> pl.DataFrame:
    """One row a call, prefill or decode (``is_prefill``), with its time (ms)."""
    import polars as pl

    sizes = ("n_embd", "n_q_head", "n_kv_head", "num_tensor_parallel_workers")
    calls = read_csv(file, (*sizes, "batch_size", "prefill_chunk_size", "kv_cache_size", "is_prefill"))
    if "is_mixed_batch" in calls.columns:
        mixed = calls.filter(pl.col("is_mixed_batch"))
        if not mixed.is_empty():
            notes.append(f"attention: {mixed.height} rows of mixed batches left out")
            calls = calls.filter(~pl.col("is_mixed_batch"))
    ranks = pl.col("num_tensor_parallel_workers")
    around = [name for name in _AROUND_ATTENTION if f"time_stats.{name}.median" in calls.columns]
    own = (
        pl.when(pl.col("is_prefill"))
        .then(_median(file, calls, "attn_prefill"))
        .otherwise(_median(file, calls, "attn_decode"))
    )
    return calls.select(
        "is_prefill",
        kv_dtype=pl.lit(DTYPE),
        heads=pl.col("n_q_head") // ranks,
        kv_heads=pl.max_horizontal(pl.col("n_kv_head") // ranks, pl.lit(1)),
        head_dim=pl.col("n_embd") // pl.col("n_q_head"),
        window=pl.lit(0, pl.Int64),
        batch="batch_size",
        tokens="prefill_chunk_size",
        cached="kv_cache_size",
        context=pl.col("kv_cache_size") + 1,  # the cached ones and the one that is decoded
        ms=own
        + pl.sum_horizontal(pl.lit(0.0), *(_median(file, calls, name).fill_null(0) for name in around)),
    )


def _collective(file: Path, notes: list[str]) -> pl.DataFrame:
    """The rows of one collective within a node, with its time (ms); a call has a row a rank."""
    import polars as pl

    name = _NETWORK[file.name]
    rows = read_csv(file, ("num_workers", "size", "devices_per_node"))
    within = rows.filter(pl.col("devices_per_node") == pl.col("num_workers"))
    if within.height < rows.height:
        notes.append(
            f"{file.parent.name}/{file.name}: {rows.height - within.height} rows across nodes left out"
        )
    return within.select(
        collective=pl.lit(name),
        backend=pl.lit("nccl"),
        ranks="num_workers",
        bytes="size",
        ms=_median(file, rows, name),
    )


def _median(file: Path, frame: pl.DataFrame, operation: str) -> pl.Expr:
    """The median time of an operation, as numbers; raises ``InputError`` if its column is not there."""
    import polars as pl

    name = f"time_stats.{operation}.median"
    if name not in frame.columns:
        raise InputError(
            f"missing column '{name}'", where=str(file), hint="it has " + ", ".join(frame.columns)
        )
    dtype = frame[name].dtype
    if not dtype.is_numeric() and frame[name].null_count() < frame.height:
        raise InputError(f"column '{name}' holds {dtype}, not numbers", where=str(file))
    return pl.col(name).cast(pl.Float64, strict=False)
