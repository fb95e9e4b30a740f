"""What the run cost: money and energy of each pool; and how full the links of the network were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokensim.report.figures.base import Figure, Spec
from tokensim.report.figures.parts import category
from tokensim.report.numbers import energy, money, share, volume
from tokensim.report.series.base import columns

ENERGY = ("prefill", "idle", "decode")
"""Phases of energy; prefill and decode have the colours that they have elsewhere."""

MOST_LINKS = 12
"""Links drawn, the fullest first."""


def _pools_axis(pools: list[str], title: str | None = "pool") -> Spec:
    return {
        "field": title or "link",
        "type": "nominal",
        "sort": pools,
        "title": title,
        "axis": {"grid": False, "labelLimit": 170, "labelOverlap": False},
        "scale": {"paddingInner": 0.3},
    }


def cost_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Money by pool: devices and, where it has a price, electricity; None if nothing was spent."""
    pools = summary["spending"]["pools"]
    parts = [
        (pool["pool"], part, pool["account"][key])
        for pool in pools
        for part, key in (("devices", "devices_usd"), ("electricity", "electricity_usd"))
        if pool["account"][key]
    ]
    if not parts:
        return None
    table = columns(
        pool=[p for p, _, _ in parts], part=[p for _, p, _ in parts], usd=[u for _, _, u in parts]
    )
    table["text"] = [money(usd) for usd in table["usd"]]
    bars: Spec = {
        "data": {"name": "cost"},
        "mark": {"type": "bar", "cornerRadiusEnd": 2},
        "encoding": {
            "y": _pools_axis([pool["pool"] for pool in pools]),
            "x": {
                "field": "usd",
                "type": "quantitative",
                "stack": "zero",
                "title": "cost of the run (USD)",
                "axis": {"format": "$~g", "tickCount": 5},
            },
            "color": category("part", ("devices", "electricity"), set(table["part"])),
            "tooltip": [
                {"field": "pool", "title": "pool"},
                {"field": "part", "title": "for"},
                {"field": "text", "title": "cost"},
            ],
        },
    }
    accounts = [pool["account"] for pool in pools]
    return Figure(
        name="cost",
        title="Cost",
        description=f"Money by pool over the run, {money(summary['spending']['usd'])} in all.",
        spec={"height": 44 * len(pools), "layer": [bars]},
        datasets={"cost": table},
        numbers={
            "pool": [pool["pool"] for pool in pools],
            "cost": [money(a["usd"]) for a in accounts],
            "per million input tokens": [money(a["usd_per_million_input_tokens"]) for a in accounts],
            "per million output tokens": [money(a["usd_per_million_output_tokens"]) for a in accounts],
            "per million tokens": [money(a["usd_per_million_total_tokens"]) for a in accounts],
        },
    )


def energy_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Energy by pool and phase; None if none was drawn."""
    pools = summary["spending"]["pools"]
    parts = [
        (pool["pool"], phase, pool["account"]["energy_kwh_by_phase"].get(phase, 0.0))
        for pool in pools
        for phase in ENERGY
    ]
    parts = [part for part in parts if part[2]]
    if not parts:
        return None
    table = columns(
        pool=[p for p, _, _ in parts],
        phase=[p for _, p, _ in parts],
        kwh=[e for _, _, e in parts],
        order=[("prefill", "decode", "idle").index(p) for _, p, _ in parts],
    )
    bars: Spec = {
        "data": {"name": "energy"},
        "transform": [{"calculate": "datum.kwh * 1000", "as": "wh"}],
        "mark": {"type": "bar", "cornerRadiusEnd": 2},
        "encoding": {
            "y": _pools_axis([pool["pool"] for pool in pools]),
            "x": {
                "field": "wh",
                "type": "quantitative",
                "stack": "zero",
                "title": "energy of the run (Wh)",
                "axis": {"labelExpr": "format(datum.value, '~s')", "tickCount": 5},
            },
            "color": category("phase", ENERGY, set(table["phase"])),
            "order": {"field": "order"},
            "tooltip": [
                {"field": "pool", "title": "pool"},
                {"field": "phase", "title": "phase"},
                {"field": "wh", "title": "Wh", "format": ",.4~r"},
            ],
        },
    }
    whole = summary["spending"]["energy_kwh"]
    return Figure(
        name="energy",
        title="Energy",
        description=f"Energy of the devices by pool and phase, {energy(whole)} in all.",
        spec={"height": 44 * len(pools), "layer": [bars]},
        datasets={"energy": table},
        numbers={
            "pool": table["pool"],
            "phase": table["phase"],
            "energy": [energy(kwh) for kwh in table["kwh"]],
            "share": [share(kwh / whole) for kwh in table["kwh"]],
        },
    )


def links_figure(summary: Mapping[str, Any]) -> Figure | None:
    """How full each link was; None if nothing was sent."""
    links = [link for link in summary.get("links") or () if link["used_share"] is not None]
    if not links:
        return None
    few = links[:MOST_LINKS]
    table = columns(
        link=[link["name"] for link in few],
        used=[link["used_share"] for link in few],
        busy=[link["busy_share"] for link in few],
        bytes=[link["bytes"] for link in few],
        peak=[link["peak_transfers"] for link in few],
    )
    kinds = ("bytes of its bandwidth", "time with a transfer")
    bars: Spec = {
        "data": {"name": "links"},
        "transform": [
            {"calculate": "datum.used", "as": kinds[0]},
            {"calculate": "datum.busy", "as": kinds[1]},
            {"fold": list(kinds), "as": ["what", "share"]},
        ],
        "mark": {"type": "bar", "cornerRadiusEnd": 2},
        "encoding": {
            "y": _pools_axis(table["link"], None),
            "yOffset": {"field": "what", "sort": list(kinds)},
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": "share",
                "scale": {"domain": [0, 1]},
                "axis": {"format": ".0%", "tickCount": 5},
            },
            "color": category("what", kinds),
            "tooltip": [
                {"field": "link", "title": "link"},
                {"field": "what", "title": "share of"},
                {"field": "share", "title": "share", "format": ".2%"},
                {"field": "bytes", "title": "bytes", "format": ".3s"},
                {"field": "peak", "title": "transfers at once, at most"},
            ],
        },
    }
    return Figure(
        name="links",
        title="Links",
        description="Of each link: the share of its bandwidth that was used, and of the time it was in use.",
        spec={"height": 34 * len(few), "layer": [bars]},
        datasets={"links": table},
        numbers={
            "link": table["link"],
            "moved": [volume(moved) for moved in table["bytes"]],
            "of its bandwidth": [share(used) for used in table["used"]],
            "busy": [share(busy) for busy in table["busy"]],
            "transfers at once": table["peak"],
        },
        note=f"The fullest {len(few)} of {len(links)} links." if len(few) < len(links) else "",
    )
