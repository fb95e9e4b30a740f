"""The page of a run, ``report.html``: what to see first, its figures, its scenario and where times come
from."""

from __future__ import annotations

from typing import Any

from tokensim.report.figures.run import latency_figures, money_figures, time_figures, timed_figures
from tokensim.report.numbers import count, duration, energy, money, setting, share
from tokensim.report.page import Filter, Fold, Listing, Page, Section, Tile, render_page
from tokensim.report.page.filters import filter_of
from tokensim.report.series.base import Columns
from tokensim.report.series.run import RunData

LATENCIES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "End to end"))


def run_page(data: RunData) -> str:
    """The HTML of the page of the run."""
    summary = data.summary
    load = data.tables["load"]["instance"]
    sections = (
        Section(
            "latency",
            "Latency",
            tuple(latency_figures(data)),
            intro="Shares of requests (ITL: of gaps between tokens) within a time, as the client sees it.",
        ),
        Section(
            "over-time",
            "Over time",
            tuple(timed_figures(data)),
            instances=tuple(dict.fromkeys(load)),
            choice="Instance" if set(load) <= set(data.instances) else "Pool",
            filters=_tenants(data),
        ),
        Section("time", "Where the time went", tuple(time_figures(data))),
        Section("cost", "Cost, energy, network", tuple(money_figures(data))),
        Section(
            "scenario",
            "Scenario and sources",
            listings=(
                *_listed("Requests", _outcomes(summary)),
                *_listed("Where operator times come from", _sources(summary)),
            ),
            folds=(Fold("The scenario, with every default filled in", data.scenario_yaml),),
        ),
    )
    requests = summary["requests"]
    return render_page(
        Page(
            title=data.title,
            lines=data.lines,
            tiles=tuple(_tiles(summary)),
            sections=sections,
            warning=""
            if summary["complete"]
            else f"Partial results: interrupted at {duration(summary['simulated_s'])} of simulated time,"
            f" with {requests['unfinished']:,} of {requests['total']:,} requests not finished.",
            notes=tuple(summary["notes"]),
        )
    )


def _tenants(data: RunData) -> tuple[Filter, ...]:
    """The choice of a tenant, among those of the requests that are drawn one by one."""
    drawn = [data.tables[name].get("tenant", []) for name in ("sample", "spans")]
    choice = filter_of("Requests of tenant", "tenant", [tenant for column in drawn for tenant in column])
    return () if choice is None else (choice,)


def _tiles(summary: Any) -> list[Tile]:
    slo = summary["slo"]
    bounds = {bound["metric"]: bound for bound in slo["bounds"]} if slo else {}
    tiles = []
    for metric, label in LATENCIES:
        told, bound = summary["latency"][f"{metric}_s"], bounds.get(metric)
        detail, good = f"p50 {duration(told['p50'])}", None
        which, value = "p99", told["p99"]
        if bound:
            good, value, which = bound["met"], bound["value_s"], f"p{slo['percentile']:g}"
            verdict = {True: "met", False: "missed", None: "not judged"}[good]
            detail += f" · SLO {setting(bound['bound_s'])} {verdict}"
        tiles.append(Tile(f"{label}, {which}", duration(value), detail, good))
    rate, requests, spending = summary["throughput"], summary["requests"], summary["spending"]
    tiles.append(
        Tile(
            "Throughput",
            f"{count(rate['output_tokens_per_s'])} tok/s",
            f"out; {count(rate['input_tokens_per_s'])} in, {count(rate['requests_per_s'])} requests/s",
        )
    )
    if slo:
        tiles.append(
            Tile(
                "Goodput",
                f"{count(slo['goodput_per_s'])} req/s",
                f"{share(slo['good_share'])} of requests in the SLO",
                slo["met"],
            )
        )
    served = requests["finished"] + requests["truncated"]
    tiles += [
        Tile(
            "Requests served",
            count(served),
            f"of {count(requests['total'])} in {duration(summary['makespan_s'])}",
            None if served == requests["total"] else False,
        ),
        Tile(
            "Cost",
            money(spending["usd"]),
            f"{money(spending['usd_per_million_total_tokens'])} per million tokens",
        ),
        Tile(
            "Energy",
            energy(spending["energy_kwh"]),
            f"{count(spending['mean_power_w'])} W on average",
        ),
    ]
    return tiles


def _outcomes(summary: Any) -> Columns:
    requests = summary["requests"]
    kept = [name for name in requests if requests[name] or name in ("total", "finished")]
    return {"outcome": kept, "requests": [f"{requests[name]:,}" for name in kept]}


def _sources(summary: Any) -> Columns:
    """The operators with how their times are known, the longest first."""
    operators = [o for o in summary["time"]["operators"] if o["seconds"]]
    return {
        "operator": [o["operator"] for o in operators],
        "kind": [o["kind"] for o in operators],
        "time": [duration(o["seconds"]) for o in operators],
        "share": [share(o["share"]) for o in operators],
        "known": [o["source"] for o in operators],
    }


def _listed(title: str, table: Columns) -> tuple[Listing, ...]:
    return (Listing(title, table),) if any(table.values()) else ()
