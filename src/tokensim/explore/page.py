"""The page of a study, ``report.html``: what it varies and what comes of it, in figures."""

from __future__ import annotations

from tokensim.explore.study_data import CONFIGURATION, MET, SLO, StudyData
from tokensim.explore.study_figures import study_figures
from tokensim.report.page import Filter, Filters, Fold, Listing, Page, Section, Tile, render_page
from tokensim.report.page.filters import filter_of
from tokensim.report.series.base import columns, length
from tokensim.scenario import yaml_text


def study_page(data: StudyData) -> str:
    """The HTML of the page."""
    import polars as pl

    file, frame = data.study.file, data.frame
    figures = study_figures(data)
    over = tuple(figure for figure in figures if figure.name.startswith("over-"))
    rest = tuple(figure for figure in figures if figure not in over)
    bad = frame.filter(pl.col("status") != "ok")
    ok = len(frame) - len(bad)
    listings = [Listing("Configurations", data.texts, data.table)]
    if len(bad):
        errors = bad.select("point", "status", "error").head(50)
        listings.append(Listing("What failed", columns(**{n: errors[n].to_list() for n in errors.columns})))
    sections = (
        Section("figures", "By parameter", over, intro=file.description),
        Section("together", "What can be had together", rest),
        Section(
            "points",
            "Points",
            listings=tuple(listings),
            folds=(Fold("The study", yaml_text.dump(data.study.to_dict())),),
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
                Tile("Configurations", f"{length(data.table):,}", "whose runs are all ok"),
                *_best(data),
            ),
            sections=sections,
            filters=study_filters(data),
            warning="" if len(frame) == len(data.study) else "Partial results: not every point has run.",
        )
    )


def study_filters(data: StudyData) -> Filters | None:
    """What the page can be restricted to: values of the parameters that vary, and to what meets the SLO,
    where some do and some do not; None if there is nothing to choose."""
    by = [filter_of(name, name, data.table[name]) for name in data.varied]
    if data.judged and len(set(data.table[SLO])) > 1 and MET in data.table[SLO]:
        by.append(Filter("Meets the SLO", SLO, (MET,)))
    chosen = tuple(choice for choice in by if choice is not None)
    return Filters("configurations", chosen, data.table, data.texts) if chosen else None


def _best(data: StudyData) -> list[Tile]:
    """The extremes of the figures."""
    tiles = []
    for name, title in data.shown:
        more = name.startswith(("throughput", "slo"))
        there = [row for row, value in enumerate(data.table[title]) if value is not None]
        if there:
            best = (max if more else min)(there, key=data.table[title].__getitem__)
            at = data.table[CONFIGURATION][best]
            tiles.append(Tile(f"{'Most' if more else 'Least'} {title}", data.texts[title][best], at))
    return tiles
