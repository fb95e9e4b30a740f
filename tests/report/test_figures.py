"""The data of figures, by hand; and that every figure is a specification that compiles."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from handmade import NAN, empty_log, floats, ints, request_columns, run_data_of, run_facts, run_log, summary
from tokensim.errors import InputError
from tokensim.metrics.bins import interval_maxima, interval_means
from tokensim.metrics.log import HandoverRows, RunLog
from tokensim.metrics.pool_time import pool_operators
from tokensim.metrics.slo import Slo
from tokensim.metrics.usage import Standing
from tokensim.report.export import FORMATS, rendered
from tokensim.report.figures import theme
from tokensim.report.figures.parts import log_ticks
from tokensim.report.figures.replicas import replicas_figure
from tokensim.report.figures.roofline import roofline_figure
from tokensim.report.figures.run import run_figures
from tokensim.report.series.base import columns, joined, length, rows, where
from tokensim.report.series.latency import latency_cdfs, latency_over_time, latency_sample
from tokensim.report.series.load import load_over_time, throughput_over_time
from tokensim.report.series.run import figures_json, read_run, run_data
from tokensim.report.series.spans import request_spans

NAMES = ["a-0", "a-1"]


def test_tables_hold_rounded_numbers_and_no_nan() -> None:
    table = columns(x=np.array([1.23456789, NAN, 2.0]), name=["a", None, "b"])
    assert table == {"x": [1.23457, None, 2], "name": ["a", None, "b"]}
    assert rows(where(table, name="a")) == [{"x": 1.23457, "name": "a"}]
    assert length(joined([table, table])) == 6


def test_means_and_maxima_of_a_step_function() -> None:
    edges, start, end = floats(0, 1, 2, 3), floats(0.0, 1.5), floats(0.5, 2.0)
    assert interval_means(edges, start, end, [4, 8]).tolist() == [2.0, 4.0, 0.0]
    assert interval_maxima(edges, start, end, [4, 8]).tolist() == [4.0, 8.0, 0.0]


def test_means_of_a_line() -> None:
    edges, start, end = floats(0, 1, 2, 3), floats(0.0, 2.5), floats(2.0, 2.5)
    assert interval_means(edges, start, end, [8, 1], [0, 1]).tolist() == [2.0, 6.0, 0.0]


def test_a_row_over_many_intervals_is_the_maximum_of_each() -> None:
    edges = np.linspace(0, 1, 5)
    assert interval_maxima(edges, floats(0.1), floats(0.9), [3]).tolist() == [3, 3, 3, 3]
    assert interval_maxima(edges, floats(0.25), floats(0.5), [3]).tolist() == [0, 3, 0, 0]


def test_distribution_functions_rise_from_least_to_greatest() -> None:
    table = latency_cdfs(run_log())
    assert set(table["metric"]) == {"ttft", "tpot", "e2e", "queue", "itl"}
    for metric in set(table["metric"]):
        curve = where(table, metric=metric)
        assert curve["share"][-1] == 1
        for column in ("share", "seconds"):
            assert curve[column] == sorted(curve[column])
    ttft = where(table, metric="ttft")  # 0.1, 0.2, 0.2, 0.5
    assert (ttft["seconds"][0], ttft["seconds"][-1]) == (0.1, 0.5)
    assert ttft["seconds"][ttft["share"].index(0.5)] == 0.2


def test_percentiles_over_time_are_those_of_the_requests_that_arrived_then() -> None:
    table = where(latency_over_time(run_log()), metric="ttft")  # arrivals 0, 0.1, 0.5, 1.0: four bins
    assert table["time_s"] == [0.125, 0.625, 0.875]
    assert table["requests"] == [2, 1, 1]
    assert table["p50"] == pytest.approx([0.15, 0.5, 0.2])


def test_the_sample_names_instances_and_leaves_out_who_was_never_served() -> None:
    table = latency_sample(run_log(), NAMES)
    assert table["instance"] == ["a-0", "a-0", "a-0", "a-1"]
    assert table["ttft"] == [0.1, 0.2, 0.5, 0.2]
    assert table["tpot"][2] is None


def test_load_is_told_by_instance() -> None:
    table = where(load_over_time(run_log(), NAMES, ["a", "a"], bins=4), instance="a-0")  # 0.5 s each
    assert table["time_s"] == [0.25, 0.75, 1.25, 1.75]
    assert table["running"] == pytest.approx([(0.1 * 1 + 0.4 * 2) / 0.5, 3, 0, 0])
    assert table["running_max"] == [2, 3, 0, 0]
    assert table["kv"] == pytest.approx([0.18, 0.4, 0, 0])
    assert table["waiting_max"] == [1, 2, 0, 0]


def test_of_many_instances_each_pool_is_one_series() -> None:
    log = run_log(num_blocks=[100, 50] + [10] * 8)
    names, pools = [f"i-{i}" for i in range(10)], ["a", "b"] + ["b"] * 8
    table = load_over_time(log, names, pools, bins=4)
    assert set(table["instance"]) == {"a", "b"}
    assert where(table, instance="b")["running"] == pytest.approx([0, 0, 1 / 9, 1 / 9])
    assert where(table, instance="b")["running_max"] == [0, 0, 1, 1]


def test_later_stages_have_kv_and_no_requests_of_their_own() -> None:
    table = load_over_time(replace(run_log(), later_stages=frozenset({1})), NAMES, ["a", "a"], bins=4)
    stage = where(table, instance="a-1")
    assert set(stage["running"]) == {None}
    assert max(stage["kv"]) == 0.2


def test_throughput_adds_up_to_the_tokens_of_the_run() -> None:
    table = throughput_over_time(run_log(), bins=4)
    assert sum(table["input"]) * 0.5 == pytest.approx(100 + 200 + 50 + 300)
    assert sum(table["output"]) * 0.5 == pytest.approx(5 + 3 + 1 + 9)
    assert table["input"][0] == pytest.approx(300 / 0.5)
    # until 0.5: requests 0 and 1 have their first tokens, 4 of 4 more, and half of 2 more
    assert table["output"][0] == pytest.approx((1 + 4 + 1 + 1) / 0.5)
    assert sum(table["arrived"]) * 0.5 == pytest.approx(5)


def test_spans_follow_a_request_through_its_phases() -> None:
    table = where(request_spans(run_log(), NAMES), request="1")
    assert list(zip(table["phase"], table["time_s"], table["until_s"], strict=True)) == [
        ("queue", 0.1, 0.2),
        ("prefill", 0.2, 0.3),
        ("decode", 0.3, 0.7),
    ]


def test_a_rejected_request_is_a_moment() -> None:
    table = where(request_spans(run_log(), NAMES), request="3")
    assert rows(table)[0] | {"time_s": 0.6, "until_s": 0.6, "status": "rejected"} == rows(table)[0]


def test_kv_on_its_way_parts_prefill_from_decode() -> None:
    moved = HandoverRows(
        request=ints(1),
        source=ints(0),
        preemptions=ints(0),
        migrates=ints(0),
        stopped_s=floats(0.25),
        granted_s=floats(0.25),
        arrived_s=floats(0.28),
        bytes=floats(1e6),
    )
    table = where(request_spans(run_log(handovers=moved), NAMES), request="1")
    assert list(zip(table["phase"], table["time_s"], table["until_s"], strict=True)) == [
        ("queue", 0.1, 0.2),
        ("prefill", 0.2, 0.25),
        ("transfer", 0.25, 0.28),
        ("decode", 0.28, 0.7),
    ]


def test_of_many_requests_a_sample_is_shown() -> None:
    table = request_spans(run_log(), NAMES, limit=2)
    assert sorted(set(where(table, first=1)["request"])) == ["0", "3"]
    assert sorted(set(table["request"])) == ["0", "1", "2", "3", "4"]
    few = request_spans(run_log(), NAMES, limit=2, sample=3)
    assert sorted(set(few["request"])) == ["0", "2", "3", "4"]


def test_of_many_short_requests_those_around_the_slowest_are_shown() -> None:
    table = request_spans(replace(run_log(), end_s=1000.0), NAMES, limit=3)
    assert sorted(set(where(table, first=1)["request"])) == ["1", "2", "3"]  # the slowest is 2


def test_pools_have_the_time_of_their_own_steps() -> None:
    from handmade import facts

    told = pool_operators(run_log().steps, facts())
    assert [(o.pool, o.operator, o.seconds) for o in told] == [
        *(("pool-0", "qkv", 21), ("pool-0", "attention", 7)),
        *(("pool-1", "qkv", 27), ("pool-1", "attention", 9)),
    ]
    assert told[1].bounds == {"memory": 3.5, "compute": 3.5}


def test_ticks_of_a_logarithmic_axis_are_round_and_few() -> None:
    assert log_ticks(0.9, 21) == [1, 2, 5, 10, 20]
    assert log_ticks(1e-6, 1) == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
    assert len(log_ticks(1e-9, 1e12)) <= 7


def _logs() -> dict[str, RunLog]:
    alone = request_columns(
        first_token_s=floats(0.1, NAN, NAN, NAN, NAN),
        finish_s=floats(0.5, NAN, NAN, NAN, NAN),
        first_delivery_s=floats(0.1, NAN, NAN, NAN, NAN),
        last_delivery_s=floats(0.5, NAN, NAN, NAN, NAN),
        scheduled_s=floats(0.0, NAN, NAN, NAN, NAN),
        status=np.array([1, 3, 3, 3, 3], dtype=np.int8),
        instance=ints(0, -1, -1, -1, -1),
        output_tokens=ints(1, 0, 0, 0, 0),
    )
    refused = replace(
        empty_log(),
        requests=replace(
            empty_log().requests, arrival_s=floats(1.0, 2.0), status=np.array([3, 3], dtype=np.int8)
        ),
        end_s=2.0,
        complete=True,
    )
    return {
        "run": run_log(),
        "one served": run_log(requests=alone, gap_s=floats(), gap_weight=ints()),
        "all rejected": refused,
        "nothing happened": empty_log(),
    }


@pytest.mark.parametrize("name", _logs())
def test_every_figure_of_any_run_draws(name: str) -> None:
    """With an SLO for the whole run, of which one bound is far away; without for the others."""
    log = _logs()[name]
    kwargs = {"slo": Slo(ttft_s=0.3, tpot_s=100.0)} if name == "run" else {}
    figures = run_figures(run_data_of(log, **kwargs))
    names = [figure.name for figure in figures]
    assert len(names) == len(set(names))
    expected = {"run": 18, "one served": 16, "all rejected": 3, "nothing happened": 0}
    assert len(figures) == expected[name], names
    for figure in figures:
        picture = rendered(figure, "svg").decode()
        assert picture.startswith("<svg")
        assert figure.title in picture
        assert figure.description and length(figure.numbers)
        assert len({len(column) for column in figure.numbers.values()}) == 1


@pytest.mark.parametrize("format_", FORMATS)
def test_a_figure_is_written_in_every_format(format_: str) -> None:
    figure = run_figures(run_data_of())[0]
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF", "json": b"{"}
    assert rendered(figure, format_, dark=True).startswith(starts[format_])


def test_bounds_of_the_slo_are_drawn_and_judged() -> None:
    figures = {f.name: f for f in run_figures(run_data_of(slo=Slo(ttft_s=0.3, tpot_s=100.0)))}
    assert "SLO 300 ms at p99" in rendered(figures["ttft-cdf"], "svg").decode()
    assert "missed" in figures["ttft-cdf"].description
    assert "100 s, is far beyond" in figures["tpot-cdf"].note
    assert "SLO 300 ms" in rendered(figures["ttft-over-time"], "svg").decode()


def test_light_and_dark_differ_in_colours_alone() -> None:
    light, dark = theme.config(False), theme.config(True)
    assert len(set(theme.LIGHT)) == len(theme.LIGHT) == len(theme.DARK) == len(set(theme.DARK))

    def shape(value: Any) -> Any:
        return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value)

    assert shape(light) == shape(dark)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_the_first_colours_and_the_text_stand_out_from_the_ground(dark: bool) -> None:
    config = theme.config(dark, whole=True)
    ground = config["background"]
    assert all(_contrast(colour, ground) >= 3 for colour in config["range"]["category"][:4])
    assert _contrast(config["text"]["color"], ground) >= 7
    assert _contrast(config["axis"]["labelColor"], ground) >= 4.5


def test_figures_json_keeps_what_the_page_needs(tmp_path: Any) -> None:
    from tokensim.report.files import write_run

    data = run_data(run_log(), summary(), run_facts(), "model: tiny\n")
    write_run(tmp_path, summary=summary(), log=run_log(), scenario_yaml="model: tiny\n", facts=run_facts())
    assert json.loads((tmp_path / "figures.json").read_text())["tables"] == data.tables
    again = read_run(tmp_path)
    assert figures_json(again) == figures_json(data)
    assert again.scenario_yaml == "model: tiny\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "figures.json").unlink(), "has no figures.json"),
        (lambda folder: (folder / "figures.json").write_text("{"), "is no JSON"),
        (lambda folder: (folder / "figures.json").write_text('{"format": 99}'), "has format 99"),
        (lambda folder: (folder / "summary.json").unlink(), "has no summary.json"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Any, change: Any, message: str) -> None:
    from tokensim.report.files import write_run

    write_run(tmp_path, summary=summary(), log=run_log(), scenario_yaml="model: tiny\n", facts=run_facts())
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path)


def test_replicas_are_counted_while_they_serve() -> None:
    def life(up_s: float, gone_s: float | None) -> dict[str, Any]:
        return {"name": "r", "pool": "a", "born_s": 0.0, "up_s": up_s, "gone_s": gone_s, "failed": False}

    lives = [life(0.0, None), life(2.0, 5.0), life(4.0, 4.0), life(20.0, None)]
    figure = replicas_figure({"operations": {"replicas": lives}}, 10.0)
    assert figure is not None
    assert figure.datasets["replicas"] == {
        "time_s": [0, 2, 5, 10],
        "pool": ["a"] * 4,
        "replicas": [1, 2, 1, 1],
    }
    assert rendered(figure, "svg").startswith(b"<svg")
    assert replicas_figure({"operations": None}, 10.0) is None


def test_instances_that_do_not_stand_are_no_part_of_a_mean() -> None:
    standing = Standing(floats(0.0, 1.0), floats(1.0, np.inf))
    table = load_over_time(run_log(), NAMES, ["a", "a"], standing, bins=4)
    gone, late = (where(table, instance=name)["running"] for name in NAMES)
    assert gone[2:] == late[:2] == [None, None]
    assert (gone[1], late[2:]) == (3, [1, 1])


def test_work_is_counted_once_for_each_source_and_time_under_every_bound() -> None:
    operators = columns(
        pool=["a"] * 4,
        operator=["qkv", "qkv", "qkv", "host"],
        kind=["gemm", "gemm", "gemm", "host"],
        source=["exact", "exact", "fitted", "fitted"],
        bound=["compute", "memory", "compute", "host"],
        seconds=[2.0, 1.0, 1.0, 4.0],
        flops=[60.0, 60.0, 20.0, 0.0],
        bytes=[6.0, 6.0, 2.0, 0.0],
    )
    roofs = columns(pool=["a"], device=["d"], dtype=["bfloat16"], flops_per_s=[100.0], bytes_per_s=[10.0])
    figure = roofline_figure("a", operators, roofs, only=True)
    assert figure is not None
    assert figure.datasets["dots"] == {
        "operator": ["qkv"],
        "kind": ["gemm"],
        "intensity": [10],
        "rate": [20],
        "share": [0.5],
    }
    assert roofline_figure("b", operators, roofs, only=True) is None
