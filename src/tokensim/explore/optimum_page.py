"""The page of a search, ``report.html``: what was found, how, and what became of all the rest.

It is made from ``study.yaml``, ``results.parquet`` and ``optimum.json``, which `tokensim optimize` leaves.
"""

from __future__ import annotations

from tokensim.explore.key_figures import written
from tokensim.explore.optimum_figures import OptimumData, better, optimum_figures
from tokensim.explore.over import capital, slug
from tokensim.explore.study_data import short_names
from tokensim.report.figures.search import run_only
from tokensim.report.numbers import NOTHING
from tokensim.report.page import Fold, Listing, Page, Section, Tile, render_page
from tokensim.report.page.page import cell_text
from tokensim.report.series.base import Columns, length
from tokensim.scenario import yaml_text

LISTED = 200
"""Trials that are listed, at most."""


def optimum_page(data: OptimumData) -> str:
    """The HTML of the page."""
    answer, file = data.answer, data.study.file
    figures = optimum_figures(data)
    way = {slug(f"progress-{goal['name']}") for goal in data.goals} | {"outcomes"}
    found = tuple(f for f in figures if f.name not in way and f.name != "coordinates")
    best = (Listing("The best" if len(answer["best"]) == 1 else "The front", _best(data)),)
    others = []
    if answer["missed"]:
        missed = {"requirement": list(answer["missed"]), "configurations": list(answer["missed"].values())}
        others.append(Listing("What others missed that were run", missed))
    run = run_only(data.table)
    if length(run):
        others.append(Listing("Run in full", _listed(data, run)))
    if (why := _errors(data))["why"]:
        others.append(Listing("Why others were not", why))
    sections = (
        Section("found", "What was found", found, file.description, listings=best if answer["best"] else ()),
        Section("search", "How it was found", tuple(f for f in figures if f.name in way)),
        Section(
            "all",
            "All that were run",
            tuple(f for f in figures if f.name == "coordinates"),
            listings=tuple(others),
            folds=(Fold("The study", yaml_text.dump(data.study.to_dict())),),
        ),
    )
    return render_page(
        Page(
            title=answer["title"],
            lead=answer["statement"],
            lines=(
                ("goals", ", ".join(f"{g['direction']} {g['name']} ({g['figure']})" for g in data.goals)),
                ("parameters", "; ".join(parameter.name for parameter in data.study.parameters)),
            ),
            tiles=tuple(_tiles(data)),
            sections=sections,
            warning="" if answer["complete"] else "The search was ended before all its trials were made.",
        )
    )


def _tiles(data: OptimumData) -> list[Tile]:
    answer, tiles = data.answer, []
    best = answer["best"]
    one = best[0] if len(best) == 1 else None
    for goal in data.goals:
        more = goal["direction"] == "maximize"
        values = [b["goals"][goal["name"]] for b in best]
        told = f"on a front of {len(best)}"
        if one is not None:
            told = ", ".join(str(value) for value in one["parameters"].values())
        value = (max(values) if more else min(values)) if values else None
        tiles.append(
            Tile(
                capital(better(goal["name"], more)),
                written(goal["figure"])(value),
                told if best else "none",
            )
        )
    if one is not None:
        binding = one["binding"]
        told = ", ".join(f"{name} {-miss:.1%} inside" for name, miss in binding.items())
        tiles.append(
            Tile("What binds", next(iter(binding), "nothing"), told or "no limit within 10 %", good=True)
        )
    space = "endless many" if answer["space"] is None else f"{answer['space']:,}"
    tiles += [
        Tile("Looked at", f"{answer['trials']:,}", f"of {space} configurations"),
        Tile("Run in full", f"{answer['run_in_full']:,}", f"{answer['runs']:,} runs"),
    ]
    return tiles


def _best(data: OptimumData) -> Columns:
    """The best configurations, with what they only just keep."""
    best = data.answer["best"][:LISTED]
    names = list(best[0]["parameters"]) if best else []
    listed: Columns = {
        title: [cell_text(b["parameters"][name]) for b in best]
        for name, title in zip(names, short_names(names), strict=True)
    }
    for goal in data.goals:
        listed[goal["name"]] = [written(goal["figure"])(b["goals"][goal["name"]]) for b in best]
    listed["within 10 % of its limit"] = [
        ", ".join(f"{name} ({-miss:.1%} inside)" for name, miss in b["binding"].items()) or NOTHING
        for b in best
    ]
    return listed


def _errors(data: OptimumData) -> Columns:
    """Why trials were not run, or failed, each reason once."""
    import polars as pl

    kinds = (
        data.frame.filter(pl.col("error").is_not_null())
        .group_by("status", "error", maintain_order=True)
        .agg(pl.col("point").n_unique().alias("trials"), pl.col("point").first().alias("first"))
        .head(50)
    )
    names = (("why", "error"), ("status", "status"), ("trials", "trials"), ("the first", "first"))
    return {title: kinds[name].to_list() for title, name in names}


def _listed(data: OptimumData, run: Columns) -> Columns:
    few = {name: cells[:LISTED] for name, cells in run.items()}
    listed: Columns = {"trial": few["trial"]}
    listed |= {title: [cell_text(cell) for cell in few[title]] for title in data.parameters.values()}
    for name, title in data.titles.items():
        listed[title] = [written(name)(cell) for cell in few[title]]
    listed["outcome"] = few["outcome"]
    return listed
