"""``tokensim capacity``: the highest load that keeps the SLO, of a scenario or of every configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from tokensim.cli import INCOMPLETE
from tokensim.cli.options import Executors, Jobs, Overrides, Plugins, load_plugins, share

if TYPE_CHECKING:
    from tokensim.explore.capacity import Capacity, Question
    from tokensim.explore.executors import Executor
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
        typer.Option("--output", "-o", metavar="DIR", help="Where the files go. [of a study: runs/NAME]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the runs that DIR holds.")] = False,
    executor: Executors = "local",
    jobs: Jobs = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find the highest load that keeps the SLO.

    Bracketing and bisection, with several seeds; met also means that every request is served. Exit codes:
    0 done, 1 some configuration failed or it was interrupted, 2 refused.
    """
    from tokensim.explore.capacity import SEEDS, Question
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
    from tokensim.cli.progress import points_bar
    from tokensim.explore.executors import make_executor

    workers = make_executor(executor, jobs, [str(path.absolute()) for path in plugin or ()])
    try:
        with points_bar(quiet) as bar:
            if study:
                from tokensim.explore.capacities import capacities
                from tokensim.explore.capacity_report import print_capacities
                from tokensim.explore.study import Study

                folder = output or Path("runs") / f"{file.stem}-capacity"
                given = Study.from_yaml(file, tuple(set_ or ()))
                found = capacities(given, question, folder, executor=workers, resume=resume, progress=bar)
                failed = any(result.status in ("failed", "crashed", "incomplete") for result in found.results)
            else:
                result = _of_scenario(file, set_ or [], question, output, resume, workers, bar)
                failed = result.status in ("failed", "crashed", "incomplete")
    except KeyboardInterrupt:
        hint = "; --resume goes on from here" if study or output else ""
        typer.echo(f"error: interrupted{hint}", err=True)
        raise typer.Exit(INCOMPLETE) from None
    if as_json and study:
        rows = [
            {
                "parameters": {p.name: c.label for p, c in zip(given.parameters, chosen, strict=True)},
                **r.to_dict(),
            }
            for chosen, r in zip(found.choices, found.results, strict=True)
        ]
        typer.echo(json.dumps(rows, indent=2))
    elif as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    elif not quiet and study:
        print_capacities(found, question)
        typer.echo(f"Files: {folder}")
    elif not quiet:
        from tokensim.explore.capacity_report import print_capacity

        print_capacity(result, question, str(data.get("name") or ""))
    if failed:
        raise typer.Exit(INCOMPLETE)


def _of_scenario(
    file: Path,
    overrides: list[str],
    question: Question,
    output: Path | None,
    resume: bool,
    executor: Executor,
    progress: Progress | None,
) -> Capacity:
    """The capacity of the scenario ``file``; its runs, and the result as JSON, go into ``output``."""
    from tokensim.explore.capacity import capacity as find
    from tokensim.explore.store import STORE_FILE, Store
    from tokensim.explore.sweep import prepare
    from tokensim.scenario.loading import load_scenario

    scenario = load_scenario(file, overrides)
    if output is None:
        return find(scenario, question, executor=executor, progress=progress)
    prepare(output, resume)
    with Store(output / STORE_FILE) as store:
        result = find(scenario, question, executor=executor, store=store, progress=progress)
    from tokensim.report.atomic import write_atomic

    text = json.dumps(result.to_dict(), indent=2).encode()

    def write(into: IO[bytes]) -> None:
        into.write(text)

    write_atomic(output / "capacity.json", write)
    return result
