"""A page: tiles, sections of figures with the numbers behind them, lists, and text to unfold.

What a page shows is plain data (``Page``); ``assets/`` hold its template, style and script. Everything that
the browser needs is inside: the page asks for nothing, and its content security policy forbids it to. The
same ``Page`` gives the same bytes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from tokensim.report.figures.base import NUMBER_ROWS, Figure
from tokensim.report.figures.theme import config
from tokensim.report.numbers import NOTHING
from tokensim.report.page.bundle import javascript
from tokensim.report.page.filters import Filter, Filters
from tokensim.report.series.base import Columns, length

LISTED = 200
"""Rows of a list that are shown at a time."""

SCRIPTS = ("tables.js", "choices.js", "page.js", "filters.js")
"""The scripts of the page, in order."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure to see first: ``value`` under ``label``, a ``detail`` below; ``good`` False marks what was
    missed, True what was met."""

    label: str
    value: str
    detail: str = ""
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A table with a title. ``keys``: the raw values of the same rows; with them it can be sorted by the
    columns that both have, and follows the filters of the page. ``worth``: of some columns what each cell is
    worth, ``good``, ``bad`` or nothing; it colours. ``chooses``: a cell that is one of the choices of the
    page is a way to choose it."""

    title: str
    table: Columns
    keys: Columns = field(default_factory=dict)
    worth: Columns = field(default_factory=dict)
    chooses: bool = False


@dataclass(frozen=True, slots=True)
class Fold:
    """Text that a reader unfolds, as it is (a scenario)."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """Figures under a title; ``name`` is the anchor. ``instances``: those to choose from, where figures have
    the parameter ``shown``; ``choice`` says what they are. ``filters``: choices of a single value, among the
    rows of what its figures call ``filtered``. ``lines`` are (label, text) and ``notes`` what to mind, under
    the title. ``of``: the choice of the page that it belongs to (``Page.choice``); it is shown, and its
    figures drawn, while that is chosen."""

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    intro: str = ""
    instances: tuple[str, ...] = ()
    choice: str = "Instance"
    filters: tuple[Filter, ...] = ()
    listings: tuple[Listing, ...] = ()
    folds: tuple[Fold, ...] = ()
    lines: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    of: str = ""

    @property
    def timed(self) -> bool:
        """Whether its figures share a time axis that can be zoomed."""
        return any(figure.timed for figure in self.figures)

    @property
    def by_instance(self) -> bool:
        """Whether one instance can be picked."""
        return len(self.instances) > 1 and any(figure.by_instance for figure in self.figures)


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page; ``warning`` stands above everything (partial results), ``lines`` are (label, text),
    ``lead`` is the answer in a sentence or two, under the title. ``filters`` restrict what its figures and
    lists show. ``choice``: what a reader chooses one of, where sections are ``of`` several. A section with
    nothing but its title and ``intro`` is left out."""

    title: str
    lines: tuple[tuple[str, str], ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    warning: str = ""
    notes: tuple[str, ...] = ()
    lead: str = ""
    filters: Filters | None = None
    choice: str = ""

    def __post_init__(self) -> None:
        filled = tuple(s for s in self.sections if s.figures or s.listings or s.folds or s.lines or s.notes)
        object.__setattr__(self, "sections", filled)

    @property
    def choices(self) -> tuple[str, ...]:
        """What sections are ``of``, if there are several to choose from."""
        names = dict.fromkeys(section.of for section in self.sections if section.of)
        return tuple(names) if len(names) > 1 else ()


def render_page(page: Page) -> str:
    """The HTML of ``page``."""
    return str(
        _template().render(
            page=page,
            style=_asset("page.css"),
            script="\n".join(_asset(name) for name in SCRIPTS),
            library=javascript(),
            data=inline_json(_data(page)),
            row_count=length,
            right=_right,
            listed=LISTED,
            told=cell_text,
        )
    )


def _data(page: Page) -> dict[str, Any]:
    """What the scripts of the page need. Tables and specifications that are the same are held once, and
    known by their place."""
    tables, specs = _Held(), _Held()
    place = tables.place
    figures = {
        figure.name: {
            "spec": specs.place(figure.spec),
            "params": figure.values,
            "description": figure.description,
            "datasets": {name: place(table) for name, table in figure.datasets.items()},
            "title": figure.title,
            "timed": figure.timed,
            "byInstance": figure.by_instance,
            "filtered": figure.filtered,
            "numbered": figure.numbered,
            "numbers": list(figure.numbers) if figure.filtered else [],
            "leastWidth": figure.least_width,
            "chooses": figure.chooses,
        }
        for section in page.sections
        for figure in section.figures
    }
    listings = [
        {"texts": place(listing.table), "keys": place(listing.keys), "worth": place(listing.worth)}
        for section in page.sections
        for listing in section.listings
        if listing.keys
    ]
    filters = page.filters and {
        "what": page.filters.what,
        "by": [
            {"field": choice.field, "values": choice.values, "kind": choice.kind}
            for choice in page.filters.by
        ],
        "table": place(page.filters.table),
        "texts": place(page.filters.texts),
    }
    return {
        "themes": {"light": config(False), "dark": config(True)},
        "figures": figures,
        "listings": listings,
        "filters": filters,
        "tables": tables.held,
        "specs": specs.held,
        "listed": LISTED,
        "numberRows": NUMBER_ROWS,
    }


class _Held:
    """Values of which equal ones are held once."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """Where ``value`` stands in ``held``."""
        text = json.dumps(value)
        if text not in self._places:
            self._places[text] = len(self.held)
            self.held.append(value)
        return self._places[text]


def inline_json(value: Any) -> str:
    """JSON that can stand inside a ``<script>``: nothing in it ends the element or starts a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def cell_text(value: Any) -> str:
    """A cell that has no unit, as people read it."""
    return NOTHING if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _right(column: list[Any]) -> bool:
    """Whether a column ends at the right: its cells are numbers, with or without a unit."""
    first = [str(cell)[:1] for cell in column if cell not in (None, "-")]
    return bool(first) and all(character.isdigit() or character in "$-+<" for character in first)


@cache
def _asset(name: str) -> str:
    return (files("tokensim.report.page") / "assets" / name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(re.sub("^ +", "", _asset("page.html"), flags=re.MULTILINE))
