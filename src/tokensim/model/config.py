"""A Hugging Face ``config.json`` to a ``ModelSpec``; what is not understood is refused, never guessed.

Fields without influence on cost (``hidden_act``, token ids, initialisation) are ignored. A field that would
change the architecture in a way that TokenSim does not model is an ``InputError`` that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tokensim.errors import InputError, nearest
from tokensim.model import dtypes
from tokensim.model.base import ModelSpec
from tokensim.model.families import FAMILIES, Family
from tokensim.model.fields import Fields

_EXPERT_FIELDS = ("num_experts", "num_local_experts", "n_routed_experts")

_UNMODELLED = {
    "num_kv_shared_layers": "layers that share their KV cache",
    "hidden_size_per_layer_input": "per-layer embeddings",
    "linear_num_key_heads": "linear attention",
    "mamba_d_state": "state-space layers",
    "ssm_cfg": "state-space layers",
    "index_topk": "sparse attention",
    "cross_attention_layers": "cross-attention",
    "attn_output_gate": "gated attention",
    "alibi": "ALiBi positions",
}


def from_config(config: Mapping[str, Any], name: str, where: str) -> ModelSpec:
    """The model that ``config`` describes.

    ``name`` is what reports call it, ``where`` what errors call the config (a file, or a path in the
    scenario). Raises ``InputError`` naming the field for a missing or mistyped field, an unknown
    ``model_type`` or ``architectures``, and for anything that is not modelled.
    """
    return parse(config, name, where)[0]


def parse(config: Mapping[str, Any], name: str, where: str) -> tuple[ModelSpec, set[str]]:
    """``from_config``, and the names of the fields that were looked at."""
    if not isinstance(config, Mapping):
        raise InputError(f"must be a mapping of fields, got {type(config).__name__}", where=where)
    outer = Fields(config, where)
    family = _family(outer)
    nested = family.nested or (family.vision is not None and outer.get("text_config") is not None)
    inner = outer.section("text_config") if nested else outer
    if inner is None:
        raise outer.error(
            "text_config", "is missing", "the text decoder of a multimodal model is described there"
        )
    for fields in {id(f): f for f in (outer, inner)}.values():
        _refuse_unmodelled(fields, family)
    model = family.parse(inner)
    if family.vision is not None:
        tower = outer.section("vision_config")
        if tower is None:
            raise outer.error("vision_config", "is missing", "the vision tower is described there")
        model = replace(model, vision=family.vision(tower))
    model = replace(
        model,
        name=name,
        family=str(outer.config["model_type"]),
        max_position=_context(inner, model),
        native_dtype=_native_dtype(outer, inner),
        source=where,
    )
    return model, outer.read | inner.read


def _family(f: Fields) -> Family:
    """The family of ``model_type``, if its ``architectures`` is one that we know."""
    kind = f.text("model_type")
    if kind is None:
        raise f.error("model_type", "is missing", "known: " + ", ".join(sorted(FAMILIES)))
    if kind not in FAMILIES:
        hint = nearest(kind, FAMILIES)
        if f.get("auto_map") is not None:
            hint = "it runs its own code (auto_map), which cannot be read from a config; " + hint
        raise f.error("model_type", f"'{kind}' is not a known model type", hint)
    family = FAMILIES[kind]
    for architecture in f.items("architectures", str) or []:
        if architecture not in family.architectures:
            raise f.error(
                "architectures",
                f"'{architecture}' is not a model that {kind} is known to build",
                "known: " + ", ".join(family.architectures),
            )
    return family


def _refuse_unmodelled(f: Fields, family: Family) -> None:
    """Raise for fields that mean an architecture other than the family's."""
    if f.flag("is_encoder_decoder", False):
        raise f.error(
            "is_encoder_decoder", "encoder-decoder models are not modelled", "give a decoder-only model"
        )
    if not family.moe:
        for field in _EXPERT_FIELDS:
            if f.get(field) not in (None, 0, 1):
                raise f.error(field, f"{f.get(field)!r} experts in a model type without experts")
    if not family.mla and f.get("kv_lora_rank"):
        raise f.error("kv_lora_rank", "latent attention in a model type without it")
    for field, what in _UNMODELLED.items():
        if f.get(field):
            raise f.error(field, f"{f.get(field)!r} is not modelled: {what}")


def _context(f: Fields, model: ModelSpec) -> int:
    """The longest context, as vLLM derives it: stretched by the factor of ``rope_scaling``.

    Llama 3, LongRoPE and Gemma 3 give ``max_position_embeddings`` after stretching; YaRN counts from the
    original length (vllm/config/model.py, ``_get_and_verify_max_len``). Every kind of scaling costs the same.
    """
    rope = f.section("rope_scaling") or f.section("rope_parameters")
    if rope is None or model.family.startswith("gemma3"):
        return model.max_position
    kind = rope.text("rope_type") or rope.text("type")
    if kind not in ("yarn", "linear", "dynamic"):
        return model.max_position
    original = model.max_position
    if kind == "yarn":
        original = rope.integer("original_max_position_embeddings", original)
    return int(original * rope.number("factor", 1.0))


def _native_dtype(outer: Fields, inner: Fields) -> str:
    """The format of the published weights: that of ``quantization_config``, else of ``torch_dtype``."""
    quantised = outer.section("quantization_config") or inner.section("quantization_config")
    if quantised is not None:
        return _quantised_dtype(quantised)
    for f in (inner, outer):
        for field in ("dtype", "torch_dtype"):
            value = f.text(field)
            if value is not None and value not in dtypes.FULL_PRECISION:
                raise f.error(
                    field, f"'{value}' is not modelled", "known: " + ", ".join(dtypes.FULL_PRECISION)
                )
            if value is not None:
                # vLLM's "auto" serves float32 checkpoints in 16 bits
                return "float16" if value == "float16" else "bfloat16"
    return "bfloat16"


def _quantised_dtype(f: Fields) -> str:
    method = f.text("quant_method")
    if method in ("fp8", "mxfp4"):
        return method
    if method in ("gptq", "awq"):
        bits = f.integer("bits", 4)
        if bits not in (4, 8):
            raise f.error("bits", f"{bits}-bit weights are not modelled", "known: 4, 8")
        return f"int{bits}"
    if method == "modelopt":
        algorithm = f.text("quant_algo")
        if algorithm in ("FP8", "NVFP4"):
            return "fp8" if algorithm == "FP8" else "fp4"
        raise f.error("quant_algo", f"{algorithm!r} is not modelled", "known: FP8, NVFP4")
    if method == "compressed-tensors":
        return _compressed_dtype(f)
    raise f.error(
        "quant_method",
        f"{method!r} is not modelled",
        "known: fp8, mxfp4, gptq, awq, modelopt, compressed-tensors",
    )


def _compressed_dtype(f: Fields) -> str:
    """The one weight format of a compressed-tensors config."""
    groups = f.section("config_groups")
    found: set[tuple[str | None, int]] = set()
    for group in groups.config if groups else ():
        section = groups.section(group) if groups else None
        weights = section.section("weights") if section else None
        if weights is not None:
            found.add((weights.text("type"), weights.integer("num_bits")))
    known = {("float", 8): "fp8", ("int", 8): "int8", ("int", 4): "int4", ("float", 4): "fp4"}
    if len(found) != 1 or not found <= known.keys():
        raise f.error(
            "config_groups",
            f"weights of {sorted(map(str, found))} are not modelled",
            "known: one of int4, int8, fp8, fp4",
        )
    return known[found.pop()]  # type: ignore[index]
