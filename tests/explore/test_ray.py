"""A sweep on a Ray cluster of two nodes, started here: the same table as on this machine, bit for bit."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_study import study

from tokensim.errors import InputError
from tokensim.explore.executors import make_executor
from tokensim.explore.sweep import sweep

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

PLUGIN = """
from pathlib import Path

import ray

from tokensim import register
from tokensim.scheduling.local import ContinuousBatching


@register.local_scheduler("shortest-first")
class ShortestFirst(ContinuousBatching):
    def admission_order(self, waiting):
        return sorted(waiting, key=lambda request: request.input_tokens)


if ray.is_initialized():
    Path("{folder}", ray.get_runtime_context().get_node_id()).touch()
"""


NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one processor each, and this process connected to them."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tokensim[distributed]'")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.add_node(**NODE)
    os.environ["RAY_ADDRESS"] = made.address
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        del os.environ["RAY_ADDRESS"]


def test_the_same_table_bit_for_bit_on_two_nodes(cluster: Any, tmp_path: Path) -> None:
    plugin = tmp_path / "policy.py"
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    plugin.write_text(PLUGIN.replace("{folder}", str(nodes)))
    made = study(
        {
            "engine.policy": ["vllm", "shortest-first"],
            "workload.arrivals.rate": [1, 30, 100],
            "cluster.pools[0].parallel.tensor": [1, 3],
        }
    )
    sweep(made, tmp_path / "here", executor=make_executor("serial", plugins=[str(plugin)]))
    on_ray = make_executor("ray", plugins=[str(plugin)])
    assert getattr(on_ray, "jobs") == 2  # noqa: B009
    result = sweep(made, tmp_path / "there", executor=on_ray)
    assert result.counts == {"ok": 6, "refused": 6}
    here, there = ((tmp_path / name / "results.parquet").read_bytes() for name in ("here", "there"))
    assert here == there
    assert len(list(nodes.iterdir())) == 2  # each of the nodes loaded the plug-in


def test_an_address_where_nobody_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tokensim[distributed]'")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, and not listening
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match=f"nobody answers at {address}"):
            make_executor("ray")
