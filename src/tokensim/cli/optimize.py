"""``tokensim optimize``: search for the best configuration, print it and what binds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokensim.cli import INCOMPLETE
from tokensim.cli.options import (
    AsJson,
    Executors,
    Jobs,
    OutputInRuns,
    Overrides,
    Plugins,
    Quiet,
    load_plugins,
    make_workers,
)


def optimize(
    study: Annotated[Path, typer.Argument(help="A study (YAML): a scenario, what to vary, and its goals.")],
    trials: Annotated[
        int, typer.Option("--trials", "-n", metavar="N", help="Configurations to look at, at most.")
    ] = 100,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Start no more trials after so long: 90s, 10min."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="A database that several processes share: sqlite:///search.sqlite. [default: in DIR]",
        ),
    ] = None,
    set_: Overrides = None,
    output: OutputInRuns = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the trials that DIR holds.")] = False,
    executor: Executors = "local",
    jobs: Jobs = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the configuration that is best by a study's goals.

    Every trial is durable as soon as it is done. Exit codes: 0 done, 1 nothing keeps what the study requires,
    or it was interrupted, 2 refused.
    """
    from tokensim.cli.interrupt import Interrupt
    from tokensim.cli.progress import points_bar
    from tokensim.errors import InputError
    from tokensim.explore.answer import print_optimum
    from tokensim.explore.answer_files import answer_text
    from tokensim.explore.optimize import optimize as search
    from tokensim.explore.study import Study
    from tokensim.scenario.units import parse_duration

    load_plugins(plugin)
    given = Study.from_yaml(study, tuple(set_ or ()))
    try:
        timeout_s = None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise InputError(str(error), where="--timeout") from None
    folder = output or Path("runs") / study.stem
    workers = make_workers(executor, jobs, plugin)
    with Interrupt() as interrupt, points_bar(quiet, "trials", "not feasible") as bar:
        answer = search(
            given,
            folder,
            trials=trials,
            timeout_s=timeout_s,
            storage=storage,
            executor=workers,
            resume=resume,
            progress=interrupt.between(bar),
        )
    if as_json:
        typer.echo(answer_text(answer.to_dict()))
    elif not quiet:
        print_optimum(answer)
        typer.echo(f"Files: {folder}")
    if answer.interrupted:
        typer.echo("error: interrupted; --resume goes on from here", err=True)
    if answer.interrupted or not answer.best:
        raise typer.Exit(INCOMPLETE)
