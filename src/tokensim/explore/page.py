"""The page of a study, ``report.html``: what it varies and what comes of it, in figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.explore.figures import in_seconds
from tokensim.explore.results import RESULTS_FILE
from tokensim.explore.study import STUDY_FILE, Study
from tokensim.report.figures.base import Figure, thinned
from tokensim.report.figures.coordinates import coordinates_figure
from tokensim.report.figures.front import front_figure
from tokensim.report.figures.study import Axis, Words, bar_figure, heat_map, line_figure
from tokensim.report.page import Fold, Listing, Page, Section, Tile, render_page
from tokensim.report.series.base import Columns, columns
from tokensim.scenario import yaml_text

if TYPE_CHECKING:
    import polars as pl

SHOWN = (
    ("throughput.output_tokens_per_s", "output tokens/s"),
    ("latency.ttft_s.p99", "TTFT p99"),
    ("latency.tpot_s.p99", "TPOT p99"),
    ("latency.e2e_s.p99", "end to end p99"),
    ("slo.goodput_per_s", "goodput (requests/s)"),
    ("spending.usd_per_million_total_tokens", "US$ per million tokens"),
)
"""Figures that are drawn over the parameters, and their titles."""

FRONTS = (
    ("spending.usd_per_million_total_tokens", "latency.ttft_s.p99", False),
    ("spending.usd_per_million_total_tokens", "latency.tpot_s.p99", False),
    ("throughput.output_tokens_per_s", "latency.tpot_s.p99", True),
)
"""What is drawn against each other, and whether more of the first is better."""

LINES, CELLS, BARS = 8, 400, 40
"""Lines, cells of a heat map, and bars, at most."""


@dataclass(frozen=True, slots=True)
class StudyData:
    """A study and its table, with one row a configuration: figures are means over its seeds."""

    study: Study
    frame: pl.DataFrame

    @property
    def names(self) -> list[str]:
        """The parameters, as columns."""
        return [parameter.name for parameter in self.study.parameters]

    @property
    def shown(self) -> list[tuple[str, str]]:
        """The figures of ``SHOWN`` that there are."""
        return [
            (name, title) for name, title in SHOWN if name in self.frame.columns and self.frame[name].count()
        ]

    def configurations(self) -> pl.DataFrame:
        """One row a configuration whose runs are all ok."""
        import polars as pl

        means = [pl.col(name).mean() for name, _ in self.shown]
        return (
            self.frame.group_by(self.names, maintain_order=True)
            .agg(*means, (pl.col("status") == "ok").all().alias("ok"))
            .filter("ok")
            .drop("ok")
        )


def study_figures(data: StudyData) -> list[Figure]:
    """Every figure of the study: each of ``SHOWN`` over the parameters, what can be had together, and all at
    once."""
    frame = data.configurations()
    if frame.is_empty():
        return []
    varied = [name for name in data.names if frame[name].n_unique() > 1] or data.names[:1]
    titles = {**dict(zip(varied, short_names(varied), strict=True)), **dict(data.shown)}
    # Columns are named by their titles: Vega-Lite takes a dot in a name for a path.
    table = columns(**{title: frame[name].to_list() for name, title in titles.items()})
    parameters = [titles[name] for name in varied]
    table["configuration"] = _told(table, parameters)
    there = dict(data.shown)
    figures = [
        _over(table, parameters, Axis(title, title, seconds=in_seconds(name)))
        for name, title in there.items()
    ]
    for x, y, more in FRONTS:
        if x in there and y in there and len(frame) > 2:
            figures.append(_against(table, x, y, more))
    if len(frame) > 2:
        axes = [Axis(title, title, seconds=in_seconds(name)) for name, title in titles.items()]
        words = Words(
            "coordinates",
            "Parameters and figures",
            "A line for each configuration, through the values of its parameters and its figures; each axis"
            " runs from the lowest value below to the highest above.",
        )
        figures.append(coordinates_figure(words, table, axes, data.shown[-1][1]))
    return figures


def short_names(paths: list[str]) -> list[str]:
    """The last parts of ``paths``, as many of them as tell each from the others."""
    parts = [path.replace("[", ".").replace("]", "").split(".") for path in paths]
    for many in range(1, max(map(len, parts), default=1)):
        short = [" ".join(part[-many:]) for part in parts]
        if len(set(short)) == len(short):
            return short
    return [" ".join(part) for part in parts]


def _against(table: Columns, x: str, y: str, more: bool) -> Figure:
    """What can be had of two figures together."""
    title_x, title_y = dict(SHOWN)[x], dict(SHOWN)[y]
    words = Words(
        f"front-{_slug(title_y)}-{_slug(title_x)}",
        f"{title_y} against {title_x}",
        "A dot for each configuration. Those on the line are beaten by no other in both: less"
        f" {title_y}, {'more' if more else 'less'} {title_x}.",
    )
    return front_figure(
        words,
        table,
        Axis(title_x, title_x),
        Axis(title_y, title_y, seconds=in_seconds(y)),
        "configuration",
        more_x=more,
    )


def _over(table: Columns, parameters: list[str], value: Axis) -> Figure:
    """One figure over the parameters: lines over the number with the most values, one for each combination of
    the others, if they are few; else a heat map of two, else bars."""
    words = Words(
        f"over-{_slug(value.field)}",
        value.title,
        f"{value.title} of each configuration, by its parameters; a mean over seeds.",
    )
    numbers = [p for p in parameters if all(isinstance(v, int | float) for v in table[p])]
    if numbers:
        x = max(numbers, key=lambda p: len(set(table[p])))
        rest = [p for p in parameters if p != x]
        lines = {**table, "line": _told(table, rest) if rest else [value.title] * len(table[x])}
        if len(set(lines["line"])) <= LINES:
            by_x = sorted(range(len(table[x])), key=lambda row: table[x][row])
            line = lines["line"]
            rank = {name: place for place, name in enumerate(dict.fromkeys(line[row] for row in by_x))}
            order = sorted(by_x, key=lambda row: rank[line[row]])
            kept = {name: [cells[row] for row in order] for name, cells in lines.items()}
            return line_figure(words, kept, Axis(x, x), value, "line")
    if len(parameters) == 2 and len(set(table[parameters[0]])) * len(set(table[parameters[1]])) <= CELLS:
        across, up = parameters
        return heat_map(words, table, Axis(across, across), Axis(up, up), value)
    return bar_figure(words, thinned(table, BARS), Axis("configuration", ""), value)


def _told(table: Columns, names: list[str]) -> list[str]:
    """Each row's values of ``names``, in words."""
    return [
        ", ".join(f"{name} {_text(table[name][row])}" for name in names)
        for row in range(len(table[names[0]]))
    ]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def study_page(data: StudyData) -> str:
    """The HTML of the page."""
    import polars as pl

    file, frame = data.study.file, data.frame
    figures = study_figures(data)
    over = tuple(figure for figure in figures if figure.name.startswith("over-"))
    rest = tuple(figure for figure in figures if figure not in over)
    bad = frame.filter(pl.col("status") != "ok")
    ok = len(frame) - len(bad)
    told = data.configurations()
    listed = {name: told[name].to_list() for name in data.names}
    listed |= {title: told[name].to_list() for name, title in data.shown}
    listings = [Listing("Configurations", thinned(columns(**listed), 200))]
    if len(bad):
        errors = bad.select("point", "status", "error").head(50)
        listings.append(Listing("What failed", columns(**{n: errors[n].to_list() for n in errors.columns})))
    kept = {**file.model_dump(mode="json"), "scenario": data.study.base.data}
    sections = (
        Section("figures", "By parameter", over, intro=file.description),
        Section("together", "What can be had together", rest),
        Section(
            "points",
            "Points",
            listings=tuple(listings),
            folds=(Fold("The study", yaml_text.dump(kept)),),
        ),
    )
    return render_page(
        Page(
            title=file.name or "Study",
            lines=(
                ("parameters", "; ".join(data.names)),
                (
                    "method",
                    f"{file.method}, {data.study.configurations:,} configurations, seeds: {file.seeds}",
                ),
            ),
            tiles=(
                Tile("Runs", f"{ok:,}", f"of {len(data.study):,}", good=ok == len(data.study)),
                Tile("Configurations", f"{len(told):,}", "whose runs are all ok"),
                *_best(data, told),
            ),
            sections=tuple(s for s in sections if s.figures or s.listings),
            warning="" if len(frame) == len(data.study) else "Partial results: not every point has run.",
        )
    )


def _best(data: StudyData, told: pl.DataFrame) -> list[Tile]:
    """The extremes of the figures."""
    from tokensim.report.numbers import count, duration

    tiles = []
    for name, title in data.shown:
        more = name.startswith(("throughput", "slo"))
        row = told.sort(name, descending=more, nulls_last=True).row(0, named=True) if len(told) else None
        if row is None or row[name] is None:
            continue
        told_as = duration(row[name]) if in_seconds(name) else count(row[name])
        at = ", ".join(_text(row[parameter]) for parameter in data.names)
        tiles.append(Tile(f"{'Most' if more else 'Least'} {title}", told_as, at))
    return tiles


def read_study(folder: Path) -> StudyData | None:
    """The study whose results lie in ``folder``; None: it holds none."""
    import polars as pl

    if not ((folder / STUDY_FILE).is_file() and (folder / RESULTS_FILE).is_file()):
        return None
    return StudyData(Study.from_yaml(folder / STUDY_FILE), pl.read_parquet(folder / RESULTS_FILE))
