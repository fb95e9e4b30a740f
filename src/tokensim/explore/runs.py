"""Runs that a search asks for, made by an executor; what was run once is not run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tokensim.explore.executors import Executor
from tokensim.explore.search import Found, Search
from tokensim.explore.store import Store
from tokensim.explore.study import digest
from tokensim.explore.task import Outcome, Task

Progress = Callable[[int, int, int], None]
"""Called with (runs done, of these not ok, runs asked for so far) after each."""


class Runs:
    """Makes runs with ``executor``. ``store`` keeps those that went well (None: only here). ``made`` counts
    runs, ``reused`` those that ``store`` held."""

    def __init__(
        self, executor: Executor, store: Store | None = None, progress: Progress | None = None
    ) -> None:
        self._executor = executor
        self._store = store
        self._progress = progress
        self._known: dict[str, Outcome] = {}
        self.made = self.reused = self.asked = self.bad = 0

    def __call__(self, trees: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """What became of each scenario of ``trees``, in their order."""
        names = [digest(Task(0, tree)) for tree in trees]
        self.asked += len(trees)
        for index, outcome in self._missing(trees, names):
            self._known[names[index]] = outcome
            self.made += 1
            self.bad += outcome.status != "ok"
            if self._store is not None and outcome.status == "ok":
                self._store.add(names[index], outcome)
            if self._progress is not None:
                self._progress(self.made, self.bad, self.asked)
        return [self._known[name] for name in names]

    def _missing(
        self, trees: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Iterator[tuple[int, Outcome]]:
        first = {name: index for index, name in reversed(list(enumerate(names))) if name not in self._known}
        tasks = []
        for name, index in sorted(first.items(), key=lambda item: item[1]):
            held = None if self._store is None else self._store.find(name)
            if held is None:
                tasks.append(Task(index, trees[index]))
            else:
                self._known[name] = held
                self.reused += 1
        if tasks:
            for outcome in self._executor.run(tasks):
                yield outcome.key, outcome

    def drive(self, search: Search[Mapping[str, Any], Outcome, Found]) -> Found:
        """What ``search`` finds, given the runs that it asks for."""
        try:
            asked = next(search)
            while True:
                asked = search.send(self(asked))
        except StopIteration as end:
            found: Found = end.value
            return found
