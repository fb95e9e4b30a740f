"""The page of a comparison, ``report.html``: how much figures differ, and whether that is more than noise.

It is made from ``comparison.json``, which `tokensim compare --output` leaves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokensim.explore.answer_files import Answer, Plain, read_answer
from tokensim.explore.key_figures import by_name
from tokensim.explore.over import capital, slug
from tokensim.explore.parameters import label_of
from tokensim.report.figures.base import Figure
from tokensim.report.figures.effects import whisker_figure
from tokensim.report.figures.study import Words
from tokensim.report.figures.theme import BETTER, DIFFERS, NOISE, WORSE
from tokensim.report.numbers import NOTHING
from tokensim.report.page import Fold, Listing, Page, Section, Tile, render_page
from tokensim.report.series.base import Columns, columns

COMPARISON_ANSWER = "comparison.json"


def comparison_figures(kept: Answer) -> list[Figure]:
    """The relative differences of each side to the first."""
    answer = kept.plain
    base, *others = (side["name"] for side in answer["sides"])
    several = len(answer["sides"][0]["seeds"]) > 1
    share = f"{100 * answer['confidence']:.6g} %"
    told = (
        f" Lines are the {share} interval of each difference by itself. Better and worse are told only"
        f" where the difference is not chance at {share} confidence for all figures together."
        if several
        else " One run of each: how much of a difference is noise is not known."
    )
    figures = []
    for name in others:
        table = _effects(answer, name)
        if table["what"]:
            words = Words(
                slug(f"differences-{name}"),
                capital(f"{name} against {base}"),
                f"The relative difference of each figure of {name} to that of {base}.{told}",
            )
            figures.append(whisker_figure(words, table, f"difference to {base}"))
    return figures


def _effects(answer: Plain, name: str) -> Columns:
    """The figures of which a relative difference is known."""
    rows = []
    for row in answer["figures"].values():
        gap = row["against_first"][name]
        if gap is not None and gap["relative"] is not None:
            low, high = gap["interval"] or (None, None)
            rows.append((row["title"], gap["relative"], low, high, worth_of(gap, row["better"])))
    names = ("what", "effect", "low", "high", "worth")
    return columns(**{name: [row[at] for row in rows] for at, name in enumerate(names)})


def worth_of(gap: Plain, better: str | None) -> str:
    """What a difference is worth: where it is real and its direction means something, better or worse."""
    if not gap["real"] or gap["equal"]:
        return NOISE
    if better is None or gap["relative"] is None:
        return DIFFERS
    return BETTER if (gap["relative"] > 0) == (better == "more") else WORSE


def comparison_page(kept: Answer) -> str:
    """The HTML of the page."""
    answer = kept.plain
    names = [side["name"] for side in answer["sides"]]
    figures = comparison_figures(kept)
    differs = answer["differences"]
    setup: Columns = {"path": list(differs)}
    setup |= {name: [_cell(values[name]) for values in differs.values()] for name in names}
    sections = (
        Section(
            "setup",
            "What differs between the scenarios",
            intro="" if differs else "Nothing: the scenarios are the same.",
            listings=(Listing("Paths and values", setup),) if differs else (),
            folds=(Fold(f"The scenario of {names[0]}", kept.scenario),) if kept.scenario else (),
        ),
        Section("differences", "What came out", tuple(figures)),
        Section("figures", "All figures", listings=(Listing("Means over seeds", _listed(answer)),)),
    )
    seeds = [f"{len(side['seeds'])} from {side['seeds'][0]}" for side in answer["sides"]]
    return render_page(
        Page(
            title=capital(" against ".join((" and ".join(names[1:]), names[0]))),
            lead=answer["statement"],
            lines=(
                *((label, text) for label, text in answer["about"]),
                ("seeds", "; ".join(f"{name}: {told}" for name, told in zip(names, seeds, strict=True))),
            ),
            tiles=tuple(_tiles(answer)),
            sections=sections,
        )
    )


def _cell(value: Any) -> str:
    return NOTHING if value is None else str(label_of(value))


def _tiles(answer: Plain) -> list[Tile]:
    """Of each figure that people look at first, the mean of the first side, and the others' differences."""
    tiles = []
    first = answer["sides"][0]["name"]
    for name in TILES:
        row = answer["figures"].get(name)
        if row is None or row["means"][first] is None:
            continue
        written = by_name(name).written
        worths, told = [], []
        for side, gap in row["against_first"].items():
            if gap is not None:
                worths.append(worth_of(gap, row["better"]))
                change = "from 0" if gap["relative"] is None else f"{gap['relative']:+.1%}"
                told.append(f"{side} {written(row['means'][side])} ({'equal' if gap['equal'] else change})")
        good = {BETTER: True, WORSE: False}.get(worths[0]) if len(set(worths)) == 1 else None
        tiles.append(Tile(capital(row["title"]), written(row["means"][first]), "; ".join(told), good))
    return tiles


TILES = (
    "throughput.output_tokens_per_s",
    "latency.ttft_s.p99",
    "latency.tpot_s.p99",
    "spending.usd_per_million_total_tokens",
)
"""Figures to see first."""


def _listed(answer: Plain) -> Columns:
    """Every figure of every side, with the verdict on it."""
    first, *others = (side["name"] for side in answer["sides"])
    rows = answer["figures"]
    listed: Columns = {"figure": [row["title"] for row in rows.values()]}
    listed[first] = [by_name(name).written(row["means"][first]) for name, row in rows.items()]
    for side in others:
        listed[side] = [by_name(name).written(row["means"][side]) for name, row in rows.items()]
        gaps = [row["against_first"][side] for row in rows.values()]
        listed[f"{side}: difference"] = [_difference(gap) for gap in gaps]
        listed[f"{side}: verdict"] = [_verdict(gap) for gap in gaps]
    return listed


def _difference(gap: Plain | None) -> str:
    if gap is None or gap["relative"] is None:
        return NOTHING
    if gap["interval"] is None:
        return f"{gap['relative']:+.1%}"
    low, high = gap["interval"]
    return f"{gap['relative']:+.1%} ({low:+.1%} to {high:+.1%})"


def _verdict(gap: Plain | None) -> str:
    if gap is None:
        return NOTHING
    if gap["equal"]:
        return "equal"
    return {True: "real", False: "noise", None: "not known"}[gap["real"]]


def read_comparison(folder: Path) -> Answer:
    """The comparison that ``folder`` holds; raises ``InputError``."""
    return read_answer(folder, COMPARISON_ANSWER)
