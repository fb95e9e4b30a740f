"""The local scheduler: who runs in the next step of one instance.

The engine drives it in this order, which is the real engine's own. Synchronous: ``add`` arrivals,
``schedule`` step k, (the step runs), ``update`` k. Asynchronous: ``schedule`` k+1 comes before ``update`` k.
After a ``schedule`` the engine asks ``run_length``: how many steps equal to this one may follow each other
before the policy has to be asked again; it then commits as many of them as really ran with ``advance``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

from tokensim.errors import SimulationError
from tokensim.memory import Pool
from tokensim.scheduling.local.outlook import Outlook, cached_tokens, walked
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.speculation import Speculation


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a local scheduler; names and meaning are vLLM's (``num_gpu_blocks`` counts the
    null block).
    """

    num_gpu_blocks: int
    block_size: int = 16
    max_model_len: int = 1 << 40
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_num_scheduled_tokens: int | None = None
    max_num_active_seqs: int | None = None
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    long_prefill_token_threshold_adaptive: bool = False
    enable_prefix_caching: bool = True
    scheduling_policy: str = "fcfs"
    scheduler_reserve_full_isl: bool = True
    watermark: float = 0.0
    prefill_schedule_interval: int = 1
    async_scheduling: bool = True
    swap_blocks: int = 0
    """Blocks of host memory into which preempted requests are swapped; 0: they are recomputed."""
    swap_s_per_block: float = 0.0
    """Seconds that copying one block to the host, or back, holds up a step."""
    window: int | None = None
    """The model's sliding window, if the cost of a step depends on contexts capped at it."""
    longest: bool = False
    """Whether the cost of a step depends on the longest context of those that decode."""
    pipeline: int = 1
    """Pipeline stages."""
    v2_model_runner: bool = True
    """Whether vLLM's second model runner is used: a request decodes once a round of the pipeline."""
    speculation: Speculation | None = None
    """Speculative decoding; None: there is none."""

    @property
    def in_flight(self) -> bool:
        """Whether a request may have more on its way than one token: what ``in_flight.py`` is for."""
        return self.pipeline > 1 or self.speculation is not None


WITHOUT_V1: Mapping[str, Any] = {
    "scheduler_reserve_full_isl": True,
    "long_prefill_token_threshold": 0,
    "prefill_schedule_interval": 1,
    "watermark": 0.0,
}
"""What only vLLM's V1 scheduler knows, as other policies settle it: without effect."""

EMPTY_STEP_PAUSE_S = 1e-3
"""vLLM's engine core sleeps 1 ms after a step that scheduled nothing (``_process_engine_step``)."""


class Offer(NamedTuple):
    """KV of a request that can be loaded from elsewhere: ``tokens`` beyond those in the instance's own pool.

    ``overlap_s`` None: the request waits, holding its blocks, until the engine says that they have come.
    Else it runs at once, and the copies, which take ``overlap_s`` if nothing hinders them, come layer by
    layer beside the compute of its first step.
    ``source`` is whatever the ``KvSource`` wants to remember.
    """

    tokens: int
    overlap_s: float | None = None
    source: Any = None


class KvSource(Protocol):
    """Where KV of a request may lie besides the instance's own pool: another instance, a host tier, a pool
    that instances share."""

    def offer(self, request: Request, cached: int, now: float) -> Offer | None:
        """What can be loaded for ``request`` beyond its first ``cached`` tokens, which the pool has; None:
        nothing worth it. Asked once for each admission that is tried; changes nothing."""
        ...

    def load(self, request: Request, offer: Offer, now: float) -> None:
        """``offer`` was taken and its blocks are there: the load starts at ``now``."""
        ...


_NONE: list[Any] = []  # never changed


class Step:
    """What one step runs.

    ``decode`` requests decode one token each; their contexts sum to ``context`` (``window_context`` with each
    capped at the window, growing by ``window_growth`` a step), the longest is
    ``longest`` (where asked for). ``chunks`` are prefill chunks (tokens, tokens
    computed before) of ``chunk_requests``. ``firsts`` complete their prefill in this step. ``admitted`` holds
    (request, prefix hit in tokens); ``preempted`` holds (request, whether it decoded in the step before).
    ``whole``: every decoding request got its token; those that first did not for want of budget or memory are
    in ``sat_out``, those that decode again after that in ``came_back``. ``stall_s``: copies that hold up the
    step (KV that is swapped, adapters); ``overlap_s``: how long copies take that come layer by layer beside
    its compute; ``copies_s``: how much longer the step lasts for both, as the engine finds. ``adapters``: how
    many different ones are in the step.
    ``paused``: so many requests decode, and all of them sit out this step (it is one of prefills alone).
    ``idle``: so many of the ``decode`` rows belong to requests that have finished and give no token.
    ``lost``: of ``preempted``, those that had a token in flight, which is dropped with them. ``again``: the
    step is empty, but the next one need not be.
    """

    __slots__ = (
        "adapters",
        "admitted",
        "again",
        "came_back",
        "chunk_requests",
        "chunks",
        "context",
        "copies_s",
        "decode",
        "firsts",
        "idle",
        "index",
        "longest",
        "lost",
        "overlap_s",
        "paused",
        "preempted",
        "sat_out",
        "stall_s",
        "whole",
        "window_context",
        "window_growth",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.decode = 0
        self.context = 0
        self.window_context = 0
        self.window_growth = 0
        self.longest = 0
        self.whole = True
        self.stall_s = 0.0
        self.overlap_s = 0.0
        self.paused = 0
        self.idle = 0
        self.again = False
        self.copies_s = 0.0
        self.adapters = 0
        # Most steps are nothing but decodes: lists of their own take the place of these when needed.
        self.chunks: list[tuple[int, int]] = _NONE
        self.chunk_requests: list[Request] = _NONE
        self.firsts: list[Request] = _NONE
        self.admitted: list[tuple[Request, int]] = _NONE
        self.preempted: list[tuple[Request, bool]] = _NONE
        self.sat_out: list[Request] = _NONE
        self.came_back: list[Request] = _NONE
        self.lost: list[Request] = _NONE

    @property
    def empty(self) -> bool:
        """Nothing runs."""
        return not (self.decode or self.chunks)


class LocalScheduler(ABC):
    """Decides the steps of one instance and owns its KV pool.

    ``running`` and ``waiting`` hold the requests in the system; a request whose last token is in flight still
    runs.
    """

    engine: ClassVar[str] = "vllm"
    """The serving engine that it is part of: its kernels, its defaults, its share of device memory."""
    pause_s: ClassVar[float] = EMPTY_STEP_PAUSE_S
    """How long the loop sleeps after a step that scheduled nothing."""
    looks_once_more: ClassVar[bool] = False
    """Whether it wants to be asked once more after the last output has come back, to see that it is idle."""
    lockstep: ClassVar[bool] = True
    """Whether data-parallel ranks with it may take every step together."""

    pool: Pool
    running: Collection[Request]
    waiting: Collection[Request]
    loading: Collection[Request] = ()
    """Those that hold blocks and wait for KV from elsewhere."""
    holding: Collection[Request] = ()
    """Those that finished here, but whose KV is kept for somebody."""
    source: KvSource | None = None
    """Set by whoever assembles the instance, of policies that ``can_load``."""
    can_load: ClassVar[bool] = False
    """Whether the policy asks ``source``, and heeds ``Request.held``, ``loaded`` and ``release``."""
    can_tier: ClassVar[bool] = False
    """Whether memory tiers may stand behind its pool, too."""
    kv_format: ClassVar[str] = "vLLM"
    """The engine whose layout its KV has: instances exchange KV of one format only."""
    can_swap: ClassVar[bool] = False
    """Whether preempted requests can be swapped to host memory (``Limits.swap_blocks``)."""
    needs_predictions: bool = False
    """Whether it goes by ``Request.traits.predicted_tokens``: workloads without are refused then."""
    prefers: ClassVar[Mapping[str, Any]] = {}
    """Engine options whose default is another one under this policy."""
    settles: ClassVar[Mapping[str, Any]] = {}
    """Engine options that this policy leaves no choice in, and what they are then."""

    @classmethod
    def settled(cls, limits: Limits) -> Limits:
        """``limits`` with what the policy ``settles``."""
        return replace(limits, **cls.settles) if cls.settles else limits

    def rejects_from(self, max_model_len: int) -> int:
        """The shortest prompt (tokens) that it rejects, in a context of ``max_model_len`` tokens."""
        return max_model_len

    verified = 0
    """Rows of drafts verified so far; ``drafted`` drafts in them, of which ``accepted`` were accepted."""
    drafted = 0
    accepted = 0

    @abstractmethod
    def add(self, request: Request) -> bool:
        """Hand over an arrival. Returns whether it can change the decision on any step not yet scheduled."""

    @abstractmethod
    def schedule(self, now: float) -> Step:
        """Decide the next step, at the time ``now``; it may be empty."""

    @abstractmethod
    def run_length(self, step: Step) -> int:
        """How many steps equal to ``step`` (itself included) may follow each other if nothing arrives, ≥ 1.

        Only a step of nothing but decodes can have more than 1. Steps grow alike: each request's context by
        one.
        """

    @abstractmethod
    def advance(self, steps: int) -> None:
        """``steps`` further steps equal to the last one were scheduled."""

    @abstractmethod
    def update(self, index: int) -> Sequence[Request]:
        """The output of step ``index`` has come back: free the requests that finished with it and return
        them."""

    def served(self, step: Step) -> Iterable[Request]:
        """The requests that get a token in ``step``, the last one scheduled. Only asked for hooks' sake."""
        return [request for request in self.running if request.decoding and request.finish_step >= step.index]

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """Take ``request`` out, wherever it stands, and free its memory; ``keep``: the KV of a running one
        stays, in ``holding``, until it is released. It is not in flight: the engine has processed the output
        of every step that it was in. Then ``request.tokens`` are known and ``request.computed`` of them have
        KV (0 unless ``keep``).
        """
        raise SimulationError(f"the policy {type(self).__name__} cannot give up a request (no method remove)")

    def throttle(self, max_running: int | None) -> None:
        """Admit no request while ``max_running`` run; None: the policy's own limit again."""
        raise SimulationError(f"the policy {type(self).__name__} cannot be throttled (no method throttle)")

    def loaded(self, request: Request) -> None:
        """The KV that ``request`` waits for in ``loading`` has come."""
        raise SimulationError(f"the policy {type(self).__name__} does not load KV from elsewhere")

    def release(self, request: Request) -> None:
        """The KV of ``request``, which finished here and was ``held``, is no longer needed."""
        raise SimulationError(f"the policy {type(self).__name__} does not keep KV of finished requests")

    def outlook(self) -> Outlook:
        """What is left to do as of the last scheduled step; changes nothing. A policy that keeps sums answers
        without a look at every request."""
        return walked(self, getattr(self, "index", 0), getattr(self.pool, "block_size", 1))

    def cached_tokens(self, request: Request, steps: int) -> int:
        """Tokens of ``request``, which is not here, that the prefix cache holds; ``steps`` further steps
        equal to the last one have been scheduled that ``advance`` does not know of yet."""
        return cached_tokens(self, request)

    @abstractmethod
    def check_integrity(self) -> None:
        """Raise ``AssertionError`` if the state contradicts itself (blocks lost, shared by accident, or
        leaked)."""
