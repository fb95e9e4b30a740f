"""Pages of a capacity, a comparison and a sensitivity show what their files say."""

from __future__ import annotations

from typing import Any

import pytest

from tokensim.explore.answer_files import Answer
from tokensim.explore.capacity_page import capacity_figures, capacity_page
from tokensim.explore.comparison_page import TILES, comparison_figures, comparison_page, worth_of
from tokensim.explore.key_figures import KEY_FIGURES
from tokensim.explore.sensitivity_page import sensitivity_figures, sensitivity_page
from tokensim.report.figures.base import Figure

ABOUT = {"title": "Chat & more", "about": [["model", "tiny"]]}


def tried(load: float | None, met: bool, ttft: float, seed: int = 0, times: int = 1) -> dict[str, Any]:
    figures = {"slo.bounds.ttft.value_s": ttft, "latency.ttft_s.p50": ttft / 2, "latency.ttft_s.p99": ttft}
    figures |= {"throughput.output_tokens_per_s": 100.0, "requests.total": 60 * times}
    return {
        "seed": seed,
        "load": load,
        "times": times,
        "met": met,
        "ratios": {"TTFT p90": ttft / 0.5},
        "figures": figures,
    }


def capacity(**changes: Any) -> Answer:
    """Of two seeds, one of which met 9 and one 11."""
    plain: dict[str, Any] = {
        **ABOUT,
        "slo": {"percentile": 90.0, "bounds": {"ttft": 0.5}},
        "statement": "Capacity: 10 requests/s.",
        "status": "found",
        "load": {"kind": "rate", "unit": "requests/s"},
        "capacity": 10.0,
        "interval": [8.0, 13.0],
        "confidence": 0.95,
        "seeds": [{"seed": 0, "met": 9.0, "missed": 9.2}, {"seed": 1, "met": 11.0, "missed": 11.2}],
        "bound": "TTFT p90",
        "binding": "TTFT p90 600 ms, bound 500 ms",
        "saturated_requests_per_s": 14.0,
        "notes": ["too <short>"],
        "runs": 8,
        "figures": {"time.by_bound.memory": 0.7, "time.by_bound.host": 0.3},
        "tried": [
            tried(2.0, True, 0.05),
            tried(None, False, 9.0),
            tried(40.0, False, 8.0),
            tried(9.0, True, 0.45),
            tried(9.2, False, 0.6),
            tried(11.0, True, 0.49, seed=1),
            tried(11.2, False, 0.55, seed=1),
            tried(8.0, True, 0.4, times=2),
        ],
    }
    return Answer({**plain, **changes}, "model: tiny\n")


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    assert len({figure.name for figure in figures}) == len(figures)
    return {figure.name: figure for figure in figures}


def test_a_capacity_draws_every_run_of_the_scenarios_length_at_its_load() -> None:
    figures = by_name(capacity_figures(capacity()))
    runs = figures["closeness"].datasets["runs"]
    assert runs["load"] == [2, 40, 9, 9.2, 11, 11.2]  # not all at once, not twice the requests
    assert runs["ratio"] == pytest.approx([0.1, 16, 0.9, 1.2, 0.98, 1.1])
    assert runs["verdict"] == ["met", "missed", "met", "missed", "met", "missed"]
    assert figures["closeness"].datasets["found"]["low"] == [8]
    assert figures["edge"].datasets["runs"]["load"] == [9, 9.2, 11, 11.2]
    latency = figures["ttft-over-load"].datasets["runs"]
    assert set(latency["series"]) == {"p90", "p50"}
    assert "tpot-over-load" not in figures


def test_a_capacity_of_one_seed_shades_the_gap_of_its_search() -> None:
    one = capacity(interval=None, seeds=[{"seed": 0, "met": 9.0, "missed": 9.2}], capacity=9.0)
    found = by_name(capacity_figures(one))["closeness"].datasets["found"]
    assert (found["low"], found["high"]) == ([9], [9.2])
    assert "one seed: 9.2 misses the SLO" in capacity_page(one)


def test_the_page_of_a_capacity_says_what_was_found_and_minds() -> None:
    page = capacity_page(capacity())
    for text in (
        *("Capacity: 10 requests/s.", "95 % interval 8 to 13", "What binds", "too &lt;short&gt;"),
        *("Chat &amp; more", "all at once", '<td class="right">120</td>', "70.0 %"),
    ):
        assert text in page, text
    assert "https://" not in page.split("<script")[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"capacity": None, "interval": None, "status": "none", "seeds": []},
        {
            "capacity": None,
            "interval": None,
            "status": "unbounded",
            "seeds": [{"seed": 0, "met": None, "missed": None}],
        },
        {"capacity": None, "interval": None, "status": "failed", "seeds": [], "tried": [], "bound": ""},
        {"load": None, "capacity": None, "interval": None, "status": "refused", "seeds": [], "tried": []},
    ],
)
def test_a_page_without_a_capacity_says_so(changes: dict[str, Any]) -> None:
    page = capacity_page(capacity(**changes))
    assert changes["status"] in page


def gap(relative: float | None, real: bool | None, *, equal: bool = False) -> dict[str, Any]:
    interval = None if real is None or relative is None else [relative - 0.1, relative + 0.1]
    return {"relative": relative, "interval": interval, "p": 0.01, "real": real, "equal": equal}


def row(title: str, better: str | None, against: dict[str, Any] | None) -> dict[str, Any]:
    return {"title": title, "better": better, "means": {"a": 1.0, "b": 2.0}, "against_first": {"b": against}}


def comparison(seeds: int = 3) -> Answer:
    sure = True if seeds > 1 else None
    plain = {
        **ABOUT,
        "statement": "b differs from a.",
        "sides": [{"name": name, "seeds": list(range(seeds))} for name in "ab"],
        "confidence": 0.95,
        "differences": {"engine.max_num_seqs": {"a": None, "b": 8}},
        "figures": {
            "latency.ttft_s.p99": row("TTFT p99", "less", gap(1.0, sure)),
            "throughput.output_tokens_per_s": row("output tokens/s", "more", gap(0.2, sure)),
            "usage.kv_mean": row("KV use mean", None, gap(-0.5, sure)),
            "latency.tpot_s.p99": row("TPOT p99", "less", gap(0.01, False if sure else None)),
            "preemptions": row("preemptions", "less", gap(None, sure)),
            "latency.itl_s.p99": row("ITL p99", "less", None),
        },
    }
    return Answer(plain, "model: tiny\n")


def test_differences_are_told_by_what_they_are_worth() -> None:
    (figure,) = comparison_figures(comparison())
    table = figure.datasets["effects"]
    assert table["what"] == ["TTFT p99", "output tokens/s", "KV use mean", "TPOT p99"]
    assert table["worth"] == ["worse", "better", "different", "not told apart"]
    assert table["low"] == pytest.approx([0.9, 0.1, -0.6, -0.09])
    assert worth_of(gap(0.0, True, equal=True), "less") == "not told apart"


def test_the_tiles_of_a_comparison_are_figures_that_are_compared() -> None:
    assert set(TILES) <= {figure.name for figure in KEY_FIGURES}


def test_single_runs_have_no_lines_and_no_verdict() -> None:
    (figure,) = comparison_figures(comparison(1))
    assert set(figure.datasets["effects"]["low"]) == {None}
    assert set(figure.datasets["effects"]["worth"]) == {"not told apart"}
    assert "how much of a difference is noise is not known" in figure.description


def test_the_page_of_a_comparison_lists_paths_and_all_figures() -> None:
    page = comparison_page(comparison())
    for text in (
        *("engine.max_num_seqs", "b differs from a.", "+100.0% (+90.0% to +110.0%)", "real", "noise"),
        *("preemptions", "Output tokens/s", "3 from 0"),
    ):
        assert text in page, text


def one(value: float, half: float | None = 0.1) -> dict[str, Any]:
    return {"value": value, "half_width": half, "effect": 1.1**value - 1}


def sensitivity(**changes: Any) -> Answer:
    plain = {
        **ABOUT,
        "change": 0.1,
        "confidence": 0.95,
        "seeds": [0, 1],
        "load": "the given load",
        "baseline": {"output tokens/s": 100.0, "TTFT p99": 0.2, "E2E p50": 1.5},
        "elasticities": {
            "bandwidth": {"output tokens/s": one(0.05), "TTFT p99": None, "E2E p50": one(-0.9)},
            "compute": {"output tokens/s": one(0.4), "TTFT p99": one(0.3), "E2E p50": one(-0.2, None)},
        },
        "without_effect": ["host"],
        "main": "E2E p50",
        "bottleneck": "E2E p50 is bound by memory bandwidth.",
        "notes": [],
        "runs": 10,
    }
    return Answer({**plain, **changes}, "model: tiny\n")


def test_a_tornado_for_each_figure_the_main_one_first() -> None:
    figures = sensitivity_figures(sensitivity())
    assert [f.name for f in figures] == [
        *("tornado-e2e-p50", "tornado-output-tokens-s", "tornado-ttft-p99", "elasticities")
    ]
    main = figures[0].datasets["effects"]
    assert main["what"] == ["memory bandwidth", "compute rate"]
    assert main["effect"] == pytest.approx([1.1**-0.9 - 1, 1.1**-0.2 - 1], rel=1e-4)
    assert main["low"] == [pytest.approx(1.1**-1.0 - 1, rel=1e-4), None]
    assert main["high"] == [pytest.approx(1.1**-0.8 - 1, rel=1e-4), None]
    assert main["worth"] == ["better", "better"]
    tokens = dict(zip(*(figures[1].datasets["effects"][n] for n in ("what", "worth")), strict=True))
    assert tokens == {"compute rate": "better", "memory bandwidth": "not told apart"}
    assert figures[2].datasets["effects"]["worth"] == ["worse"]
    assert len(figures[3].datasets["cells"]["elasticity"]) == 5


def test_worse_devices_have_their_intervals_the_right_way_round() -> None:
    table = sensitivity_figures(sensitivity(change=-0.1))[1].datasets["effects"]
    assert all(low < high for low, high in zip(table["low"], table["high"], strict=True))


def test_the_page_of_a_sensitivity_begins_with_the_bottleneck() -> None:
    page = sensitivity_page(sensitivity())
    body = page[page.index("<main") :]
    assert body.index("bound by memory bandwidth.") < body.index("1.50 s")
    assert "<dt>no effect</dt><dd>host speed</dd>" in body
    nothing = sensitivity_page(sensitivity(elasticities={}))
    assert "host speed" in nothing and "figure-tornado" not in nothing
