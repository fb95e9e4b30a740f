"""Where runs happen: in this process, in processes of this machine, on a Ray cluster. The results are the
same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from tokensim.errors import InputError, nearest
from tokensim.explore.task import Outcome, Task

EXECUTORS = ("local", "ray", "serial")


class Executor(Protocol):
    """Evaluates tasks."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """The outcomes of ``tasks``, in whatever order they come; tasks are taken as there is room, so that
        endless many need no more memory than a few. Whatever goes wrong with one is in its outcome."""
        ...


def make_executor(name: str = "local", jobs: int | None = None, plugins: Sequence[str] = ()) -> Executor:
    """The executor ``name`` with that many ``jobs`` at a time (None: one a processor), each of which loads
    ``plugins`` (Python files). Raises ``InputError``."""
    if name not in EXECUTORS:
        raise InputError(f"unknown executor '{name}'", where="--executor", hint=nearest(name, EXECUTORS))
    if jobs is not None and jobs < 1:
        raise InputError(f"{jobs} jobs", where="--jobs", hint="at least 1")
    if name == "serial":
        from tokensim.explore.executors.serial import SerialExecutor

        return SerialExecutor(plugins)
    if name == "local":
        from tokensim.explore.executors.local import LocalExecutor

        return LocalExecutor(jobs, plugins)
    from tokensim.explore.executors.ray import RayExecutor

    return RayExecutor(jobs, plugins)
