"""Runs on a Ray cluster (the extra ``distributed``): on whatever machines the head node knows.

``RAY_ADDRESS`` names the cluster; without it, Ray looks for one on this machine, and starts one if there is
none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from tokensim.errors import InputError
from tokensim.explore.executors.local import AHEAD
from tokensim.explore.task import Outcome, Task, evaluate

RETRIES = 1
"""Runs are tried again that often when the machine or process that ran them is gone."""


class RayExecutor:
    """See ``Executor``. Plug-ins must lie at the same paths on all machines."""

    def __init__(self, jobs: int | None = None, plugins: Sequence[str] = ()) -> None:
        try:
            import ray
        except ImportError:
            raise InputError(
                "Ray is not installed", where="--executor ray", hint="pip install 'tokensim[distributed]'"
            ) from None
        self._ray: Any = ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False, configure_logging=False)
        self.jobs = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.plugins = tuple(plugins)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """See ``Executor.run``."""
        ray, left = self._ray, iter(tasks)
        work = ray.remote(num_cpus=1, max_retries=RETRIES)(_evaluate)
        in_hand: dict[Any, Task] = {}
        try:
            while True:
                for task in islice(left, AHEAD * self.jobs - len(in_hand)):
                    in_hand[work.remote(task, self.plugins)] = task
                if not in_hand:
                    return
                done, _ = ray.wait(list(in_hand), num_returns=1)
                for reference in done:
                    task = in_hand.pop(reference)
                    try:
                        outcome = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        why = str(error).strip().splitlines()[0]
                        outcome = Outcome(task.key, "crashed", f"lost by Ray: {why}", {})
                    yield outcome
        finally:
            for reference in in_hand:
                ray.cancel(reference, force=True)


_loaded: set[str] = set()


def _evaluate(task: Task, plugins: tuple[str, ...]) -> Outcome:
    """``evaluate`` in a Ray worker, which keeps what it has loaded."""
    from tokensim.registry import load_plugin

    for plugin in plugins:
        if plugin not in _loaded:
            load_plugin(plugin)
            _loaded.add(plugin)
    return evaluate(task)
