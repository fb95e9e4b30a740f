"""Reader of LLMServingSim's operator profiles: ``<hardware>/<model>/<dtype>/tp<N>/*.csv``, ``meta.yaml``.

Measured through vLLM with one layer of the model, eager, tensor parallelism emulated on one GPU (so without
collectives), times in microseconds (LLMServingSim 2, github.com/casys-kaist/LLMServingSim):

- ``dense.csv`` (layer, tokens) and ``per_sequence.csv`` (layer, sequences) → ``layer``, under their names;
- ``attention.csv`` → ``mixed_attention``: one call with chunks of ``prefill_chunk`` new tokens in all after
  ``kv_prefill`` cached ones, and ``n_decode`` decodes at a mean context of ``kv_decode``;
- ``skew.csv`` → ``skewed_attention``: ``nb`` of ``n`` decodes have the context ``kv_big``, the others
  ``kvs``; beside it the times when all have the mean context (``t_mean_us``) or the longest (``t_max_us``);
- ``moe.csv`` → ``experts``: the number of experts that the tokens hit was set.

``skew_fit.csv``, LLMServingSim's own fit to ``skew.csv``, is not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.cost.tables.base import Profile, checked
from tokensim.cost.tables.files import read_csv, read_mapping
from tokensim.errors import InputError
from tokensim.model import ModelSpec, load_model

if TYPE_CHECKING:
    import polars as pl

KINDS = ("mixed_attention", "skewed_attention", "experts", "layer")

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "bfloat16": "bfloat16", "float16": "float16", "fp8": "fp8"}
_SECONDS_PER_US = 1e-6
_PROVENANCE: tuple[str, ...] = (
    "gpu",
    "model",
    "variant",
    "vllm_version",
    "cuda_version",
    "profiler_version",
    "profiled_at",
)


@dataclass(frozen=True, slots=True)
class Found:
    """One profile: ``folder`` holds the files of ``model`` at ``dtype`` and ``tensor`` on ``hardware``.

    ``version`` is that of vLLM, empty where it is not known.
    """

    folder: Path
    hardware: str
    model: str
    dtype: str
    tensor: int
    version: str


def find_llmservingsim(root: Path) -> list[Found]:
    """The profiles at ``root`` or below, in order of their path; ``root`` may be any level, ``tp<N>`` too."""
    metas = sorted(root.rglob("meta.yaml"))
    if root.name.startswith("tp") and (root.parent / "meta.yaml").is_file():
        metas = [root.parent / "meta.yaml"]
    found = []
    for meta in metas:
        for folder in sorted(meta.parent.glob("tp*"), key=lambda path: (len(path.name), path.name)):
            if root.name.startswith("tp") and folder != root:
                continue
            if (folder / "dense.csv").is_file() and folder.name[2:].isdigit():
                facts = _read_meta(meta)
                dtype = str(facts.get("variant", meta.parent.name))
                found.append(
                    Found(
                        folder=folder,
                        hardware=str(facts["hardware"]),
                        model=str(facts["model"]),
                        dtype=_DTYPES.get(dtype, dtype),
                        tensor=int(folder.name[2:]),
                        version=str(facts.get("vllm_version", "")),
                    )
                )
    return found


def read_llmservingsim(
    found: Found, *, kinds: Collection[str] | None = None, device: str | None = None
) -> Profile:
    """The tables of one profile; only the files of the wanted ``kinds`` (default: all) are opened.

    The numbers of heads and experts come from the model's configuration: of the catalog, or a ``config.json``
    beside ``meta.yaml``. ``device`` is the name for the profile (default: the folder's). Raises
    ``InputError`` for an unreadable or impossible table and for a model that nobody describes.
    """
    meta = _read_meta(found.folder.parent / "meta.yaml")
    wanted = set(KINDS if kinds is None else kinds)
    tables: dict[str, pl.DataFrame] = {}
    notes: list[str] = []
    if not _corrects_skew(meta) and (found.folder / "skew.csv").is_file():
        wanted.discard("skewed_attention")
        notes.append(
            "skew.csv: not read, as the profile's own meta.yaml has its skew correction switched off"
        )
    for kind, frame in _frames(found, wanted):
        tables[kind], said = checked(kind, frame, str(found.folder))
        notes += said
    left_out = sorted(file.name for file in found.folder.glob("skew_fit.csv"))
    if left_out:
        notes.append(f"{', '.join(left_out)}: a fit to skew.csv, not read")
    provenance = {key: str(meta[key]) for key in _PROVENANCE if key in meta}
    return Profile(
        device=device or found.hardware,
        engine="vllm",
        version=found.version,
        source=f"LLMServingSim profile {found.hardware}/{found.model}, TP{found.tensor}",
        tables=tables,
        provenance=provenance,
        notes=tuple(notes),
    )


def _corrects_skew(meta: Mapping[str, Any]) -> bool:
    """Whether the profile is meant to be used with its skew correction (``skew_fit: {enabled: true}``)."""
    fit = meta.get("skew_fit")
    return not (isinstance(fit, Mapping) and fit.get("enabled") is False)


def _frames(found: Found, wanted: set[str]) -> list[tuple[str, pl.DataFrame]]:
    """The tables of the wanted kinds, in canonical columns, unchecked."""
    import polars as pl

    frames = []
    folder = found.folder
    if "layer" in wanted:
        parts = [
            _read(folder / file, ("layer", rows, "time_us")).rename({rows: "rows"})
            for file, rows in (("dense.csv", "tokens"), ("per_sequence.csv", "sequences"))
            if file == "dense.csv" or (folder / file).is_file()
        ]
        layers = pl.concat(parts, how="vertical_relaxed").with_columns(
            model=pl.lit(found.model), dtype=pl.lit(found.dtype), tensor=pl.lit(found.tensor, pl.Int64)
        )
        frames.append(("layer", layers))
    readers = {"mixed_attention": _mixed, "skewed_attention": _skewed, "experts": _experts}
    files = {"mixed_attention": "attention.csv", "skewed_attention": "skew.csv", "experts": "moe.csv"}
    for kind, reader in readers.items():
        if kind in wanted and (folder / files[kind]).is_file():
            frames.append((kind, reader(folder / files[kind], _model(found), found)))
    return [(kind, frame.with_columns(seconds=pl.col("time_us") * _SECONDS_PER_US)) for kind, frame in frames]


def _mixed(file: Path, model: ModelSpec, found: Found) -> pl.DataFrame:
    names = {"prefill_chunk": "tokens", "kv_prefill": "cached", "n_decode": "decodes", "kv_decode": "context"}
    return _with_heads(_read(file, (*names, "time_us")).rename(names), model, found)


def _skewed(file: Path, model: ModelSpec, found: Found) -> pl.DataFrame:
    import polars as pl

    names = {"n": "decodes", "pc": "tokens", "kp": "cached", "kv_mean": "context", "kv_big": "longest"}
    names |= {"t_skew_us": "time_us"}
    frame = _read(file, (*names, "t_mean_us", "t_max_us")).rename(names)
    frame = frame.with_columns(
        pl.col("context").round().cast(pl.Int64),  # a mean of whole contexts
        mean_seconds=pl.col("t_mean_us") * _SECONDS_PER_US,
        longest_seconds=pl.col("t_max_us") * _SECONDS_PER_US,
    )
    return _with_heads(frame, model, found)


def _experts(file: Path, model: ModelSpec, found: Found) -> pl.DataFrame:
    import polars as pl

    if model.moe is None:
        raise InputError(
            f"times of experts for {found.model}, which has none", where=str(file), hint="check meta.yaml"
        )
    return _read(file, ("tokens", "activated_experts", "time_us")).select(
        "tokens",
        "time_us",
        pl.col("activated_experts").alias("activated"),
        dtype=pl.lit(found.dtype),
        hidden=pl.lit(model.hidden, pl.Int64),
        intermediate=pl.lit(model.moe.intermediate, pl.Int64),
        experts=pl.lit(model.moe.experts, pl.Int64),
        top_k=pl.lit(model.moe.top_k, pl.Int64),
        tensor=pl.lit(found.tensor, pl.Int64),
        expert=pl.lit(1, pl.Int64),
        distribution=pl.lit("given"),
    )


def _with_heads(frame: pl.DataFrame, model: ModelSpec, found: Found) -> pl.DataFrame:
    """``frame`` with the attention heads of one rank (KV heads are copied if there are fewer than ranks)."""
    import polars as pl

    return frame.with_columns(
        kv_dtype=pl.lit("bfloat16" if found.dtype == "fp8" else found.dtype),  # fp8 weights, 16-bit cache
        heads=pl.lit(model.heads // found.tensor, pl.Int64),
        kv_heads=pl.lit(max(1, model.kv_heads // found.tensor), pl.Int64),
        head_dim=pl.lit(model.head_dim, pl.Int64),
    )


def _model(found: Found) -> ModelSpec:
    """The model's shapes, from a ``config.json`` beside ``meta.yaml`` or the catalog."""
    config = found.folder.parent / "config.json"
    where = f"{found.folder.parent / 'meta.yaml'}: model"
    try:
        return load_model(config if config.is_file() else found.model, where)
    except InputError as error:
        raise InputError(
            error.message, where=where, hint="put the model's config.json beside meta.yaml"
        ) from None


def _read_meta(file: Path) -> dict[str, Any]:
    """The facts of a ``meta.yaml``, with the model and the hardware at least."""
    return read_mapping(
        file, ("hardware", "model"), "an LLMServingSim profile names its hardware and model there"
    )


def _read(file: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """The columns of a CSV."""
    return read_csv(file, columns, texts=("layer",)).select(columns)
