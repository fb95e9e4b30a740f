"""A request while it is in the system, as the scheduler and the engine see it."""

from __future__ import annotations

from tokensim.memory import Content, Table

NEVER = float("nan")


class Request:
    """One request in flight.

    Fixed: ``index`` in the workload, ``arrival_s``, ``input_tokens``, ``output_tokens`` asked for, ``priority`` (smaller is
    more urgent), ``content`` (None: nothing of it can be found in the
    prefix cache by another request), ``length`` (total tokens at which it finishes: prompt plus output, or
    the model's limit); ``shared_output``: other prompts may contain its output.

    Moving: ``tokens`` that its (re)prefill must cover; ``computed`` of them; once all are, it decodes (``decoding``) and
    its computed tokens after step ``k`` are ``base + k`` until ``finish_step``. ``seq`` is its place in the order of
    admission.
    """

    # What most requests never change stands in the class: a million of them are made on the hot path.
    content: Content | None = None
    priority = 0
    shared_output = False
    computed = 0
    decoding = False
    finished = False
    base = 0
    finish_step = 0
    seq = 0
    preemptions = 0
    cached_tokens = 0
    recomputed_tokens = 0
    scheduled_s = NEVER
    first_token_s = NEVER
    last_token_s = NEVER

    def __init__(self, index: int, arrival_s: float, input_tokens: int, output_tokens: int, length: int) -> None:
        self.index = index
        self.arrival_s = arrival_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.length = length
        self.tokens = input_tokens
        self.table = Table()

    def __repr__(self) -> str:
        return f"Request({self.index}, {self.input_tokens}→{self.output_tokens})"
