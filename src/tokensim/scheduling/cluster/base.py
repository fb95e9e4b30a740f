"""The global scheduler: on each arrival, the instance that takes the request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from tokensim.scheduling.local import Request


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


class Target(Protocol):
    """What a global scheduler sees of an instance."""

    @property
    def index(self) -> int:
        """Of the instance (of its first rank) among all."""
        ...

    @property
    def scheduler(self) -> Queues:
        """Who runs and who waits in it."""
        ...


T = TypeVar("T", bound=Target)


class GlobalScheduler(ABC):
    """Routes requests. ``seed`` is for policies that draw lots."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """The one of ``instances`` that takes ``request`` at ``now``.

        ``instances`` are up and serve the phase that the request is in; they come and go between calls.
        """
