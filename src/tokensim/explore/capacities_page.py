"""The page of a study's capacities, ``report.html``: the capacity over the parameters, and what it costs.

It is made from ``study.yaml`` and ``capacity.parquet``, which `tokensim capacity STUDY` leaves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.explore.over import in_order, over_parameters
from tokensim.explore.study import STUDY_FILE, Study
from tokensim.explore.study_data import CONFIGURATION, OTHERS, in_words, short_names
from tokensim.report.figures.base import Figure
from tokensim.report.figures.coordinates import coordinates_figure
from tokensim.report.figures.front import front_figure
from tokensim.report.figures.study import Axis, Words
from tokensim.report.numbers import NOTHING, count, duration, money
from tokensim.report.page import Fold, Listing, Page, Section, Tile, render_page
from tokensim.report.page.page import cell_text
from tokensim.report.series.base import Columns, columns, length
from tokensim.scenario import yaml_text

if TYPE_CHECKING:
    import polars as pl

CAPACITY_FILE = "capacity.parquet"

LOW, HIGH = "interval low", "interval high"
HOURLY, PER_DOLLAR, PER_MILLION = "US$ an hour", "capacity per US$", "US$ per million output tokens"
OWN = ("capacity", CONFIGURATION, OTHERS)
"""Columns that no parameter may be called."""

AT = (
    ("at.latency.ttft_s.p99", "TTFT p99 at it"),
    ("at.latency.tpot_s.p99", "TPOT p99 at it"),
    ("at.throughput.output_tokens_per_s", "output tokens/s at it"),
)
"""Figures of the run at the capacity, and their titles."""


@dataclass(frozen=True)
class CapacitiesData:
    """A study and its table of capacities, one row a configuration."""

    study: Study
    frame: pl.DataFrame

    @cached_property
    def found(self) -> pl.DataFrame:
        """The configurations that have a capacity."""
        import polars as pl

        return self.frame.filter(pl.col("capacity").is_not_null())

    @property
    def unit(self) -> str:
        """Of the capacities."""
        units = list(dict.fromkeys(self.found["unit"].to_list()))
        return units[0] if len(units) == 1 else "load"

    @cached_property
    def titles(self) -> dict[str, str]:
        """The parameters that vary (or the first), by their short names."""
        names = [parameter.name for parameter in self.study.parameters]
        varied = [name for name in names if self.frame[name].n_unique() > 1] or names[:1]
        short = [f"{name} (parameter)" if name in OWN else name for name in short_names(varied)]
        return dict(zip(varied, short, strict=True))

    @cached_property
    def table(self) -> Columns:
        """What was found, by the titles of the columns; costs only where devices have a price."""
        found = self.found
        table = columns(**{title: found[name].to_list() for name, title in self.titles.items()})
        table[CONFIGURATION] = in_words(table, list(self.titles.values()))
        named = {"capacity": "capacity", LOW: "interval_low", HIGH: "interval_high", **{t: n for n, t in AT}}
        table |= columns(**{title: _cells(found, name) for title, name in named.items()})
        hourly = [
            usd / seconds * 3600 if usd and seconds else None
            for usd, seconds in zip(
                _cells(found, "at.spending.usd"), _cells(found, "at.makespan_s"), strict=True
            )
        ]
        if any(hourly):
            capacities = found["capacity"].to_list()
            per_dollar = [c / usd if usd else None for c, usd in zip(capacities, hourly, strict=True)]
            per_million = _cells(found, "at.spending.usd_per_million_output_tokens")
            table |= columns(**{HOURLY: hourly, PER_DOLLAR: per_dollar, PER_MILLION: per_million})
        return table


def _cells(frame: pl.DataFrame, name: str) -> list[float | None]:
    return frame[name].to_list() if name in frame.columns else [None] * len(frame)


def capacities_figures(data: CapacitiesData) -> list[Figure]:
    """The capacity over the parameters, then against its price, and everything at once."""
    parameters = list(data.titles.values())
    if not length(data.table):
        return []
    table, along = in_order(data.table, parameters)
    spread = (LOW, HIGH) if any(cell is not None for cell in table[LOW]) else None
    told = " Lines from its value reach over the interval of the mean edge over seeds." if spread else ""
    unit = data.unit
    capacity = Axis("capacity", f"capacity ({unit})", zero=True)
    figures = [
        over_parameters(
            Words("capacity", "Capacity", f"The highest load that keeps the SLO, in {unit}.{told}"),
            table,
            parameters,
            along,
            capacity,
            spread,
        )
    ]
    if PER_DOLLAR in table:
        figures += _priced(table, parameters, along, unit)
    if length(table) > 2:
        there = [name for _, name in AT if any(table[name])]
        axes = [Axis(name, name) for name in (*parameters, "capacity")]
        axes += [Axis(name, name, seconds=name.startswith("T")) for name in there]
        axes += [Axis(name, name) for name in (HOURLY, PER_MILLION) if name in table]
        words = Words(
            "coordinates",
            "Parameters and figures",
            "A line for each configuration, through its parameters, its capacity, and the figures of the run"
            " there; each axis runs from the lowest value below to the highest above.",
        )
        figures.append(coordinates_figure(words, table, axes, "capacity"))
    return figures


def _priced(table: Columns, parameters: list[str], along: str | None, unit: str) -> list[Figure]:
    figures = [
        over_parameters(
            Words(
                "capacity-per-dollar",
                "Capacity for the money",
                f"The capacity in {unit} for each US$ that the devices cost an hour.",
            ),
            table,
            parameters,
            along,
            Axis(PER_DOLLAR, f"{unit} per US$ an hour", zero=True),
        ),
        over_parameters(
            Words(
                "price",
                "Price of output tokens at capacity",
                "What a million output tokens cost when the load is the highest that keeps the SLO.",
            ),
            table,
            parameters,
            along,
            Axis(PER_MILLION, PER_MILLION, zero=True),
        ),
    ]
    if length(table) > 2 and len(set(table[HOURLY])) > 1:
        words = Words(
            "capacity-and-price",
            "Capacity against price",
            "A dot for each configuration; those on the line bear more than any that is as cheap.",
        )
        x, y = Axis("capacity", f"capacity ({unit})"), Axis(HOURLY, HOURLY)
        figures.append(front_figure(words, table, x, y, CONFIGURATION, more_x=True))
    return figures


def capacities_page(data: CapacitiesData) -> str:
    """The HTML of the page."""
    file, figures = data.study.file, capacities_figures(data)
    over = tuple(f for f in figures if f.name in ("capacity", "capacity-per-dollar", "price"))
    rest = tuple(f for f in figures if f not in over)
    sections = (
        Section("figures", "By parameter", over, intro=file.description),
        Section("together", "What can be had together", rest),
        Section(
            "configurations",
            "Configurations",
            listings=(Listing("Capacities", _listed(data)),),
            folds=(Fold("The study", yaml_text.dump(data.study.to_dict())),),
        ),
    )
    return render_page(
        Page(
            title=f"{file.name or 'Study'}: capacity",
            lines=(
                ("parameters", "; ".join(parameter.name for parameter in data.study.parameters)),
                ("method", f"{file.method}, {data.study.configurations:,} configurations"),
            ),
            tiles=tuple(_tiles(data)),
            sections=sections,
            notes=tuple(_notes(data.frame["notes"].to_list())),
        )
    )


def _notes(texts: list[str | None]) -> list[str]:
    """What to mind: of notes that differ in their numbers alone the first, and of how many it is."""
    kinds: dict[str, list[str]] = {}
    for text in texts:
        for note in text.split("; ") if text else ():
            kinds.setdefault(re.sub(r"[\d.,]+", "#", note), []).append(note)
    return [
        own[0] + (f" (and {len(own) - 1:,} configurations more, with other numbers)" if own[1:] else "")
        for own in kinds.values()
    ]


def _tiles(data: CapacitiesData) -> list[Tile]:
    table = data.table
    tiles = []
    if length(table):
        best = max(range(length(table)), key=lambda row: table["capacity"][row])
        value = f"{table['capacity'][best]:,.4g} {data.unit}"
        tiles.append(Tile("Highest capacity", value, table[CONFIGURATION][best]))
    if PER_DOLLAR in table:
        priced = [row for row in range(length(table)) if table[PER_DOLLAR][row] is not None]
        best = max(priced, key=lambda row: table[PER_DOLLAR][row])
        told = f"{table[PER_DOLLAR][best]:,.3g} {data.unit}"
        tiles.append(Tile("Most per US$ an hour", told, table[CONFIGURATION][best]))
        best = min(priced, key=lambda row: table[PER_MILLION][row])
        told = money(table[PER_MILLION][best])
        tiles.append(Tile("Least for a million output tokens", told, table[CONFIGURATION][best]))
    total, found = len(data.frame), len(data.found)
    told = f"of {total:,}; {data.frame['runs'].sum():,} runs"
    tiles.append(Tile("Capacities found", f"{found:,}", told, found == total))
    return tiles


def _listed(data: CapacitiesData) -> Columns:
    """A row for each configuration, those without a capacity too."""
    frame = data.frame
    listed: Columns = {
        title: [cell_text(cell) for cell in frame[name]] for name, title in data.titles.items()
    }
    listed["capacity"] = [NOTHING if c is None else f"{c:,.4g}" for c in frame["capacity"]]
    listed["interval"] = [
        NOTHING if low is None else f"{low:,.4g} to {high:,.4g}"
        for low, high in zip(frame["interval_low"], frame["interval_high"], strict=True)
    ]
    what = zip(frame["status"], frame["bound"], frame["error"], strict=True)
    listed["bound"] = [
        bound if status == "found" else f"{status}: {error or bound}".rstrip(": ")
        for status, bound, error in what
    ]
    for name, title in AT:
        kind = duration if "_s." in name else count
        listed[title] = [kind(cell) for cell in _cells(frame, name)]
    prices = _cells(frame, "at.spending.usd_per_million_output_tokens")
    there = zip(prices, frame["status"], strict=True)
    listed[PER_MILLION] = [money(cell if status == "found" else None) for cell, status in there]
    listed["runs"] = frame["runs"].to_list()
    return listed


def read_capacities(folder: Path) -> CapacitiesData:
    """The study and the capacities that ``folder`` holds."""
    import polars as pl

    return CapacitiesData(Study.from_yaml(folder / STUDY_FILE), pl.read_parquet(folder / CAPACITY_FILE))
