"""The vision encoder of an instance: what the images of a step's prompts add to the step.

As vLLM V1 does it: an image is encoded, whole, in the first step that needs one of its tokens, all images of
a step together, before the language model runs (``vllm/v1/worker/gpu_model_runner.py``,
``_execute_mm_encoder``); what it gives is kept until it is used. The images of a request stand at the end of
its prompt. Not modelled: that a prompt is cut before an image which does not fit into the step's encoder
budget (as large as ``max_num_batched_tokens``, so it binds at most for the last image of a chunk), and that
the encoder's cache may still hold an image when a preempted request runs again: it is encoded again here.
"""

from __future__ import annotations

from tokensim.cost.base import StepCost
from tokensim.scheduling.local import Step


class Encoder:
    """``cost`` prices a step of the tower whose tokens are patches, ``patches_per_token`` of which make one
    token of the prompt; ``image_tokens`` are those of one image (None: a request's are all one image)."""

    def __init__(self, cost: StepCost, patches_per_token: int, image_tokens: int | None) -> None:
        self._cost = cost
        self._patches = patches_per_token
        self._image_tokens = image_tokens
        self._seconds: dict[tuple[int, ...], float] = {}

    def seconds(self, step: Step) -> float:
        """What the images that ``step`` needs first take."""
        images: list[int] = []
        for request, (tokens, before) in zip(step.chunk_requests, step.chunks, strict=True):
            all_of_it = request.traits.encoder_tokens
            start = request.input_tokens - all_of_it
            if not all_of_it or before + tokens <= start or before >= request.input_tokens:
                continue
            size = self._image_tokens or all_of_it
            end = min(before + tokens, request.input_tokens)
            images += [size] * (-(-(end - start) // size) - -(-max(before - start, 0) // size))
        if not images:
            return 0.0
        key = tuple(images)
        if key not in self._seconds:
            chunks = [(self._patches * size, 0) for size in images]
            self._seconds[key] = self._cost.step_time(0, 0.0, 0.0, 0.0, chunks, 0)
        return self._seconds[key]
