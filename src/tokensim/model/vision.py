"""The vision tower of a multimodal model: a transformer over patches, whose output stands in the prompt as
tokens.

Modelled as its operators (GEMMs, attention, norms, activations) on all patches of the images of a step. A
patch is a row; ``merge`` patches make one token of the prompt. Modelled: Qwen2.5-VL (arXiv:2502.13923,
section 2.1), after ``vllm/model_executor/models/qwen2_5_vl.py``. Not modelled: decoding and resizing of the
picture on the host, and what its exact side lengths would pad.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokensim.model import dtypes
from tokensim.model.fields import Fields
from tokensim.model.operators import Attention, Collective, Elementwise, Gemm, Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTower:
    """``layers`` layers of width ``hidden`` with gated FFNs of width ``intermediate``, biases in all of them.

    A patch has ``patch_inputs`` numbers; ``merge`` patches become one vector of ``out_hidden`` by two
    matrices. ``window_layers`` layers attend within windows of ``window`` patches, the others to the whole
    image; nothing is causal.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    patch_inputs: int
    merge: int
    out_hidden: int
    window: int
    window_layers: int

    @property
    def parameters(self) -> int:
        """All parameters: embedding of patches, layers, merger."""
        h, f, merged = self.hidden, self.intermediate, self.hidden * self.merge
        attention = h * 3 * h + 3 * h + h * h + h
        ffn = 2 * (h * f + f) + f * h + h
        merger = h + merged * merged + merged + merged * self.out_hidden + self.out_hidden
        return self.patch_inputs * h + self.layers * (2 * h + attention + ffn) + merger


def qwen2_5_vision(f: Fields) -> VisionTower:
    """``vision_config`` of Qwen2.5-VL; defaults of its configuration class in transformers 4.57."""
    patch, depth = f.integer("patch_size", 14), f.integer("depth", 32)
    merge = f.integer("spatial_merge_size", 2)
    whole = f.items("fullatt_block_indexes", int)
    if whole is None:
        whole = [7, 15, 23, 31]
    return VisionTower(
        layers=depth,
        hidden=f.integer("hidden_size", 3584),
        intermediate=f.integer("intermediate_size", 3420),
        heads=f.integer("num_heads", 16),
        patch_inputs=f.integer("in_channels", f.integer("in_chans", 3))
        * f.integer("temporal_patch_size", 2)
        * patch**2,
        merge=merge**2,
        out_hidden=f.integer("out_hidden_size", 3584),
        window=(f.integer("window_size", 112) // patch) ** 2,
        window_layers=depth - len([layer for layer in whole if layer < depth]),
    )


def vision_operators(tower: VisionTower, activation_dtype: str, tensor: int = 1) -> list[Operator]:
    """Every operator of the tower on one of ``tensor`` ranks, whose rows are patches.

    The merger runs on every fourth row (``merge``): its matrices are written as what they cost a patch. A
    window of ``window`` patches is priced as a sliding one of that length: a patch sees as many others.
    """
    x = dtypes.BYTES[dtypes.weight_dtype(activation_dtype)]
    n, h, width = tower.layers, tower.hidden, tower.intermediate // tensor
    heads, dim = max(1, tower.heads // tensor), tower.hidden // tower.heads
    merged = h * tower.merge
    ops: list[Operator] = [
        Gemm("patch_embedding", h, tower.patch_inputs, 1, activation_dtype),
        Elementwise("vision_norm", 4 * h * x, 2 * n),
        Gemm("vision_qkv", 3 * heads * dim, h, n, activation_dtype),
        Elementwise("vision_rotary", 4 * heads * dim * x, n),
    ]
    for name, layers, window in (
        ("vision_attention", n - tower.window_layers, None),
        ("vision_attention_window", tower.window_layers, tower.window),
    ):
        ops.append(
            Attention(
                name=name,
                heads=heads,
                kv_heads=heads,
                qk_dim=dim,
                v_dim=dim,
                kv_bytes_per_token=2 * heads * dim * x,
                count=layers,
                window=window,
                causal=window is not None,
            )
        )
    ops += [
        Gemm("vision_o", h, heads * dim, n, activation_dtype),
        Gemm("vision_gate_up", 2 * width, h, n, activation_dtype),
        Elementwise("vision_activation", 3 * width * x, n),
        Gemm("vision_down", h, width, n, activation_dtype),
        Gemm("vision_merger_up", merged // tensor, h, 1, activation_dtype),
        Gemm("vision_merger_down", tower.out_hidden // tower.merge, merged // tensor, 1, activation_dtype),
    ]
    if tensor > 1:
        ops.append(Collective("vision_all_reduce", "all_reduce", h * x, tensor, 2 * n))
    return [op for op in ops if op.count]
