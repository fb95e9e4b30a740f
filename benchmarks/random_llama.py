"""A small Llama with random weights as a GGUF file: for servers that need a model and nobody to read its
answers.

    python benchmarks/random_llama.py model.gguf --layers 8 --hidden 512

The vocabulary is one token a byte beside three special ones, so that every prompt of bytes is as long as it
looks; float16 weights. Needs the package gguf. The model's shape is written beside it as ``config.json`` in
the form of Hugging Face, which TokenSim reads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SPECIAL = ("<unk>", "<s>", "</s>")
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Kinds of tokens in a GGUF file (llama.cpp, ``llama_token_type``)."""


def config(layers: int, hidden: int, vocabulary: int, context: int) -> dict[str, object]:
    """The shape of the model, as a ``config.json``."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": hidden * 8 // 3 // 32 * 32,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": max(hidden // 128, 1),
        "head_dim": 64,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }


def write_model(file: Path, layers: int, hidden: int, vocabulary: int = 8192, context: int = 8192) -> None:
    """Write the model to ``file`` and its shape to ``config.json`` in the same folder."""
    import gguf
    import numpy as np

    shape = config(layers, hidden, vocabulary, context)
    rng = np.random.default_rng(0)
    inner, heads, kv_heads = (
        int(str(shape[key])) for key in ("intermediate_size", "num_attention_heads", "num_key_value_heads")
    )
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("random")
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(64)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocabulary)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    words = [f"▁w{number}" for number in range(vocabulary - len(SPECIAL) - 256)]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(words)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = rng.standard_normal((rows, columns), dtype=np.float32) / np.sqrt(columns)
        writer.add_tensor(name, values.astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(hidden, dtype=np.float32))

    matrix("token_embd.weight", vocabulary, hidden)
    for layer in range(layers):
        at = f"blk.{layer}."
        norm(at + "attn_norm.weight")
        norm(at + "ffn_norm.weight")
        matrix(at + "attn_q.weight", heads * 64, hidden)
        matrix(at + "attn_k.weight", kv_heads * 64, hidden)
        matrix(at + "attn_v.weight", kv_heads * 64, hidden)
        matrix(at + "attn_output.weight", hidden, heads * 64)
        matrix(at + "ffn_gate.weight", inner, hidden)
        matrix(at + "ffn_up.weight", inner, hidden)
        matrix(at + "ffn_down.weight", hidden, inner)
    norm("output_norm.weight")
    matrix("output.weight", vocabulary, hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (file.parent / "config.json").write_text(json.dumps(shape, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=512)
    given = parser.parse_args()
    write_model(given.file, given.layers, given.hidden)
