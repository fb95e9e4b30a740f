"""What the shipped model is fitted to: the measured tables by kind, and what predicts them from a form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tokensim.cost.builtin.forms import FORMS
from tokensim.cost.builtin.rates import fitted_dtypes, peak_dtype, weight_bytes
from tokensim.cost.tables.aiconfigurator import data_folder, read_aiconfigurator, systems
from tokensim.cost.tables.base import COLUMNS
from tokensim.cost.tables.package import TABLES, files_of, rows_of
from tokensim.cost.tables.versions import by_nearness
from tokensim.hardware import catalog_names, load_device
from tokensim.hardware.base import Device

Array = npt.NDArray[np.float64]

ENGINES = ("vllm", "sglang", "trtllm")
"""Whose measurements are taken: the first that has them (see ``HOST_BOUND_S``)."""

HOST_BOUND_S = 20e-6
"""A table of GEMMs whose fastest call takes longer was measured without CUDA graphs and shows the host's
launches, not the device (vLLM's fp8_block GEMMs: 57 to 300 µs whatever the shape): the next engine's is
taken, if there is one that is faster."""
UNGATED = {(2688, 1856), (1024, 2688), (4096, 2688), (2048, 5120)}
"""(hidden, intermediate) of the experts in the tables that have two matrices, not three: Nemotron-H and its
successors (squared ReLU, no gate; their configurations on Hugging Face). The tables do not say it."""

SPREADS = {"balanced": 0, "power_law_1.01": 1, "power_law_1.2": 2}
"""Distributions of tokens over experts in the tables → the spread of ``ExpertsForm``."""

MLA_SIZES = {"decode_latent": (576 + 512) / 2, "prefill_latent": (192 + 128) / 2}
"""Mean head sizes that latent attention works on, in the geometry of DeepSeek-V3 (see ``tables.base``)."""

MLA_LATENT = 576  # numbers that one token takes in the cache: 512 + 64

QUANTISE_BYTES = 3  # an element in bfloat16 is read, its fp8 written (static_scaled_fp8_quant)

BACKENDS = {"custom_graph": 0, "nccl": 1, "oneccl": 2}
"""Who runs a collective, the preferred one first; not the engine's own outside a graph: it shows its host."""

KV_BYTES = {"bfloat16": 2.0, "fp8": 1.0}


@dataclass(frozen=True, slots=True)
class Rows:
    """Measurements of one kind and dtype: ``seconds``, the ``shape`` that each belongs to (held out as a
    whole), and what predicts them from a form (of some of the rows)."""

    seconds: Array
    shape: list[str]
    predict: Callable[[Any, npt.NDArray[np.int64]], Array]
    head_sizes: tuple[float, ...]
    source: str


def devices(tables: Path | None) -> list[tuple[Device, str]]:
    """The devices with measurements and their names there, in the order of their ids."""
    known = systems(tables)
    found = [load_device(name) for name in catalog_names()]
    pairs = [(d, d.profiles["aiconfigurator"]) for d in found if "aiconfigurator" in d.profiles]
    return sorted(((d, system) for d, system in pairs if system in known), key=lambda pair: pair[0].id)


def measurements(device: Device, system: str, tables: Path | None) -> Iterator[tuple[str, str, Rows]]:
    """Everything measured on one device that has a form: (kind, dtype or ranks, rows)."""
    yield from _row_kinds(device, system, tables)
    for latent, (prefill, decode) in {
        False: ("prefill_attention", "decode_attention"),
        True: ("mla_prefill", "mla_decode"),
    }.items():
        for dtype in KV_BYTES:
            for kind, name in ((prefill, "prefill"), (decode, "decode")):
                yield from _attention(device, system, tables, kind, name, dtype, latent)
    yield from _streams(device, system, tables)
    yield from _collectives(system, tables)


def _row_kinds(device: Device, system: str, tables: Path | None) -> Iterator[tuple[str, str, Rows]]:
    for kind, build in (("gemm", _gemm), ("experts", _experts)):
        for dtype in fitted_dtypes():
            only = {"dtype": dtype}
            frame, source = best_table(system, kind, only, tables)
            if (kind, dtype) == ("gemm", "bfloat16"):
                frame, source = median_table(system, kind, only, ["m", "n", "k"], tables)
            peak = peak_dtype(dtype, device)
            if frame is not None and peak is not None:
                yield kind, dtype, build(frame, source, dtype, device.flops[peak], device)


def _gemm(frame: pl.DataFrame, source: str, dtype: str, flop_rate: float, device: Device) -> Rows:
    m, n, k = columns(frame, "m", "n", "k")
    byte_rate = device.memory_bandwidth_bytes_per_s

    def predict(form: Any, some: npt.NDArray[np.int64]) -> Array:
        return np.asarray(form.seconds(m[some], n[some], k[some], weight_bytes(dtype), flop_rate, byte_rate))

    return Rows(seconds(frame), shapes(frame, "n", "k"), predict, (), source)


def _experts(frame: pl.DataFrame, source: str, dtype: str, flop_rate: float, device: Device) -> Rows:
    frame = frame.filter(pl.col("distribution").is_in(list(SPREADS)))
    hidden, intermediate, experts, top_k, tensor, expert, tokens = columns(
        frame, "hidden", "intermediate", "experts", "top_k", "tensor", "expert", "tokens"
    )
    ungated = [pair in UNGATED for pair in frame.select("hidden", "intermediate").iter_rows()]
    gemms = np.where(ungated, 2.0, 3.0)
    spread = frame["distribution"].replace_strict(SPREADS).to_numpy()
    byte_rate = device.memory_bandwidth_bytes_per_s
    given = (tokens, hidden, intermediate / tensor, gemms, top_k, experts / expert, expert, spread)

    def predict(form: Any, some: npt.NDArray[np.int64]) -> Array:
        taken = (column[some] for column in given)
        return np.asarray(form.seconds(*taken, weight_bytes(dtype), flop_rate, byte_rate))

    shape = shapes(frame, "hidden", "intermediate", "experts", "top_k", "tensor", "expert")
    return Rows(seconds(frame), shape, predict, (), source)


def _attention(
    device: Device, system: str, tables: Path | None, kind: str, name: str, dtype: str, latent: bool
) -> Iterator[tuple[str, str, Rows]]:
    only = {"kv_dtype": dtype, "part": "kernel"} if latent else {"kv_dtype": dtype}
    frame, source = best_table(system, kind, only, tables)
    if frame is None:
        return
    if kind == "decode_attention":  # the reader compares the same kernel's times under several engines
        version = source.split(" ")[1]
        profile = read_aiconfigurator(system, source.split(" ")[0], version, kinds=[kind], root=tables)
        known = frame.drop("seconds")
        frame = profile.tables[kind].join(known, on=known.columns, how="semi")
    if latent:
        size = MLA_SIZES[f"{name}_latent"]
        frame = frame.with_columns(kv_heads=pl.lit(1), head_dim=pl.lit(size), window=pl.lit(0))
        if name == "prefill":  # expanded: every head has keys and values of its own
            frame = frame.with_columns(kv_heads=pl.col("heads"))
    for suffix, some in (
        ("_latent" if latent else "", pl.col("window") == 0),
        ("_window", pl.col("window") > 0),
    ):
        part = frame.filter(some)
        if not part.is_empty():
            yield f"{name}{suffix}", dtype, _attention_rows(part, source, device, name, dtype, latent)


def _attention_rows(
    frame: pl.DataFrame, source: str, device: Device, name: str, dtype: str, latent: bool
) -> Rows:
    heads, kv_heads, size, window, batch = columns(frame, "heads", "kv_heads", "head_dim", "window", "batch")
    window = np.where(window > 0, window, np.inf)
    token_bytes = 2.0 * kv_heads * size * KV_BYTES[dtype]
    if latent and name == "decode":
        token_bytes = np.full_like(size, MLA_LATENT * KV_BYTES[dtype])
    rates = (device.flops["bfloat16"], device.memory_bandwidth_bytes_per_s)
    if name == "decode":
        context = np.minimum(columns(frame, "context")[0], window)

        def predict(form: Any, some: npt.NDArray[np.int64]) -> Array:
            given = (batch, context, heads, kv_heads, size, token_bytes)
            return np.asarray(form.seconds(*(column[some] for column in given), *rates))
    else:
        tokens, cached = columns(frame, "tokens", "cached")

        def predict(form: Any, some: npt.NDArray[np.int64]) -> Array:
            new, old, wide = tokens[some], cached[some], window[some]
            pairs = form.pairs(new, old, wide) * batch[some]
            longest = np.minimum(new + old, wide + form.window_tokens)
            law = form.law(*(column[some] for column in (heads, kv_heads, size, token_bytes)), *rates)
            reads = batch[some] * np.minimum(new + old, wide + new)
            return np.asarray(law.seconds(pairs, batch[some] * new, reads, batch[some], longest))

    sizes = tuple(sorted(set(size.tolist())))
    return Rows(
        seconds(frame), shapes(frame, "heads", "kv_heads", "head_dim", "window"), predict, sizes, source
    )


def _streams(device: Device, system: str, tables: Path | None) -> Iterator[tuple[str, str, Rows]]:
    """Elementwise kernels: the quantisation of activations to fp8 by a scale known before."""
    files = sorted(data_folder(tables).glob(f"{system}/quantize/vllm/*/scale_matrix_perf.parquet"))
    if not files:
        return
    frame = pl.read_parquet(files[-1]).filter(pl.col("kernel_source") == "static_scaled_fp8_quant")
    frame = frame.select("m", "k", seconds=pl.col("latency") / 1e3)
    if frame.is_empty():
        return
    m, k = columns(frame, "m", "k")

    def predict(form: Any, some: npt.NDArray[np.int64]) -> Array:
        size = QUANTISE_BYTES * m[some] * k[some]
        return np.asarray(form.seconds(size, device.memory_bandwidth_bytes_per_s))

    version = files[-1].parent.name
    yield "elementwise", "bfloat16", Rows(seconds(frame), shapes(frame, "k"), predict, (), f"vllm {version}")


def _collectives(system: str, tables: Path | None) -> Iterator[tuple[str, str, Rows]]:
    """The engine's own all-reduce in a CUDA graph (which hands large buffers to its library); the library's
    other collectives, and its all-reduce where the engine's was not measured so."""
    profile = read_aiconfigurator(system, "vllm", kinds=["collective"], root=tables)
    frame = profile.tables.get("collective")
    if frame is None:
        return
    best = pl.col("backend").replace_strict(BACKENDS, default=len(BACKENDS))
    frame = frame.with_columns(best=best).filter(pl.col("best") < len(BACKENDS))
    frame = frame.filter(pl.col("best") == pl.col("best").min().over("collective", "ranks"))
    frame = frame.sort("collective", "ranks", "bytes")
    for (name, ranks), part in sorted(frame.group_by("collective", "ranks"), key=lambda item: str(item[0])):
        if str(name) in FORMS:
            (size,) = columns(part, "bytes")

            def predict(form: Any, some: npt.NDArray[np.int64], size: Array = size) -> Array:
                return np.asarray(form.seconds(size[some]))

            source = f"vllm {profile.version}"
            yield str(name), str(ranks), Rows(seconds(part), shapes(part, "bytes"), predict, (), source)


def best_table(
    system: str, kind: str, only: dict[str, str], tables: Path | None
) -> tuple[pl.DataFrame | None, str]:
    """The rows of ``kind`` with the values in ``only``, of the first engine that has them and is not bound by
    its host, in the newest version that has them; and the engine and version."""
    found: list[tuple[pl.DataFrame, str]] = []
    for engine in ENGINES:
        for frame, version in _table(system, engine, kind, tables):
            frame = frame.filter(pl.col(column) == value for column, value in only.items())
            if not frame.is_empty():
                found.append((frame, version))
                break
    quick = [one for one in found if kind != "gemm" or float(seconds(one[0]).min()) < HOST_BOUND_S]
    chosen: list[tuple[pl.DataFrame | None, str]] = [*quick, *found, (None, "")]
    return chosen[0]


def median_table(
    system: str, kind: str, only: dict[str, str], shape: list[str], tables: Path | None
) -> tuple[pl.DataFrame | None, str]:
    """The median of all engines' times of each ``shape``, each engine in its newest version: 16-bit GEMMs are
    the same calls of the same library, and differ by what its heuristics picked."""
    found = []
    for engine in ENGINES:
        for frame, version in _table(system, engine, kind, tables)[:1]:
            frame = frame.filter(pl.col(column) == value for column, value in only.items())
            if not frame.is_empty():
                found.append((frame.select(*shape, "seconds"), version))
    if not found:
        return None, ""
    frame = pl.concat(frame for frame, _ in found)
    medians = frame.group_by(shape).agg(pl.col("seconds").median()).sort(shape)
    return medians, "median of " + " / ".join(version for _, version in found)


@cache
def _table(system: str, engine: str, kind: str, tables: Path | None) -> list[tuple[pl.DataFrame, str]]:
    """The rows of ``kind`` of one engine, a table a version, the newest first."""
    found = []
    for table in (one for one in TABLES if one.kind == kind):
        files = files_of(data_folder(tables), system, engine, table)
        for version in by_nearness("", files):
            frame = rows_of(files[version], table, engine)
            frame = frame.select(*COLUMNS[kind], "seconds").sort(list(COLUMNS[kind]))
            found.append((frame, f"{engine} {version}"))
    return found


def columns(frame: pl.DataFrame, *names: str) -> list[Array]:
    """Columns as arrays of floats."""
    return [frame[name].cast(pl.Float64).to_numpy() for name in names]


def seconds(frame: pl.DataFrame) -> Array:
    """The measured times."""
    return frame["seconds"].to_numpy()


def shapes(frame: pl.DataFrame, *names: str) -> list[str]:
    """The shape of each row, as text."""
    return (
        frame.select(pl.concat_str([pl.col(n).cast(pl.String) for n in names], separator=" "))
        .to_series()
        .to_list()
    )
