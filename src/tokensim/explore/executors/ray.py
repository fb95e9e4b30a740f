"""Runs on a Ray cluster (the extra ``distributed``): on whatever machines the head node knows.

``RAY_ADDRESS`` names the cluster; without it, Ray looks for one on this machine, and starts one if there is
none. The machines need Python and the libraries that TokenSim needs; TokenSim itself travels with the runs,
so that all of them run this very version, and so do the files of plug-ins. What a scenario names (a trace, a
measured table, a calibration) must lie at the same path everywhere.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tokensim.errors import InputError
from tokensim.explore.executors.local import AHEAD
from tokensim.explore.executors.worker import THREADS, work
from tokensim.explore.task import Outcome, Task

RETRIES = 1
"""Runs are tried again that often when the machine or process that ran them is gone."""

PATIENCE_S = 5.0
"""For the head node to take a connection; Ray itself tries for over a minute."""

HINT = "RAY_ADDRESS names the head node, e.g. 10.0.0.1:6379; unset, one is started here"


class RayExecutor:
    """See ``Executor``. ``jobs``: runs at a time (None: one a processor of the cluster). Raises
    ``InputError`` where there is no Ray, or no cluster at the address."""

    def __init__(self, jobs: int | None = None, plugins: Sequence[str] = ()) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's own, at import and at start
            self._ray = ray = _connected()
        self.jobs = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._plugins = ray.put({name: Path(name).read_text(encoding="utf-8") for name in plugins})
        self._work = ray.remote(num_cpus=1, max_retries=RETRIES)(_evaluate)

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """See ``Executor.run``."""
        ray, left = self._ray, iter(tasks)
        in_hand: dict[Any, Task] = {}
        try:
            while True:
                for task in islice(left, AHEAD * self.jobs - len(in_hand)):
                    in_hand[self._work.remote(task, self._plugins)] = task
                if not in_hand:
                    return
                done, _ = ray.wait(list(in_hand), num_returns=1)
                for reference in done:
                    task = in_hand.pop(reference)
                    try:
                        outcome = ray.get(reference)
                    except ray.exceptions.RuntimeEnvSetupError as error:
                        raise InputError(
                            f"no machine can run TokenSim: {_first_line(error)}",
                            where="--executor ray",
                            hint="its dependencies must be installed on every machine of the cluster",
                        ) from None
                    except ray.exceptions.RayError as error:
                        outcome = Outcome(task.key, "crashed", f"lost by Ray: {_first_line(error)}", {})
                    yield outcome
        finally:
            for reference in in_hand:
                ray.cancel(reference, force=True)


def _connected() -> Any:
    """Ray, connected to a cluster: the caller's own connection if there is one, which then must have brought
    TokenSim to the workers."""
    try:
        import ray
    except ImportError:
        raise InputError(
            "Ray is not installed", where="--executor ray", hint="pip install 'tokensim[distributed]'"
        ) from None
    if not ray.is_initialized():
        _check_reachable(os.environ.get("RAY_ADDRESS", ""))
        try:
            ray.init(log_to_driver=False, configure_logging=False, runtime_env=_environment())
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"no cluster: {_first_line(error)}", where="--executor ray", hint=HINT) from None
    return ray


def _check_reachable(address: str) -> None:
    """Raise ``InputError`` if nobody listens at ``address``; ``auto``, ``local`` and the like are Ray's."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit() and int(port) < 1 << 16):
        return
    try:
        socket.create_connection((host, int(port)), PATIENCE_S).close()
    except OSError as error:
        raise InputError(
            f"no cluster: nobody answers at {address}: {error.strerror or error}",
            where="RAY_ADDRESS",
            hint=HINT,
        ) from None


def _environment() -> dict[str, Any]:
    """What a worker has beside what is installed: this TokenSim, and libraries that start no threads."""
    import tokensim

    return {"py_modules": [str(Path(tokensim.__file__).parent)], "env_vars": THREADS}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


_loaded: set[str] = set()


def _evaluate(task: Task, plugins: Mapping[str, str]) -> Outcome:
    """``evaluate`` in a Ray worker, which keeps what it has loaded. ``plugins``: texts by file."""
    import tempfile

    from tokensim.registry import load_entry_points, load_plugin

    if not _loaded:
        load_entry_points()
        _loaded.add("")
    for name, text in plugins.items():
        if name not in _loaded:
            with tempfile.TemporaryDirectory(prefix="tokensim-") as folder:
                file = Path(folder) / Path(name).name
                file.write_text(text, encoding="utf-8")
                load_plugin(file)
            _loaded.add(name)
    return work(task)
