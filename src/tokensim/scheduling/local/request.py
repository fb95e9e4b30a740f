"""A request while it is in the system, as the scheduler and the engine see it."""

from __future__ import annotations

from typing import NamedTuple

from tokensim.memory import Content, Table

NEVER = float("nan")


class Traits(NamedTuple):
    """What a workload may say of a request beyond its lengths.

    ``tenant`` it belongs to; ``session`` of which it is a round (−1: none); ``deadline_s``, when its last
    token is due, in simulated time; ``predicted_tokens`` of output, as a predictor says before the answer is
    known (−1: nobody predicts); ``adapter`` that it needs (LoRA; −1: none); ``encoder_tokens`` of its prompt
    that an encoder makes (images).
    """

    tenant: int = 0
    session: int = -1
    deadline_s: float = float("inf")
    predicted_tokens: int = -1
    adapter: int = -1
    encoder_tokens: int = 0


PLAIN = Traits()


class Request(Table):
    """One request in flight; it is its own block table.

    Fixed: ``index`` in the workload, ``arrival_s``, ``input_tokens``, ``output_tokens`` asked for,
    ``priority`` (smaller is more urgent), ``content`` (None: nothing of it can be found in the prefix cache
    by another request), ``length`` (total tokens at which it finishes: prompt plus output, or the model's
    limit); ``shared_output``: other prompts may contain its output; ``traits``: what else the workload says;
    ``held``: when it finishes here, its KV stays until the scheduler is told to ``release`` it (somebody will
    fetch it).

    Moving: ``tokens`` that its (re)prefill must cover; ``computed`` of them; once all are, it decodes
    (``decoding``) and its computed tokens after step ``k`` are ``base + k`` until ``finish_step``. ``seq`` is
    its place in the order of admission. ``loaded``: KV from elsewhere has come into its blocks, up to
    ``computed``.
    """

    __slots__ = (
        "arrival_s",
        "base",
        "cached_tokens",
        "computed",
        "content",
        "decoding",
        "finish_step",
        "finished",
        "first_token_s",
        "held",
        "index",
        "input_tokens",
        "last_token_s",
        "length",
        "loaded",
        "lost_tokens",
        "output_tokens",
        "preemptions",
        "priority",
        "recomputed_tokens",
        "scheduled_s",
        "seq",
        "shared_output",
        "tokens",
        "traits",
    )

    def __init__(
        self, index: int, arrival_s: float, input_tokens: int, output_tokens: int, length: int
    ) -> None:
        self.index = index
        self.arrival_s = arrival_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.length = length
        self.content: Content | None = None
        self.shared_output = False
        self.traits = PLAIN
        self.held = False
        self.loaded = False
        self.priority = 0
        self.tokens = input_tokens
        self.blocks = 0
        self.registered = 0
        self.entries = []
        self.computed = 0
        self.decoding = False
        self.finished = False
        self.base = 0
        self.finish_step = 0
        self.seq = 0
        self.preemptions = 0
        self.cached_tokens = 0
        self.lost_tokens = 0
        self.recomputed_tokens = 0
        self.scheduled_s = NEVER
        self.first_token_s = NEVER
        self.last_token_s = NEVER

    def __repr__(self) -> str:
        return f"Request({self.index}, {self.input_tokens}→{self.output_tokens})"
