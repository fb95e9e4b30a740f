"""Runs one after another, in this process: for debuggers and small studies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tokensim.explore.task import Outcome, Task, evaluate
from tokensim.registry import load_plugin


class SerialExecutor:
    """See ``Executor``."""

    def __init__(self, plugins: Sequence[str] = ()) -> None:
        for plugin in plugins:
            load_plugin(plugin)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """See ``Executor.run``."""
        return map(evaluate, tasks)
