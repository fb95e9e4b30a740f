"""The kinds of folders that commands leave, how each is known, and what makes its figures and its page again.

A new kind is one entry of ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokensim.errors import InputError
from tokensim.explore import (
    capacities_page,
    capacity_page,
    comparison_page,
    optimum_figures,
    optimum_page,
    sensitivity_page,
)
from tokensim.explore.page import study_page
from tokensim.explore.results import RESULTS_FILE
from tokensim.explore.study import STUDY_FILE
from tokensim.explore.study_data import read_study
from tokensim.explore.study_figures import study_figures
from tokensim.report.figures.base import Figure
from tokensim.report.figures.run import run_figures
from tokensim.report.run_page import run_page
from tokensim.report.series.run import read_run


@dataclass(frozen=True, slots=True)
class Kind:
    """A folder that ``command`` leaves: it holds all of ``files``. ``read`` gives what ``figures`` and
    ``page`` take."""

    command: str
    files: tuple[str, ...]
    read: Callable[[Path], Any]
    figures: Callable[[Any], Sequence[Figure]]
    page: Callable[[Any], str]


KINDS = (
    Kind("run", ("summary.json",), read_run, run_figures, run_page),
    Kind(
        "capacity",
        (capacity_page.CAPACITY_ANSWER,),
        capacity_page.read_capacity,
        capacity_page.capacity_figures,
        capacity_page.capacity_page,
    ),
    Kind(
        "compare",
        (comparison_page.COMPARISON_ANSWER,),
        comparison_page.read_comparison,
        comparison_page.comparison_figures,
        comparison_page.comparison_page,
    ),
    Kind(
        "sensitivity",
        (sensitivity_page.SENSITIVITY_ANSWER,),
        sensitivity_page.read_sensitivity,
        sensitivity_page.sensitivity_figures,
        sensitivity_page.sensitivity_page,
    ),
    Kind(
        "capacity",
        (STUDY_FILE, capacities_page.CAPACITY_FILE),
        capacities_page.read_capacities,
        capacities_page.capacities_figures,
        capacities_page.capacities_page,
    ),
    Kind(
        "optimize",
        (STUDY_FILE, RESULTS_FILE, optimum_figures.OPTIMUM_ANSWER),
        optimum_figures.read_optimum,
        optimum_figures.optimum_figures,
        optimum_page.optimum_page,
    ),
    Kind("sweep", (STUDY_FILE, RESULTS_FILE), read_study, study_figures, study_page),
)
"""Those with more files come before those whose files they have as well."""


def kind_of(folder: Path) -> Kind:
    """What ``folder`` is; raises ``InputError`` for what no command left."""
    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), hint=_hint())
    for kind in KINDS:
        if all((folder / name).is_file() for name in kind.files):
            return kind
    raise InputError("holds no result of a command", where=str(folder), hint=_hint())


def page_of(folder: Path) -> str:
    """The HTML of the page of ``folder``; raises ``InputError``."""
    kind = kind_of(folder)
    return kind.page(kind.read(folder))


def figures_in(folder: Path) -> list[Figure]:
    """The figures of ``folder``; raises ``InputError``."""
    kind = kind_of(folder)
    return list(kind.figures(kind.read(folder)))


def _hint() -> str:
    commands = list(dict.fromkeys(kind.command for kind in KINDS))
    return f"give a folder that `tokensim {', '.join(commands[:-1])} or {commands[-1]}` left"
