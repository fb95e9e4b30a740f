"""``tokensim sweep``: run a study, keep every run, print a table."""

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


def sweep(
    study: Annotated[Path, typer.Argument(help="A study (YAML): a scenario and what to vary in it.")],
    set_: Overrides = None,
    output: OutputInRuns = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the runs that DIR holds.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: run again what failed.")
    ] = False,
    executor: Executors = "local",
    jobs: Jobs = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario with many settings.

    Every run is durable as soon as it is done; --resume goes on after whatever ended a sweep. Exit codes: 0
    every point has its result, 1 some failed (their rows say why) or it was interrupted, 2 refused.
    """
    from tokensim.cli.interrupt import Interrupt
    from tokensim.cli.progress import points_bar
    from tokensim.explore.answer_files import answer_text
    from tokensim.explore.study import Study
    from tokensim.explore.sweep import sweep as run_sweep
    from tokensim.explore.terminal import print_sweep

    load_plugins(plugin)
    given = Study.from_yaml(study, tuple(set_ or ()))
    folder = output or Path("runs") / study.stem
    workers = make_workers(executor, jobs, plugin)
    with Interrupt() as interrupt, points_bar(quiet) as bar:
        result = run_sweep(
            given,
            folder,
            executor=workers,
            resume=resume or retry,
            retry=retry,
            progress=interrupt.between(bar),
        )
    if as_json:
        typer.echo(answer_text(result.to_dict()))
    elif not quiet:
        print_sweep(result)
        typer.echo(f"Files: {folder}")
    if set(result.counts) - {"ok"} or not result.complete:
        if not result.complete:
            typer.echo("error: interrupted; --resume goes on from here", err=True)
        raise typer.Exit(INCOMPLETE)
