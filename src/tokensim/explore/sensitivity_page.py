"""The page of a sensitivity, ``report.html``: what binds, a tornado for each figure, all elasticities.

It is made from ``sensitivity.json``, which `tokensim sensitivity --output` leaves.
"""

from __future__ import annotations

import math
from pathlib import Path

from tokensim.explore.answer_files import Answer, Plain, read_answer
from tokensim.explore.over import capital, slug
from tokensim.explore.sensitivity import ABILITIES, CAPACITY, FIGURES, NEGLIGIBLE
from tokensim.report.figures.base import Figure
from tokensim.report.figures.diverging import diverging_map
from tokensim.report.figures.effects import tornado_figure
from tokensim.report.figures.study import Axis, Words
from tokensim.report.figures.theme import BETTER, NOISE, WORSE
from tokensim.report.numbers import NOTHING, count, duration
from tokensim.report.page import Fold, Listing, Page, Section, Tile, render_page
from tokensim.report.series.base import Columns, columns

SENSITIVITY_ANSWER = "sensitivity.json"

SIGNS = {title: sign for _, title, sign in (*FIGURES, CAPACITY)}
"""Of each figure, by its title: 1 if more is better, −1 if less is."""


def sensitivity_figures(kept: Answer) -> list[Figure]:
    """A tornado for each figure, that of the main one first, then all elasticities."""
    answer = kept.plain
    table = answer["elasticities"]
    if not table:
        return []
    main = answer["main"]
    figures = [_tornado(answer, main)]
    others = [title for title in answer["baseline"] if title != main]
    figures += [_tornado(answer, title) for title in others if any(row.get(title) for row in table.values())]
    if others:
        figures.append(_elasticities(answer, [main, *others]))
    return figures


def _tornado(answer: Plain, title: str) -> Figure:
    """What each ability does to the figure ``title``."""
    change, main = answer["change"], title == answer["main"]
    rows = []
    for ability, row in answer["elasticities"].items():
        one = row.get(title)
        if one is not None:
            half, ends = one["half_width"], list[float | None]([None, None])
            if half is not None:
                both = (math.expm1((one["value"] + d) * math.log1p(change)) for d in (-half, half))
                ends = [*sorted(both)]
            rows.append((ABILITIES[ability], one["effect"], *ends, _worth(one, title)))
    names = ("what", "effect", "low", "high", "worth")
    lines = (
        f" Lines are the {100 * answer['confidence']:.6g} % interval over {len(answer['seeds'])} seeds."
        if len(answer["seeds"]) > 1
        else " One seed: how much of this is noise is not known."
    )
    words = Words(
        slug(f"tornado-{title}"),
        capital(title),
        f"How {title} changes when each ability of the devices is {_more(change)}, one at a time.{lines}",
    )
    table = columns(**{name: [row[at] for row in rows] for at, name in enumerate(names)})
    return tornado_figure(words, table, f"change of {title}", "wide" if main else "normal")


def _more(change: float) -> str:
    return f"{100 * abs(change):.4g} % {'better' if change > 0 else 'worse'}"


def _worth(one: Plain, title: str) -> str:
    """Better or worse, where the effect is more than its interval."""
    if abs(one["value"]) <= max(NEGLIGIBLE, one["half_width"] or 0.0):
        return NOISE
    return BETTER if one["effect"] * SIGNS[title] > 0 else WORSE


def _elasticities(answer: Plain, titles: list[str]) -> Figure:
    cells = [
        (title, ABILITIES[ability], one["value"])
        for ability, row in answer["elasticities"].items()
        for title in titles
        if (one := row.get(title)) is not None
    ]
    names = ("figure", "ability", "elasticity")
    table = columns(**{name: [cell[at] for cell in cells] for at, name in enumerate(names)})
    words = Words(
        "elasticities",
        "Elasticities",
        "By how many percent each figure changes for each percent that an ability is better: 1 for a"
        " throughput that is bound by it alone, −1 for such a latency, 0 where it does not matter.",
    )
    return diverging_map(
        words, table, Axis("figure", ""), Axis("ability", ""), Axis("elasticity", "elasticity")
    )


def sensitivity_page(kept: Answer) -> str:
    """The HTML of the page."""
    answer, figures = kept.plain, sensitivity_figures(kept)
    first = tuple(figures[:1])
    every = tuple(f for f in figures[1:] if f.name == "elasticities")
    rest = tuple(f for f in figures[1:] if f not in every)
    scenario = (Fold("The scenario", kept.scenario),) if kept.scenario else ()
    listed = (Listing("Elasticities", _listed(answer)),) if answer["elasticities"] else ()
    idle = ", ".join(ABILITIES[name] for name in answer["without_effect"])
    sections = (
        Section("bottleneck", "The bottleneck", first),
        Section("others", "Other figures", rest),
        Section("elasticities", "All elasticities", every, listings=listed, folds=scenario),
    )
    return render_page(
        Page(
            title=f"{answer['title']}: sensitivity",
            lead=answer["bottleneck"],
            lines=(
                *((label, text) for label, text in answer["about"]),
                *((("no effect", idle),) if idle else ()),
            ),
            tiles=tuple(_tiles(answer)),
            sections=sections,
            notes=tuple(answer["notes"]),
        )
    )


def _tiles(answer: Plain) -> list[Tile]:
    """The strongest abilities, then the figures as they are."""
    main, tiles = answer["main"], []
    for ability, row in list(answer["elasticities"].items())[:3]:
        one = row.get(main)
        if one is None:
            continue
        good = {BETTER: True, WORSE: False}.get(_worth(one, main))
        label = f"{ABILITIES[ability]} {100 * answer['change']:+.4g} %"
        tiles.append(Tile(capital(label), f"{one['effect']:+.1%}", main, good))
    value = answer["baseline"].get(main)
    tiles.append(Tile(f"{capital(main)} now", _told(value, main), f"at {answer['load']}"))
    tiles.append(Tile("Runs", f"{answer['runs']:,}", f"{len(answer['seeds'])} seeds"))
    return tiles


def _told(value: float | None, title: str) -> str:
    seconds = any(title == own and "_s." in name for name, own, _ in FIGURES)
    return duration(value) if seconds else count(value)


def _listed(answer: Plain) -> Columns:
    """A row an ability: the elasticity of each figure, with its interval."""
    table = answer["elasticities"]
    listed: Columns = {"ability": [ABILITIES[ability] for ability in table]}
    for title in answer["baseline"]:
        cells = []
        for row in table.values():
            one = row.get(title)
            half = None if one is None else one["half_width"]
            spread = "" if half is None else f" ± {half:.2f}"
            cells.append(NOTHING if one is None else f"{one['value']:+.2f}{spread}")
        listed[title] = cells
    return listed


def read_sensitivity(folder: Path) -> Answer:
    """The sensitivity that ``folder`` holds; raises ``InputError``."""
    return read_answer(folder, SENSITIVITY_ANSWER)
