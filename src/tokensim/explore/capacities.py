"""The capacity of every configuration of a study: all searches at once, one table."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.errors import InputError
from tokensim.explore.answer_files import REPORT_FILE
from tokensim.explore.capacities_page import CAPACITY_FILE, CapacitiesData, capacities_page
from tokensim.explore.capacity import search_capacity
from tokensim.explore.executors import Executor, make_executor
from tokensim.explore.parameters import Choice
from tokensim.explore.question import SEEDS, Capacity, Question
from tokensim.explore.results import frame_of, write_frame
from tokensim.explore.runs import Progress, Runs
from tokensim.explore.search import Search, together
from tokensim.explore.store import STORE_FILE, Store
from tokensim.explore.study import Study
from tokensim.explore.sweep import keep_study, make_folder
from tokensim.explore.task import Outcome
from tokensim.report.atomic import write_atomic, write_bytes
from tokensim.scenario.loading import from_mapping

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Capacities:
    """``results`` of the configurations of ``study``, in order, each with the ``choices`` that made it."""

    study: Study
    choices: tuple[tuple[Choice, ...], ...]
    results: tuple[Capacity, ...]
    reused: int
    folder: Path | None

    @property
    def best(self) -> int | None:
        """Which configuration has the highest capacity; None: none was found."""
        found = [(r.value, -i) for i, r in enumerate(self.results) if r.value is not None]
        return -max(found)[1] if found else None

    @property
    def frame(self) -> pl.DataFrame:
        """One row a configuration: its parameters, its capacity, and under ``at.`` the figures of the first
        seed's run there."""
        names = [parameter.name for parameter in self.study.parameters]
        return frame_of(
            {
                **{name: choice.label for name, choice in zip(names, choices, strict=True)},
                "status": result.status,
                "error": result.error,
                "load": None if result.load is None else result.load.kind,
                "unit": None if result.load is None else result.load.unit,
                "capacity": result.value,
                "interval_low": None if result.interval is None else result.interval[0],
                "interval_high": None if result.interval is None else result.interval[1],
                "seeds": len(result.edges),
                "runs": result.runs,
                "bound": result.bound,
                "binding": result.binding,
                "notes": "; ".join(result.notes),
                **{f"at.{name}": value for name, value in result.figures.items()},
            }
            for choices, result in zip(self.choices, self.results, strict=True)
        )


def capacities(
    study: Study,
    question: Question | None = None,
    folder: str | Path | None = None,
    *,
    executor: Executor | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Capacities:
    """The capacity of each configuration of ``study``; those that cannot be say why.

    Without a ``question`` there are as many seeds as the study asks for, if more than one, else ``SEEDS``.
    ``folder`` takes the runs (``points.sqlite``, each durable once it is done; ``resume`` goes on from them),
    ``study.yaml``, ``capacity.parquet`` and ``report.html``. Raises ``InputError``, also when no
    configuration can be.
    """
    if study.file.method != "random":
        study.check_steps()
    question = question or Question(seeds=study.file.seeds if study.file.seeds > 1 else SEEDS)
    place = None if folder is None else Path(folder)
    points = [study.point(which * study.file.seeds) for which in range(study.configurations)]
    with ExitStack() as stack:
        store = None
        if place is not None:
            make_folder(place, STORE_FILE, resume=resume)
            keep_study(place, study)
            store = stack.enter_context(Store(place / STORE_FILE))
        runs = Runs(executor or make_executor(), store, progress)
        searches = [_search(study.task(point).data, question) for point in points]
        results = tuple(runs.drive(together(searches)))
    refused = {result.error for result in results if result.status == "refused"}
    if len(refused) == 1 and all(result.status == "refused" for result in results):
        raise InputError(refused.pop() or "", where=study.base.where)
    found = Capacities(study, tuple(point.choices for point in points), results, runs.reused, place)
    if place is not None:
        frame = found.frame
        write_atomic(place / CAPACITY_FILE, lambda file: write_frame(frame, file))
        write_bytes(place / REPORT_FILE, capacities_page(CapacitiesData(study, frame)).encode())
    return found


def _search(data: Mapping[str, Any], question: Question) -> Search[Mapping[str, Any], Outcome, Capacity]:
    """The search of one configuration, which may be refused."""
    try:
        return (yield from search_capacity(from_mapping(data), replace(question)))
    except InputError as error:
        return Capacity("refused", error=" ".join(str(error).split()))
