"""A model cut into pipeline stages, each a model of its own with some of the layers.

The first stage has the embeddings, the last one the final norm and the LM head.
"""

from __future__ import annotations

from dataclasses import replace

from tokensim.errors import InputError
from tokensim.model.base import ModelSpec, MoE


def layer_split(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each stage, as vLLM deals them: alike, and what is left over to the stages before the last,
    one each from the back, since the last one has the LM head (``vllm/distributed/utils.py``,
    ``get_pp_indices``)."""
    each, left = divmod(layers, stages)
    split = [each] * stages
    for place in range(2, left + 2):
        split[-place] += 1
    return tuple(split)


def stage_models(
    model: ModelSpec, stages: int, split: tuple[int, ...] | None = None, where: str = "parallel"
) -> tuple[ModelSpec, ...]:
    """``model`` as ``stages`` models, of ``split`` layers (None: as vLLM deals them).

    Which layers have experts or a sliding window is known by number only: dense layers of a model of experts
    come first (``first_k_dense_replace``) if they are fewer than a quarter, else they alternate; windows and
    rotary layers alternate. Raises ``InputError`` at ``where.pipeline`` if there are more stages than layers.
    """
    if stages == 1:
        return (model,)
    if stages > model.layers:
        raise InputError(
            f"{stages} stages for {model.layers} layers ({model.name or model.family})",
            where=f"{where}.pipeline",
            hint=f"at most {model.layers}",
        )
    split = split or layer_split(model.layers, stages)
    parts, first = [], 0
    for number, layers in enumerate(split):
        last = first + layers
        parts.append(
            replace(
                model,
                layers=layers,
                moe=_experts(model, first, last),
                window_layers=_spread(model.window_layers, model.layers, first, last),
                rotary_layers=_spread(model.rotary_layers, model.layers, first, last),
                has_embedding=number == 0,
                has_head=number == stages - 1,
            )
        )
        first = last
    return tuple(parts)


def _experts(model: ModelSpec, first: int, last: int) -> MoE | None:
    """The expert layers among layers ``first`` to ``last``."""
    moe = model.moe
    if moe is None:
        return None
    dense = model.dense_layers
    if 4 * dense < model.layers:
        return replace(moe, layers=max(0, last - max(first, dense)))
    return replace(moe, layers=_spread(moe.layers, model.layers, first, last))


def _spread(some: int, layers: int, first: int, last: int) -> int:
    """How many of ``some`` layers, spread evenly over all ``layers``, lie in ``first`` to ``last``."""
    return some * last // layers - some * first // layers
