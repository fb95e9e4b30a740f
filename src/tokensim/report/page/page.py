"""A page: tiles, sections of figures with the numbers behind them, lists, and text to unfold.

What a page shows is plain data (``Page``); ``assets/`` hold its template, style and script. Everything that
the browser needs is inside: the page asks for nothing, and its content security policy forbids it to. The
same ``Page`` gives the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tokensim.report.figures.base import Figure
from tokensim.report.figures.theme import config
from tokensim.report.page.bundle import javascript
from tokensim.report.series.base import Columns, length


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
    """A table with a title."""

    title: str
    table: Columns


@dataclass(frozen=True, slots=True)
class Fold:
    """Text that a reader unfolds, as it is (a scenario)."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """Figures under a title; ``name`` is the anchor. ``instances``: those to choose from, where figures have
    the parameter ``shown``; ``choice`` says what they are."""

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    intro: str = ""
    instances: tuple[str, ...] = ()
    choice: str = "Instance"
    listings: tuple[Listing, ...] = ()
    folds: tuple[Fold, ...] = ()

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
    """A whole page; ``warning`` stands above everything (partial results), ``lines`` are (label, text)."""

    title: str
    lines: tuple[tuple[str, str], ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    warning: str = ""
    notes: tuple[str, ...] = ()


def render_page(page: Page) -> str:
    """The HTML of ``page``."""
    figures = {figure.name: figure for section in page.sections for figure in section.figures}
    data = {
        "themes": {"light": config(False), "dark": config(True)},
        "figures": {
            name: {
                "spec": {"description": figure.description, **figure.spec},
                "datasets": figure.datasets,
                "title": figure.title,
                "timed": figure.timed,
                "byInstance": figure.by_instance,
            }
            for name, figure in figures.items()
        },
    }
    return str(
        _template().render(
            page=page,
            style=_asset("page.css"),
            script=_asset("page.js"),
            library=javascript(),
            data=inline_json(data),
            row_count=length,
            right=_right,
        )
    )


def inline_json(value: Any) -> str:
    """JSON that can stand inside a ``<script>``: nothing in it ends the element or starts a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _right(column: list[Any]) -> bool:
    """Whether a column ends at the right: its cells are numbers, with or without a unit."""
    first = [str(cell)[:1] for cell in column if cell not in (None, "-")]
    return bool(first) and all(character.isdigit() or character in "$-<" for character in first)


@cache
def _asset(name: str) -> str:
    return (files("tokensim.report.page") / "assets" / name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html"))
