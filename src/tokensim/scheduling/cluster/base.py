"""The global scheduler: on each arrival, the instance that takes the request.

It sees the load of each instance as it is at that instant (``Load``), or of all of them at once as arrays
(``Loads``): exact, in the middle of a run of steps too, and for any number of instances at about the price of
one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar, Protocol, TypeVar

from tokensim.scheduling.local import Request
from tokensim.workload.base import Floats, Ints


class Queues(Protocol):
    """The requests of an instance: of its local scheduler, or of those of all its data-parallel ranks."""

    @property
    def running(self) -> Collection[Request]:
        """Admitted."""
        ...

    @property
    def waiting(self) -> Collection[Request]:
        """Not admitted, or sent back."""
        ...


class Load(Protocol):
    """One instance as a router sees it now, or as long ago as ``cluster.router.staleness`` says.

    ``outstanding_requests`` were sent to it and have not come to an end: the router counts them itself, so
    they are never stale. ``running`` and ``waiting`` are the engine's queues. ``outstanding_tokens`` of
    prompt and output are still to be computed, of the requests in the engine or on their way through its
    front end; outputs count with their true length. ``kv_use`` is the share of its blocks that requests hold;
    ``free_blocks`` are the others. ``predicted_work_s`` is how long it would take to finish them all.
    """

    @property
    def outstanding_requests(self) -> int:
        """See above."""
        ...

    @property
    def outstanding_tokens(self) -> int:
        """See above."""
        ...

    @property
    def running(self) -> int:
        """See above."""
        ...

    @property
    def waiting(self) -> int:
        """See above."""
        ...

    @property
    def kv_use(self) -> float:
        """See above."""
        ...

    @property
    def free_blocks(self) -> int:
        """See above."""
        ...

    @property
    def predicted_work_s(self) -> float:
        """See above."""
        ...

    def cached_prefix(self, request: Request) -> int:
        """Tokens of the prompt that its prefix cache holds; never stale, as engines push these events."""
        ...

    def predicted_ttft_s(self, request: Request) -> float:
        """Seconds to the first token of ``request`` if it were sent here."""
        ...


class PoolOfTargets(Protocol):
    """Equal instances."""

    name: str
    price_per_hour_usd: float
    """Of all devices of one instance."""


class Target(Protocol):
    """What a global scheduler sees of an instance: ``index`` (of its first rank) among all, its ``pool``, its
    ``role`` (``mixed``, ``prefill`` or ``decode``), its ``load``, and the live ``scheduler``."""

    @property
    def index(self) -> int:
        """See above."""
        ...

    @property
    def name(self) -> str:
        """For people: the pool's, with a number."""
        ...

    @property
    def pool(self) -> PoolOfTargets:
        """See above."""
        ...

    @property
    def role(self) -> str:
        """See above; may change."""
        ...

    @property
    def load(self) -> Load:
        """See above."""
        ...

    @property
    def scheduler(self) -> Queues:
        """Who runs and who waits in it, or in all its ranks."""
        ...


T = TypeVar("T", bound=Target)


class Loads(Protocol):
    """The load of several instances as arrays, in the order of ``instances``; see ``Load`` for the meaning.

    Keep ``instances`` the same object while its members stay the same: then the price does not grow with
    them.
    """

    def outstanding_requests(self, instances: Sequence[Target]) -> Ints:
        """Requests."""
        ...

    def outstanding_tokens(self, instances: Sequence[Target]) -> Floats:
        """Tokens."""
        ...

    def kv_use(self, instances: Sequence[Target]) -> Floats:
        """Shares, 0 to 1."""
        ...

    def free_tokens(self, instances: Sequence[Target]) -> Floats:
        """Tokens that fit into the free blocks."""
        ...

    def work_s(self, instances: Sequence[Target]) -> Floats:
        """Seconds (``predicted_work_s``)."""
        ...

    def ttft_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """Seconds (``predicted_ttft_s``)."""
        ...

    def service_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """Seconds of an instance's time that ``request`` would take, shared with those that run beside it."""
        ...

    def prefix_tokens(self, request: Request, instances: Sequence[Target]) -> Ints:
        """Tokens of its prompt cached in each; looks into all of them that cache any."""
        ...

    def longest_prefix(self, request: Request, instances: Sequence[Target]) -> tuple[int, int]:
        """(position of the one that caches most of the prompt, tokens); of several, the first with the fewest
        outstanding requests. Looks into as few as it can."""
        ...

    def transfer_s(self, request: Request, instances: Sequence[Target]) -> Floats:
        """Seconds to bring its KV there from the instance that it was last sent to."""
        ...

    def price_per_hour_usd(self, instances: Sequence[Target]) -> Floats:
        """US dollars an hour of all devices."""
        ...


class GlobalScheduler(ABC):
    """Routes requests. ``seed`` is for policies that draw lots; options of the scenario come as keywords.

    ``loads`` is there once the simulation is made, unless the class says with ``reads_load`` False that
    it can do without, which is faster. Override ``joined``, ``left``, ``sent`` and ``finished`` to be told;
    who does not pays nothing.
    """

    reads_load: ClassVar[bool] = True
    loads: Loads

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """The one of ``instances`` that takes ``request`` at ``now``.

        ``instances`` are up and serve the phase that the request is in; they come and go between calls.
        """

    def check(self, pools: Collection[str]) -> None:
        """Raise ``InputError`` if the options do not go with the ``pools`` of the cluster."""
        return

    def joined(self, instance: Target) -> None:
        """``instance`` can be chosen from now on."""
        return

    def left(self, instance: Target) -> None:
        """``instance`` cannot be chosen any more."""
        return

    def sent(self, request: Request, instance: Target, now: float) -> None:
        """``request`` was sent to ``instance``."""
        return

    def finished(self, request: Request, instance: Target, now: float) -> None:
        """``request`` ended at ``now``, as the client sees it; told before the next ``route``."""
        return
