"""``tokensim models``: the model catalog, or one model with its sizes and where its facts come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokensim.model import ModelSpec


def models(
    model: Annotated[
        str | None, typer.Argument(help="Catalog id or a Hugging Face config.json; without it, all.")
    ] = None,
) -> None:
    """List the models, or show one with its sizes."""
    from tokensim.cli.columns import columns
    from tokensim.model import catalog_names, load_model

    if model is not None:
        typer.echo(_details(load_model(model, where="models")))
        return
    rows = []
    for name in catalog_names():
        spec = load_model(name)
        rows.append(
            (
                name,
                _billions(spec.parameters),
                _billions(spec.active_parameters),
                f"{spec.weight_bytes() / 1e9:.1f}",
                f"{spec.kv_bytes_per_token() / 1024:.0f}",
                f"{spec.max_position:,}",
            )
        )
    titles = ("id", "parameters", "active", "weights GB", "KV KiB/token", "context")
    typer.echo(columns(titles, rows))


def _details(spec: ModelSpec) -> str:
    """The architecture and sizes of one model."""
    facts = [
        ("name", spec.name),
        ("family", spec.family),
        ("parameters", f"{_billions(spec.parameters)} ({_billions(spec.active_parameters)} active)"),
        ("layers", f"{spec.layers}, hidden {spec.hidden:,}, vocabulary {spec.vocab:,}"),
        ("attention", f"{spec.heads} heads over {spec.kv_heads} KV heads of {spec.head_dim}"),
        ("context", f"{spec.max_position:,} tokens"),
        ("weights", f"{spec.weight_bytes() / 1e9:.2f} GB as {spec.native_dtype}"),
        ("KV cache", f"{spec.kv_bytes_per_token():,.0f} bytes a token"),
        ("source", spec.source),
    ]
    if spec.window is not None:
        facts.insert(5, ("window", f"{spec.window:,} tokens in {spec.window_layers} layers"))
    if spec.moe is not None:
        facts.insert(5, ("experts", f"{spec.moe.top_k} of {spec.moe.experts} in {spec.moe.layers} layers"))
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts if value)


def _billions(parameters: int) -> str:
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"
