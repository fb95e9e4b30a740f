"""``tokensim capacity``: the highest load that keeps the SLO, of a scenario or of every configuration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokensim.cli import INCOMPLETE
from tokensim.cli.options import (
    AsJson,
    Executors,
    Jobs,
    Overrides,
    Plugins,
    Quiet,
    load_plugins,
    make_workers,
    share,
)

if TYPE_CHECKING:
    from tokensim.explore.executors import Executor
    from tokensim.explore.question import Question
    from tokensim.explore.runs import Progress


def capacity(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario with an SLO, or a study (YAML).")],
    set_: Overrides = None,
    load: Annotated[
        str, typer.Option(metavar="KIND", help="rate, rate-scale, concurrency; auto: what the workload has.")
    ] = "auto",
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Seeds. [default: 5, or those of the study]")
    ] = None,
    tolerance: Annotated[
        str, typer.Option(metavar="SHARE", help="Between the load met and the one missed.")
    ] = "2%",
    confidence: Annotated[str, typer.Option(metavar="SHARE", help="Of the interval over seeds.")] = "95%",
    most: Annotated[float | None, typer.Option("--max", metavar="LOAD", help="Try no load above.")] = None,
    goodput: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Of requests that keep all bounds. [default: bound by bound]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Where the files go. [default: none are written; of a study: runs/NAME-capacity]",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the runs that DIR holds.")] = False,
    executor: Executors = "local",
    jobs: Jobs = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the highest load that keeps the SLO.

    Bracketing and bisection, with several seeds; met also means that every request is served. Exit codes:
    0 done, 1 some configuration failed or it was interrupted, 2 refused.
    """
    from tokensim.explore.question import SEEDS, Question
    from tokensim.scenario.loading import read_mapping

    load_plugins(plugin)
    data, _ = read_mapping(file, "scenario", "examples/quickstart.yaml")
    study = "parameters" in data
    own = data.get("seeds") if study else None
    question = Question(
        load,
        seeds if seeds is not None else own if isinstance(own, int) and own > 1 else SEEDS,
        share(tolerance, "--tolerance"),
        share(confidence, "--confidence"),
        most,
        None if goodput is None else share(goodput, "--goodput"),
    )
    from tokensim.cli.interrupt import told_when_interrupted
    from tokensim.cli.progress import points_bar
    from tokensim.explore.answer_files import answer_text

    workers = make_workers(executor, jobs, plugin)
    folder = output or (Path("runs") / f"{file.stem}-capacity" if study else None)
    hint = "" if folder is None else "; --resume goes on from here"
    with told_when_interrupted(hint), points_bar(quiet) as bar:
        places = _Places(file, set_ or [], folder, resume)
        statuses, plain, show = (_of_study if study else _of_scenario)(places, question, workers, bar)
    if as_json:
        typer.echo(answer_text(plain))
    elif not quiet:
        show()
        if folder is not None:
            typer.echo(f"Files: {folder}")
    if set(statuses) & {"failed", "crashed", "incomplete"}:
        raise typer.Exit(INCOMPLETE)


@dataclass(frozen=True, slots=True)
class _Places:
    """The file that is asked about, what is put on top of it, and where files go."""

    file: Path
    overrides: list[str]
    folder: Path | None
    resume: bool


_Answer = tuple[list[str], Any, Callable[[], None]]
"""How each configuration ended, all of it as plain data, and what prints it."""


def _of_study(places: _Places, question: Question, executor: Executor, progress: Progress | None) -> _Answer:
    """The capacity of every configuration of a study."""
    from tokensim.explore.capacities import capacities
    from tokensim.explore.capacity_report import print_capacities
    from tokensim.explore.study import Study

    study = Study.from_yaml(places.file, tuple(places.overrides))
    found = capacities(
        study, question, places.folder, executor=executor, resume=places.resume, progress=progress
    )
    names = [parameter.name for parameter in study.parameters]
    plain = [
        {"parameters": dict(zip(names, (c.label for c in choices), strict=True)), **result.to_dict()}
        for choices, result in zip(found.choices, found.results, strict=True)
    ]
    return [r.status for r in found.results], plain, lambda: print_capacities(found, question)


def _of_scenario(
    places: _Places, question: Question, executor: Executor, progress: Progress | None
) -> _Answer:
    """The capacity of a scenario; its runs, the answer and its page go into the folder, if there is one."""
    from tokensim.explore.answer_files import write_answer
    from tokensim.explore.capacity import capacity as find
    from tokensim.explore.capacity_page import CAPACITY_ANSWER, capacity_page
    from tokensim.explore.capacity_report import plain_capacity, print_capacity
    from tokensim.explore.store import STORE_FILE, Store
    from tokensim.explore.sweep import make_folder
    from tokensim.scenario.loading import load_scenario

    scenario = load_scenario(places.file, places.overrides)
    with ExitStack() as stack:
        store = None
        if places.folder is not None:
            make_folder(places.folder, STORE_FILE, resume=places.resume)
            store = stack.enter_context(Store(places.folder / STORE_FILE))
        result = find(scenario, question, executor=executor, store=store, progress=progress)
    plain = plain_capacity(result, scenario)
    if places.folder is not None:
        write_answer(places.folder, CAPACITY_ANSWER, plain, capacity_page, scenario)
    return [result.status], plain, lambda: print_capacity(result, scenario.name or "")
