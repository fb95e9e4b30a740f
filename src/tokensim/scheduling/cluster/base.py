"""The global scheduler: on each arrival, the instance that takes the request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, TypeVar

from tokensim.scheduling.local import LocalScheduler, Request


class Target(Protocol):
    """What a global scheduler sees of an instance."""

    index: int
    scheduler: LocalScheduler


T = TypeVar("T", bound=Target)


class GlobalScheduler(ABC):
    """Routes requests. ``seed`` is for policies that draw lots."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def route(self, request: Request, instances: Sequence[T]) -> T:
        """The one of ``instances`` that takes ``request``, which has just arrived."""
