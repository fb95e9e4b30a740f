"""CUDA graphs: the token counts for which an engine captures them, and to which smaller steps are padded."""

from __future__ import annotations


def captured_sizes(max_num_seqs: int, max_num_batched_tokens: int) -> tuple[int, ...]:
    """Sizes that vLLM captures by default: 1, 2, 4, every 8 up to 256, every 16 up to the largest.

    The largest is ``2 · max_num_seqs``, at most 512 and at most ``max_num_batched_tokens`` (vLLM 0.19 to
    0.33, ``VllmConfig._set_cudagraph_sizes``).
    """
    largest = min(2 * max_num_seqs, 512, max_num_batched_tokens)
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)]
    return tuple(size for size in sizes if size <= largest)


def captured_batches(largest: int) -> tuple[int, ...]:
    """Decode batches that SGLang captures by default, up to ``largest`` (SGLang 0.5.23,
    ``ServerArgs._generate_cuda_graph_batch_sizes``)."""
    sizes = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16), *range(512, largest + 1, 32)]
    return tuple(size for size in sizes if size <= largest)
