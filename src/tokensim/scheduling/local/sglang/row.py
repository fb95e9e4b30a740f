"""A request as SGLang's scheduler sees it, and a batch in flight."""

from __future__ import annotations

from tokensim.memory import Content
from tokensim.memory.radix import RadixNode
from tokensim.scheduling.local.request import Request


class Row:
    """One request: SGLang's ``Req``.

    ``max_new`` outputs are declared, ``goal`` are produced. ``outs``: outputs that the scheduler knows of.
    An extension computes tokens ``[prefix, end)``; ``alloc`` tokens hold KV slots, of which the tree owns the
    first ``owned``; ``node`` is what it locks. ``unfinished``: chunks in flight that do not complete the
    prompt. ``unseen``: nothing of its content can be in the tree. ``step``: the launched step that completed
    its last prefill, with which it has ``made`` that many outputs; ``born + k`` after ``k`` decodes of the
    batch that it joined. For rows of the running batch in closed form, ``outs`` and ``alloc`` are out of
    date: ask the batch.
    """

    __slots__ = (
        "alloc",
        "born",
        "content",
        "end",
        "finished",
        "goal",
        "ignore_eos",
        "made",
        "max_new",
        "node",
        "outs",
        "owned",
        "prefix",
        "prompt",
        "request",
        "retracted",
        "seq",
        "step",
        "unfinished",
        "unseen",
    )

    def __init__(self, request: Request, goal: int, max_new: int, ignore_eos: bool, node: RadixNode) -> None:
        self.request = request
        self.content = request.content or Content.unique(request.index)
        self.unseen = request.content is None
        self.prompt = request.input_tokens
        self.goal = goal
        self.max_new = max_new
        self.ignore_eos = ignore_eos
        self.node = node
        self.outs = 0
        self.prefix = 0
        self.end = 0
        self.alloc = 0
        self.owned = 0
        self.unfinished = 0
        self.finished = False
        self.retracted = False
        self.seq = 0
        self.born = 0
        self.made = 0
        self.step = 0

    @property
    def length(self) -> int:
        """Tokens of prompt and known outputs: what a prefill has to cover."""
        return self.prompt + self.outs

    @property
    def completes(self) -> bool:
        """Whether the extension that it runs is the last one of its prefill."""
        return self.end == self.length


class Flight:
    """A launched batch whose output has not been processed: prefill ``rows``, and whether the running batch
    ``decodes`` in it.

    ``chunked``: the row among them whose prompt goes on. ``ended``: rows of the running batch that produced
    their last token in it, in its order, where that is known beforehand; ``decoded``: all of its rows, where
    each is walked. ``joined``: ``rows`` are no prefills, but have their KV from elsewhere.
    """

    __slots__ = ("chunked", "decoded", "decodes", "ended", "index", "joined", "rows")

    def __init__(self, index: int, rows: list[Row], chunked: Row | None, decodes: bool) -> None:
        self.index = index
        self.rows = rows
        self.chunked = chunked
        self.decodes = decodes
        self.ended: list[Row] = []
        self.decoded: list[Row] = []
        self.joined = False
