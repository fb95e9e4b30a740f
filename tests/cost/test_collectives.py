"""Collectives by latency and bandwidth, against hand-computed figures, properties and measured tables."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_device import ROUND, round_device

from tokensim.cost import collectives as c
from tokensim.hardware import Device, Link, catalog_names, load_device
from tokensim.model.operators import Collective

KINDS = get_args(c.Kind)
RING = Link("ring", 100e9, 1e-6)
MB = 1e6


def seconds(kind: c.Kind, size: float, ranks: int, device: Device = ROUND) -> float:
    return float(c.collective_seconds(kind, np.array(size), ranks, device))


def test_a_ring_all_reduce_waits_for_its_hops_and_moves_almost_twice_the_buffer() -> None:
    # 4 ranks: 6 hops of 1 us; 2 * 3/4 * 100 MB at 42 of 100 GB/s
    device = round_device(intra_node=RING)
    assert seconds("all_reduce", 100 * MB, 4, device) == pytest.approx(7e-6 + 6e-6 + 150e6 / 42e9)


def test_one_shot_takes_small_buffers_and_two_shot_large_ones() -> None:
    # one-shot: 4.5 + 1 us, 7 * S at 50 GB/s; two-shot: 9 + 2 us, 2 * 7/8 * S at 50 GB/s
    assert seconds("all_reduce", 8e3, 8) == pytest.approx(5.5e-6 + 56e3 / 50e9)
    assert seconds("all_reduce", 400e3, 8) == pytest.approx(11e-6 + 700e3 / 50e9)
    time = c.collective_time(Collective("x", "all_reduce", 1e3, 8, 1), ROUND)
    assert [time.origin(rows).source.split("(")[1] for rows in (8, 400, 1e6)] == [
        "one-shot)",
        "two-shot)",
        "ring)",
    ]


def test_gathering_moves_what_the_others_have() -> None:
    # each of 4 ranks contributes 1 MB and receives 3 MB at 60 GB/s over 3 hops of 1 + 0.6 us
    assert seconds("all_gather", MB, 4) == pytest.approx(7e-6 + 4.8e-6 + 3e6 / 60e9)
    # a rank holds 4 MB and sends 3 slices of 1 MB on: the same
    assert seconds("reduce_scatter", 4 * MB, 4) == pytest.approx(seconds("all_gather", MB, 4))


def test_an_all_to_all_keeps_its_own_slice() -> None:
    assert seconds("all_to_all", 4 * MB, 4) == pytest.approx(7e-6 + 3e-6 + 1.6e-6 + 3e6 / 60e9)


def test_an_all_reduce_across_nodes_crosses_the_network_with_its_own_slice() -> None:
    # 2 nodes of 8, 80 MB: inside twice 7/8 at 60 GB/s over 7 hops; across 10 MB, 2 * 1/2 at 9.2 GB/s, 2 hops
    hops = 2 * 7 * 1.6e-6 + 2 * 10e-6
    inside, across = 2 * 70e6 / 60e9, 10e6 / 9.2e9
    assert inside > across
    assert seconds("all_reduce", 80 * MB, 16) == pytest.approx(7e-6 + hops + inside)


def test_where_ports_are_slow_the_network_decides_and_not_the_links_inside() -> None:
    slow = round_device(inter_node=Link("slow", 1e9, 10e-6))
    hops = 2 * 7 * 1.6e-6 + 2 * 10e-6
    assert seconds("all_reduce", 80 * MB, 16, slow) == pytest.approx(7e-6 + hops + 10e6 / 0.92e9)


def test_where_the_last_node_holds_fewer_devices_their_ports_carry_more() -> None:
    # 12 ranks, 8 and 4: 20 MB of 80 through each of the four ports, 2 * 1/2 at 0.92 GB/s
    slow = round_device(inter_node=Link("slow", 1e9, 10e-6))
    hops = 2 * 7 * 1.6e-6 + 2 * 10e-6
    assert seconds("all_reduce", 80 * MB, 12, slow) == pytest.approx(7e-6 + hops + 20e6 / 0.92e9)


def test_an_all_to_all_across_nodes_sends_half_of_its_rows_through_its_own_port() -> None:
    # 2 nodes of 8, 16 MB a rank: 1/2 of it out at 9.2 GB/s; meanwhile what came in is passed on inside
    hops = 3e-6 + 10e-6 + 3e-6 + 1.6e-6
    assert seconds("all_to_all", 16 * MB, 16) == pytest.approx(7e-6 + hops + 8e6 / 9.2e9)


def test_gathering_across_nodes_crosses_the_network_once_a_device() -> None:
    # 16 ranks of 1 MB: half of 16 / 8 MB through each port; 7/8 of 16 MB inside
    hops = 10e-6 + 7 * 1.6e-6
    assert seconds("all_gather", MB, 16) == pytest.approx(7e-6 + hops + max(14e6 / 60e9, 1e6 / 9.2e9))


def test_across_many_nodes_a_tree_takes_small_buffers() -> None:
    slow = round_device(inter_node=Link("slow", 1e9, 10e-6))
    time = c.collective_time(Collective("x", "all_reduce", 1e3, 512, 1), slow)
    assert "tree" in time.origin(1).source
    assert "tree" not in time.origin(1e7).source


def test_a_device_alone_in_its_node_uses_the_network_alone() -> None:
    alone = round_device(devices_per_node=1)
    assert seconds("all_gather", MB, 2, alone) == pytest.approx(7e-6 + 10e-6 + MB / 9.2e9)


@pytest.mark.parametrize("kind", KINDS)
def test_one_rank_costs_nothing(kind: c.Kind) -> None:
    time = c.collective_time(Collective("x", kind, 8192.0, 1, 32), ROUND)
    assert time.seconds(np.array([1.0, 4096.0])).tolist() == [0.0, 0.0]


def test_rows_and_count_multiply() -> None:
    op = Collective("x", "all_reduce", 8192.0, 4, 32)
    rows = np.array([1.0, 64.0, 8192.0])
    expected = [32 * seconds("all_reduce", 8192.0 * r, 4) for r in rows]
    assert c.collective_time(op, ROUND).seconds(rows) == pytest.approx(expected)


DEVICES = st.sampled_from(catalog_names())
SIZES = st.floats(1.0, 1e9)
RANKS = st.integers(2, 64)


@given(DEVICES, st.sampled_from(KINDS), RANKS, SIZES, SIZES)
def test_more_bytes_are_never_faster(name: str, kind: c.Kind, ranks: int, one: float, other: float) -> None:
    few, many = sorted((one, other))
    device = load_device(name)
    assert 0 < seconds(kind, few, ranks, device) <= seconds(kind, many, ranks, device)


@given(DEVICES, st.sampled_from(KINDS), st.integers(1, 8), st.integers(2, 16), SIZES)
def test_many_nodes_are_never_faster_than_one_of_them(
    name: str, kind: c.Kind, local: int, nodes: int, size: float
) -> None:
    device = replace(load_device(name), devices_per_node=local)
    together = seconds(kind, size, local * nodes, device)
    assert together > seconds(kind, size, local, device)


def test_bytes_that_leave_the_node_take_longer() -> None:
    slow = Link("slow", 1e9, 10e-6)
    one_node, two_nodes = (round_device(devices_per_node=n, inter_node=slow) for n in (16, 8))
    for kind in KINDS:
        assert seconds(kind, 1e9, 16, two_nodes) > seconds(kind, 1e9, 16, one_node)


TABLES = {
    "h100_sxm": ("h100-sxm-80gb", 0.2),
    "a100_sxm": ("a100-sxm-80gb", 0.22),
    "b200_sxm": ("b200-sxm-180gb", 0.24),
    "gb200": ("gb200-186gb", 0.24),
    "rtx_pro_6000_server": ("rtx-pro-6000-96gb", 0.2),
}


@pytest.mark.parametrize("system", TABLES)
def test_the_median_error_against_measured_tables_is_what_the_module_says(system: str) -> None:
    """NCCL and vLLM's all-reduce in CUDA graphs, 2 KB to 268 MB; ``message_size`` counts elements."""
    import polars as pl

    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or spec.origin is None:
        pytest.skip("aiconfigurator-core is not installed")
    comm = Path(spec.origin).parent / "systems" / "data" / system / "comm"
    custom = pl.read_parquet(sorted(comm.glob("vllm/*/custom_allreduce_perf.parquet"))[-1])
    custom = custom.filter(pl.col("backend") == "vllm_graph")
    library = pl.read_parquet(sorted(comm.glob("nccl/*/nccl_perf.parquet"))[-1])
    library = library.filter((pl.col("nccl_dtype") == "half") & (pl.col("op_name") != "all_reduce"))
    columns = ("op_name", "num_gpus", "message_size", "latency")
    measured = pl.concat([custom.select(columns), library.select(columns)])
    name, limit = TABLES[system]
    device = load_device(name)
    errors = []
    for op_name, ranks, elements, latency_ms in measured.iter_rows():
        size = 2 * elements
        if 2048 <= size <= 2.7e8:
            kind = {"alltoall": "all_to_all"}.get(op_name, op_name)
            own = size / ranks if kind == "all_gather" else size
            errors.append(abs(seconds(kind, own, ranks, device) * 1e3 / latency_ms - 1))
    assert len(errors) > 100
    assert np.median(errors) < limit
