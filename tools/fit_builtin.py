"""Fits the shipped model ``builtin`` to the measured tables of aiconfigurator-core: writes its coefficients.

    python tools/fit_builtin.py [--tables FOLDER] [--output FILE] [--device ID ...] [--jobs N]

For each device, kind of operator and dtype: nonlinear least squares on the logarithm of the time, with a loss
that outliers do not bend (soft L1). Whole shapes are held out, not rows: of four parts of the shapes (n, k),
(heads, head size), (experts, widths, plan), each is predicted by a fit to the other three; the errors in the
file are of these predictions. The coefficients are of a last fit to all shapes. The same tables give the same
bytes. Needs scipy; takes about a quarter of an hour on two cores.

The table of errors in docs/builtin-model.md is written too, between its two markers.
"""

from __future__ import annotations

import argparse
import dataclasses
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml
from scipy.optimize import least_squares

from tokensim.cost.builtin.forms import FORMS, Form
from tokensim.cost.builtin.rates import fitted_dtypes, peak_dtype, weight_bytes
from tokensim.cost.tables import aiconfigurator
from tokensim.cost.tables.aiconfigurator import data_folder, read_aiconfigurator, systems
from tokensim.cost.tables.base import COLUMNS
from tokensim.cost.tables.versions import by_nearness
from tokensim.hardware import catalog_names, load_device
from tokensim.hardware.base import Device

Array = npt.NDArray[np.float64]

OUTPUT = Path(__file__).resolve().parent.parent / "src/tokensim/cost/builtin/coefficients.yaml"

DOCS = OUTPUT.parents[4] / "docs/builtin-model.md"

MARKERS = ("<!-- errors: written by tools/fit_builtin.py -->", "<!-- end of errors -->")

ENGINES = ("vllm", "sglang", "trtllm")
"""Whose measurements are taken: the first that has them (see ``HOST_BOUND_S``)."""

HOST_BOUND_S = 20e-6
"""A table of GEMMs whose fastest call takes longer was measured without CUDA graphs and shows the host's
launches, not the device (vLLM's fp8_block GEMMs: 57 to 300 µs whatever the shape): the next engine's is
taken, if there is one that is faster."""

PARTS = 4
"""Parts of the shapes that are held out in turn."""

SAMPLE = 6000
"""Rows of a fit, at most, drawn at random (seeded)."""

LOSS_SCALE = {"GemmForm": 0.1}
"""Relative error from which on the loss of a form grows linearly (others: ``USUAL_LOSS_SCALE``). A wide one
keeps sums right, a narrow one medians; that of GEMMs is wide, since a step sums many."""

USUAL_LOSS_SCALE = 0.05

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
class Range:
    """Where a coefficient starts, and its bounds; fitted as its logarithm unless ``linear``."""

    start: float
    low: float
    high: float
    linear: bool = False


_CACHE = {"cache_bytes": Range(2e7, 3e5, 4e8), "cache_speed": Range(1.0, 1e-4, 20.0)}
_SHARE = Range(0.7, 0.02, 1.3)

RANGES: dict[str, dict[str, Range]] = {
    "GemmForm": {
        "launch_s": Range(3e-6, 5e-7, 1e-3),
        "compute_share": Range(0.8, 0.02, 1.3),
        "memory_share": Range(0.85, 0.1, 1.3),
        "sharpness": Range(1.5, 0.05, 12.0),
        "edge_rows": Range(20.0, 0.1, 128.0),
        "edge_columns": Range(20.0, 0.1, 128.0),
        "edge_depth": Range(150.0, 0.1, 2000.0),
        "fill": Range(3.0, 1e-3, 1e3),
        "chain_s": Range(2e-9, 1e-13, 1e-7),
        "chain_steps": Range(1000.0, 16.0, 1e6),
        "row_s": Range(1e-10, 1e-13, 1e-7),
        "row_element_s": Range(1e-14, 1e-17, 1e-11),
        "sag": Range(0.1, 1e-3, 1.0),
        "sag_s": Range(1e-3, 5e-5, 3e-2),
        **_CACHE,
    },
    "ExpertsForm": {
        "launch_s": Range(2e-5, 3e-6, 1e-3),
        "compute_share": _SHARE,
        "memory_share": Range(0.8, 0.08, 1.3),
        "sharpness": Range(2.7, 0.05, 50.0),
        "edge_columns": Range(55.0, 0.1, 1500.0),
        "edge_depth": Range(55.0, 0.1, 2000.0),
        "tile_rows": Range(20.0, 1.0, 180.0),
        "expert_s": Range(1e-8, 1e-12, 1e-5),
        "choice_s": Range(1e-9, 1e-12, 1e-6),
        "element_s": Range(1e-12, 1e-16, 1e-10),
        "activation_traffic": Range(1.0, 0.05, 20.0),
        "hits_balanced": Range(1.2, 0.2, 3.0),
        "hits_mild": Range(0.8, 0.1, 3.0),
        "hits_strong": Range(0.7, 0.1, 3.0),
        "busiest_mild": Range(1.5, 1.0, 4.0),
        "busiest_strong": Range(1.8, 1.0, 5.0),
        "least_rows": Range(0.6, 0.02, 4.5),
        "width_growth": Range(0.0, -0.4, 0.4, linear=True),
        "cache_bytes": Range(2.4e7, 4e5, 3e8),
        "cache_speed": Range(1.0, 1e-4, 20.0),
    },
    "DecodeForm": {
        "launch_s": Range(1e-5, 2e-6, 1e-3),
        "split_s": Range(5e-7, 1e-9, 2e-5),
        "merge_s": Range(1e-6, 1e-8, 1e-4),
        "block_s": Range(2e-8, 1e-11, 1e-6),
        "block_growth": Range(0.3, -1.0, 2.0, linear=True),
        "walk_s": Range(1e-11, 1e-15, 1e-7),
        "lone_walk_s": Range(1e-10, 1e-15, 1e-7),
        "head_share": Range(0.05, 1e-4, 1.0),
        "compute_share": Range(0.6, 0.01, 3.0),
        "padded_heads": Range(3.0, 1e-3, 300.0),
        "sharpness": Range(2.0, 0.05, 20.0),
        "cache_bytes": Range(2e7, 3e5, 4e8),
        "cache_speed": Range(2.0, 1e-4, 20.0),
        "memory_share": Range(0.85, 0.05, 1.3),
    },
    "PrefillForm": {
        "launch_s": Range(1e-5, 2e-6, 1e-3),
        "block_s": Range(3e-8, 1e-11, 1e-6),
        "block_growth": Range(0.3, -1.0, 2.5, linear=True),
        "walk_s": Range(5e-9, 1e-12, 1e-6),
        "head_share": Range(0.05, 1e-4, 1.0),
        "memory_share": Range(0.8, 0.05, 1.3),
        "sharpness": Range(0.5, 1e-3, 20.0),
        "edge_tokens": Range(60.0, 0.1, 600.0),
        "window_tokens": Range(60.0, 1.0, 600.0),
        "cache_traffic": Range(1.5, 0.3, 60.0),
        **_CACHE,
        "compute_share": Range(0.6, 0.02, 1.5),
    },
    "StreamForm": {
        "launch_s": Range(2e-6, 3e-7, 1e-4),
        "memory_share": Range(0.8, 0.05, 1.3),
        **_CACHE,
    },
    "CollectiveForm": {
        "launch_s": Range(6e-6, 1e-6, 1e-3),
        "small_rate": Range(5e10, 1e8, 1e13),
        "large_rate": Range(3e11, 1e8, 1e13),
        "turn_bytes": Range(1e6, 1e3, 1e10),
    },
}
"""For each form, each coefficient; those by head size share one range."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Measurements of one kind and dtype: ``seconds``, the ``shape`` that each belongs to (held out as a
    whole), and what predicts them from a form (of some of the rows)."""

    seconds: Array
    shape: list[str]
    predict: Callable[[Any, npt.NDArray[np.int64]], Array]
    head_sizes: tuple[float, ...]
    source: str


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=Path, help="the wheel, unpacked (default: the installed package)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--device", action="append", help="only this catalog id (may be repeated)")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    chosen = [
        (device, system, options.tables)
        for device, system in devices(options.tables)
        if options.device is None or device.id in options.device
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        results = list(pool.map(fit_device, *zip(*chosen, strict=True)))
    release = data_folder(options.tables).parents[2]
    text = document(results, version_of(release))
    options.output.write_text(text, encoding="utf-8")
    if options.output == OUTPUT:
        page = DOCS.read_text(encoding="utf-8")
        DOCS.write_text(with_table(page, error_table(yaml.safe_load(text))), encoding="utf-8")


def version_of(folder: Path) -> str:
    """The version of aiconfigurator-core whose package lies in ``folder``."""
    found = sorted(folder.glob("aiconfigurator_core-*.dist-info"))
    return found[0].name.split("-")[1].removesuffix(".dist") if found else "of unknown version"


def devices(tables: Path | None) -> list[tuple[Device, str]]:
    """The devices with measurements and their names there, in the order of their ids."""
    known = systems(tables)
    found = [load_device(name) for name in catalog_names()]
    pairs = [(d, d.profiles["aiconfigurator"]) for d in found if "aiconfigurator" in d.profiles]
    return sorted(((d, system) for d, system in pairs if system in known), key=lambda pair: pair[0].id)


def fit_device(device: Device, system: str, tables: Path | None) -> tuple[Device, dict[str, dict[str, Any]]]:
    """All fits of one device: by kind, then dtype (or number of ranks)."""
    fits: dict[str, dict[str, Any]] = {}
    for kind, key, rows in measurements(device, system, tables):
        if len(set(rows.shape)) >= PARTS:
            fits.setdefault(kind, {})[key] = fit = fitted(kind, rows)
            print(f"{device.id} {kind} {key}: {fit['errors']} {rows.source}", flush=True)
    return device, fits


# The fit of one kind and dtype


def fitted(kind: str, rows: Rows) -> dict[str, Any]:
    """The coefficients of a fit to all rows, and its errors, those on held-out shapes first."""
    spec = Spec(FORMS[kind], rows.head_sizes)
    everything = np.arange(len(rows.seconds))
    best = solve(spec, rows, everything, spec.starts())
    form = spec.form(best)
    inside = np.abs(rows.predict(form, everything) / rows.seconds - 1.0)
    part = parts(rows.shape)
    outside = np.empty(len(everything))
    for one in range(PARTS):
        guess = spec.form(solve(spec, rows, everything[part != one], spec.starts()[:1], SAMPLE // 2))
        held = everything[part == one]
        outside[held] = np.abs(rows.predict(guess, held) / rows.seconds[held] - 1.0)
    return {
        "errors": [
            round(float(error), 3)
            for error in (np.median(outside), np.quantile(outside, 0.9), np.median(inside))
        ],
        "rows": len(everything),
        "source": rows.source,
        "values": [getattr(form, field.name) for field in dataclasses.fields(form)],
    }


def parts(shapes: Sequence[str]) -> npt.NDArray[np.int64]:
    """The part that each row's shape is in: parts of the same size, in an order that shapes do not show."""
    ordered = sorted(set(shapes), key=lambda shape: (zlib.crc32(shape.encode()), shape))
    part = {shape: i % PARTS for i, shape in enumerate(ordered)}
    return np.array([part[shape] for shape in shapes])


class Spec:
    """The coefficients of one form as a vector, and back."""

    def __init__(self, form: type[Form], head_sizes: tuple[float, ...]) -> None:
        self.type = form
        self.head_sizes = head_sizes
        self.slots: list[tuple[str, int, Range]] = []
        for field in dataclasses.fields(form):
            if field.name == "head_sizes":
                continue
            count = len(head_sizes) if "tuple" in str(field.type) else 1
            self.slots.append((field.name, count, RANGES[form.__name__][field.name]))

    def starts(self) -> list[Array]:
        """Where to start from: the middle of the ranges, and (forms with many minima) half and twice that."""
        middle = self._vector(lambda r: r.start)
        if self.type.__name__ in ("CollectiveForm", "StreamForm"):
            return [middle]
        low, high = self.bounds()
        return [middle, np.clip(0.5 * middle + 0.5 * (0.25 * low + 0.75 * high), low, high)]

    def bounds(self) -> tuple[Array, Array]:
        """The least and the largest vector."""
        return self._vector(lambda r: r.low), self._vector(lambda r: r.high)

    def form(self, vector: Array, digits: int | None = 3) -> Form:
        """The form with the coefficients in ``vector``, rounded to as many ``digits`` as the file keeps."""
        values: dict[str, Any] = {"head_sizes": self.head_sizes} if self.head_sizes else {}
        at = 0
        for name, count, range_ in self.slots:
            raw = [float(x if range_.linear else np.exp(x)) for x in vector[at : at + count]]
            numbers = raw if digits is None else [float(f"{x:.{digits}g}") for x in raw]
            by_size = name in values or (self.head_sizes and self._by_size(name))
            values[name] = tuple(numbers) if by_size else numbers[0]
            at += count
        return self.type(**values)

    def _by_size(self, name: str) -> bool:
        return any(f.name == name and "tuple" in str(f.type) for f in dataclasses.fields(self.type))

    def _vector(self, of: Callable[[Range], float]) -> Array:
        return np.array(
            [of(r) if r.linear else np.log(of(r)) for _, count, r in self.slots for _ in range(count)]
        )


def solve(
    spec: Spec, rows: Rows, some: npt.NDArray[np.int64], starts: Sequence[Array], sample: int = SAMPLE
) -> Array:
    """The coefficients that predict ``some`` of the rows best, from the best of ``starts``."""
    if len(some) > sample:
        some = np.sort(np.random.default_rng(0).choice(some, sample, replace=False))
    target = np.log(rows.seconds[some])

    def residual(vector: Array) -> Array:
        return np.asarray(np.log(rows.predict(spec.form(vector, None), some)) - target)

    solutions = [
        least_squares(
            residual,
            start,
            bounds=spec.bounds(),
            loss="soft_l1",
            f_scale=LOSS_SCALE.get(spec.type.__name__, USUAL_LOSS_SCALE),
            ftol=1e-6,
            xtol=1e-6,
            max_nfev=100,
        )
        for start in starts
    ]
    return np.asarray(min(solutions, key=lambda solution: float(solution.cost)).x)


# The measurements, kind by kind


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

            source = f"vllm {profile.version} and NCCL"
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
    for table in (one for one in aiconfigurator._TABLES if one.kind == kind):
        files = aiconfigurator._files(data_folder(tables), system, engine, table)
        for version in by_nearness("", files):
            frame = aiconfigurator._rows(files[version], table, engine)
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


# The file


def document(results: Sequence[tuple[Device, dict[str, dict[str, Any]]]], version: str) -> str:
    """The text of the coefficients' file."""
    lines = [
        "# Coefficients of the shipped model `builtin`; written by tools/fit_builtin.py, not by hand.",
        f"# Fitted to the measured tables of aiconfigurator-core {version} (Apache-2.0).",
        "# rows: measurements; errors: median and 90th percentile of the relative error on held-out shapes,",
        "# and the median on all; values: the fields of the form (forms.py), in their order:",
    ]
    for form in dict.fromkeys(FORMS.values()):
        names = ", ".join(field.name for field in dataclasses.fields(form))
        kinds = ", ".join(kind for kind, one in FORMS.items() if one is form)
        lines += _wrapped(f"#   {form.__name__} ({kinds}): {names}")
    lines += [f"source: aiconfigurator-core {version}", "devices:"]
    for device, fits in results:
        lines += [f" {device.id}:", f"  reference: {_reference(device)}", "  fits:"]
        for kind, by_key in fits.items():
            lines.append(f"   {kind}:")
            for key, fit in by_key.items():
                name = f'"{key}"' if key.isdigit() else key
                errors, values = (", ".join(map(_number, fit[part])) for part in ("errors", "values"))
                lines += [
                    f"    {name}: {{source: {fit['source']}, rows: {fit['rows']}, errors: [{errors}],",
                    f"     values: [{values}]}}",
                ]
    return "\n".join(lines) + "\n"


def error_table(tree: dict[str, Any]) -> str:
    """The errors of the file's ``tree`` as a Markdown table: a row a device, a column a family of kinds."""
    families = {
        "GEMM": ("gemm",),
        "prefill": ("prefill", "prefill_window"),
        "decode": ("decode", "decode_window"),
        "latent attention": ("prefill_latent", "decode_latent"),
        "experts": ("experts",),
        "elementwise": ("elementwise",),
        "collectives": ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"),
    }
    lines = ["| device | " + " | ".join(families) + " |", "|---|" + "---|" * len(families)]
    for device, body in tree["devices"].items():
        cells = []
        for kinds in families.values():
            fits = [fit for kind in kinds for fit in body["fits"].get(kind, {}).values()]
            weights = [fit["rows"] for fit in fits]
            cells.append(
                "none"
                if not fits
                else "{:.1f} ({:.0f})".format(
                    *(100 * np.average([fit["errors"][i] for fit in fits], weights=weights) for i in (0, 1))
                )
            )
        lines.append(f"| {device} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """``page`` with ``table`` between the two markers."""
    before, rest = page.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    return f"{before}{MARKERS[0]}\n\n{table}\n\n{MARKERS[1]}{after}"


def _wrapped(line: str) -> list[str]:
    words, out = line.split(" "), [""]
    for word in words:
        if len(out[-1]) + len(word) > 108:
            out.append("#    ")
        out[-1] += (" " if out[-1] else "") + word
    return out


def _reference(device: Device) -> str:
    low = device.efficiency.gemm_low_precision
    flops = {d: device.flops[d] for d in ("bfloat16", "fp8", "fp4") if d in device.flops}
    values: dict[str, Any] = {
        "architecture": device.architecture,
        "flops": "{" + ", ".join(f"{d}: {_number(v)}" for d, v in flops.items()) + "}",
        "bandwidth": device.memory_bandwidth_bytes_per_s,
        "link": device.intra_node.bandwidth_bytes_per_s,
        "gemm": device.efficiency.gemm,
        "gemm_low_precision": device.efficiency.gemm if low is None else low,
        "attention": device.efficiency.attention,
        "memory": device.efficiency.memory,
        "launch_s": device.efficiency.kernel_overhead_s,
    }
    return "{" + ", ".join(f"{k}: {v if isinstance(v, str) else _number(v)}" for k, v in values.items()) + "}"


def _number(value: float | tuple[float, ...]) -> str:
    """A number that YAML reads as one."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_number(one) for one in value) + "]"
    text = f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e+")
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


if __name__ == "__main__":
    main()
