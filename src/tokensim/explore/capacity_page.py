"""The page of a capacity, ``report.html``: how close every run came to the SLO over the load, and the answer.

It is made from ``capacity.json``, which `tokensim capacity --output` leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokensim.explore.answer_files import Answer, Plain, read_answer
from tokensim.report.figures.base import Figure
from tokensim.report.figures.load_curve import Found, curve_figure, wide
from tokensim.report.figures.study import Axis, Words
from tokensim.report.numbers import count, duration, money, setting, share
from tokensim.report.page import Fold, Listing, Page, Section, Tile, render_page
from tokensim.report.series.base import Columns, columns

CAPACITY_ANSWER = "capacity.json"

LATENCIES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "End to end"), ("itl", "ITL"))
WHOLE, CLOSER = ("closeness", "At every load that was tried"), ("edge", "Near the edge")
"""Two views of the same."""

RUNS = "Every dot is a run, those of one seed joined: a circle met the SLO, a cross missed it."
NEAR = 0.12
"""Of the capacity: runs so near to it are drawn once more by themselves."""

LISTED = 200
"""Runs in the table, at most."""


def capacity_figures(kept: Answer) -> list[Figure]:
    """How far each bound is from being missed, and the latencies and throughput themselves, over the load."""
    answer = kept.plain
    runs = _curve(answer)
    if not runs:
        return []
    unit = answer["load"]["unit"]
    loads = [run["load"] for run in runs]
    x = Axis("load", f"load ({unit})", log=wide(loads))
    found = _found(answer)
    figures = [_closeness(answer, runs, x, found, WHOLE)]
    if found is not None:
        near = [run for run in runs if abs(run["load"] - found.value) <= NEAR * found.value]
        if 1 < len(near) < len(runs):
            figures.append(_closeness(answer, near, Axis(x.field, x.title), found, CLOSER))
    slo = answer["slo"]
    for metric, title in LATENCIES:
        bound = slo["bounds"].get(metric)
        table = _latency(runs, metric, slo["percentile"], bound is not None)
        if not table["series"] or (metric == "itl" and bound is None):
            continue
        values = [*table["latency"], *([bound] if bound else [])]
        words = Words(
            f"{metric}-over-load",
            f"{title} over the load",
            f"{title} by percentile at each load that was tried. {RUNS}"
            + (f" The dashed line is the SLO's bound, {setting(bound)}." if bound else ""),
        )
        figures.append(
            curve_figure(
                words,
                table,
                x,
                Axis("latency", title, log=wide(values), seconds=True, zero=not wide(values)),
                found=found,
                bound=bound,
                bound_label=f"SLO {setting(bound)}" if bound else "",
            )
        )
    figures.append(_throughput(runs, x, found))
    return figures


def _curve(answer: Plain) -> list[dict[str, Any]]:
    """The runs that are points of a curve: with a load, of the scenario's own length."""
    return [run for run in answer["tried"] if run["load"] is not None and run["times"] == 1]


def _found(answer: Plain) -> Found | None:
    """What is shaded: the interval, or with one seed the gap between the load met and the one missed."""
    value = answer["capacity"]
    if value is None:
        return None
    edge = answer["seeds"][0]
    low, high = answer["interval"] or (edge["met"], edge["missed"])
    return Found(low, high, value, f"capacity {value:,.4g}")


def _rows(runs: Sequence[Any], series: str) -> Columns:
    return {
        "load": [run["load"] for run in runs],
        "seed": [f"seed {run['seed']}" for run in runs],
        "series": [series] * len(runs),
        "verdict": ["met" if run["met"] else "missed" for run in runs],
    }


def _joined(parts: Sequence[Columns], *names: str) -> Columns:
    """``parts`` one under the other, with all of ``names`` even where there are none."""
    named = ("load", "seed", "series", "verdict", *names)
    return columns(**{name: [cell for part in parts for cell in part[name]] for name in named})


def _closeness(
    answer: Plain, runs: Sequence[Any], x: Axis, found: Found | None, named: tuple[str, str]
) -> Figure:
    """Each bound's figure over its limit; ``named``: what the figure is called."""
    parts = []
    for name in dict.fromkeys(name for run in runs for name in run["ratios"]):
        own = [run for run in runs if run["ratios"].get(name)]
        parts.append({**_rows(own, name), "ratio": [run["ratios"][name] for run in own]})
    table = _joined(parts, "ratio")
    ratios = [*table["ratio"], 1.0]
    lost = sum(not run["met"] and all((r or 0) <= 1 for r in run["ratios"].values()) for run in runs)
    shaded = "" if found is None else f" Shaded is {_shaded(answer)}."
    name, title = named
    return curve_figure(
        Words(
            name,
            title,
            "Each bound's figure over its limit: above 1 it is missed, and the highest line is what binds."
            f" {RUNS}{shaded}",
            f"{lost:,} runs missed although every bound held: requests were not served." if lost else "",
        ),
        table,
        x,
        Axis("ratio", "figure / limit", log=wide(ratios)),
        found=found,
        bound=1.0,
        bound_label="the limit",
    )


def _shaded(answer: Plain) -> str:
    if answer["interval"] is None:
        return "the gap between the highest load met and the lowest missed"
    return f"the {100 * answer['confidence']:.6g} % interval of the mean edge over seeds"


def _latency(runs: Sequence[Any], metric: str, percentile: float, bounded: bool) -> Columns:
    """The median and a high percentile of ``metric``: the one that is judged, if it is ``bounded``."""
    high = f"p{percentile:g}"
    names = {high: f"slo.bounds.{metric}.value_s"} if bounded else {"p99": f"latency.{metric}_s.p99"}
    parts = []
    for series, name in {**names, "p50": f"latency.{metric}_s.p50"}.items():
        own = [run for run in runs if run["figures"].get(name)]
        parts.append({**_rows(own, series), "latency": [run["figures"][name] for run in own]})
    return _joined(parts, "latency")


def _throughput(runs: Sequence[Any], x: Axis, found: Found | None) -> Figure:
    name = "throughput.output_tokens_per_s"
    own = [run for run in runs if run["figures"].get(name) is not None]
    table = {**_rows(own, "output tokens/s"), "rate": [run["figures"][name] for run in own]}
    return curve_figure(
        Words(
            "throughput-over-load",
            "Throughput over the load",
            f"Output tokens a second at each load that was tried. {RUNS} Where it no longer rises with the"
            " load, nothing is left.",
        ),
        columns(**table),
        x,
        Axis("rate", "output tokens/s", zero=True),
        found=found,
    )


def capacity_page(kept: Answer) -> str:
    """The HTML of the page of ``kept``, what ``capacity.json`` says."""
    answer, figures = kept.plain, capacity_figures(kept)
    close = tuple(figure for figure in figures if figure.name in (WHOLE[0], CLOSER[0]))
    listings = []
    if answer["seeds"]:
        listings.append(Listing("The edge, by seed", _edges(answer)))
    if answer["tried"]:
        listings.append(Listing("All runs", _all_runs(answer)))
    sections = [
        Section("curve", "How close to the SLO", close),
        Section("figures", "Latency and throughput", tuple(f for f in figures if f not in close)),
        Section(
            "runs",
            "Runs",
            intro="What was tried, in the order in which the search asked for it.",
            listings=tuple(listings),
            folds=(Fold("The scenario", kept.scenario),) if kept.scenario else (),
        ),
    ]
    return render_page(
        Page(
            title=f"{answer['title']}: capacity",
            lead=answer["statement"],
            lines=tuple((label, text) for label, text in answer["about"]),
            tiles=tuple(_tiles(answer)),
            sections=tuple(sections),
            notes=tuple(answer["notes"]),
        )
    )


def _tiles(answer: Plain) -> list[Tile]:
    value, interval, figures = answer["capacity"], answer["interval"], answer["figures"]
    unit = "" if answer["load"] is None else answer["load"]["unit"]
    tiles = []
    if value is not None:
        low, high = interval or (None, None)
        told = f"one seed: {answer['seeds'][0]['missed']:.4g} misses the SLO"
        if interval is not None:
            told = f"{100 * answer['confidence']:.6g} % interval {low:,.4g} to {high:,.4g}"
        lasts = answer.get("lasts", True)  # answers of earlier versions do not say
        told = told if lasts else f"{told}; not for long"
        tiles.append(Tile("Capacity", f"{value:,.4g} {unit}", told, good=lasts))
    else:
        tiles.append(Tile("Capacity", "-", answer["status"], good=False))
    if answer["bound"]:
        label = "Just above it" if value is not None else "Missed"
        tiles.append(Tile("What binds", answer["bound"], f"{label}: {answer['binding']}"))
    kinds = {name: value for name, value in figures.items() if name.startswith("time.by_bound.")}
    if kinds:
        name, most = max(kinds.items(), key=lambda item: item[1] or 0.0)
        kv = figures.get("usage.kv_max")
        tiles.append(
            Tile(
                "Steps are bound by",
                name.rsplit(".", 1)[-1],
                f"{share(most)} of their time; KV blocks in use: {share(kv)}",
            )
        )
    rate = figures.get("throughput.output_tokens_per_s")
    if value is not None and rate is not None:
        usd = figures.get("spending.usd_per_million_output_tokens")
        tiles.append(Tile("At it", f"{count(rate)} tok/s", f"{money(usd)} per million output tokens"))
    if answer["saturated_requests_per_s"] is not None:
        tiles.append(
            Tile("All at once", f"{answer['saturated_requests_per_s']:.4g} req/s", "are served, late or not")
        )
    tiles.append(Tile("Runs", f"{answer['runs']:,}", f"{len(answer['seeds'])} seeds"))
    return tiles


def _edges(answer: Plain) -> Columns:
    """A row a seed: the two sides of its edge, and the figures of its run at the load met."""
    rows = []
    for edge in answer["seeds"]:
        run = next((r for r in _curve(answer) if (r["seed"], r["load"]) == (edge["seed"], edge["met"])), None)
        rows.append((edge, {} if run is None else run["figures"]))
    return {
        "seed": [edge["seed"] for edge, _ in rows],
        "met": [_told(edge["met"]) for edge, _ in rows],
        "missed": [_told(edge["missed"]) for edge, _ in rows],
        **_figures([figures for _, figures in rows]),
    }


def _all_runs(answer: Plain) -> Columns:
    runs = answer["tried"][:LISTED]
    ratios = [[r if r is not None else math.inf for r in run["ratios"].values()] for run in runs]
    return {
        "seed": [run["seed"] for run in runs],
        "load": ["all at once" if run["load"] is None else _told(run["load"]) for run in runs],
        "requests": [f"{run['figures'].get('requests.total', 0):,}" for run in runs],
        "SLO": ["met" if run["met"] else "missed" for run in runs],
        "worst figure / limit": [f"{max(own):.3g}" if own else "-" for own in ratios],
        **_figures([run["figures"] for run in runs]),
    }


def _figures(runs: Sequence[Any]) -> Columns:
    """The figures of a table of runs."""
    named = (("TTFT p99", "ttft_s.p99"), ("TPOT p99", "tpot_s.p99"), ("E2E p50", "e2e_s.p50"))
    return {
        **{title: [duration(run.get(f"latency.{name}")) for run in runs] for title, name in named},
        "output tokens/s": [count(run.get("throughput.output_tokens_per_s")) for run in runs],
        "KV in use": [share(run.get("usage.kv_max")) for run in runs],
    }


def _told(load: float | None) -> str:
    return "-" if load is None else f"{load:,.4g}"


def read_capacity(folder: Path) -> Answer:
    """The answer in ``folder``; raises ``InputError``."""
    return read_answer(folder, CAPACITY_ANSWER)
