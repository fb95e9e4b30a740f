"""``tokensim sensitivity``: what better devices would give, and what binds now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from tokensim.cli.options import (
    AsJson,
    Executors,
    Jobs,
    Output,
    Overrides,
    Plugins,
    Quiet,
    load_plugins,
    make_workers,
    share,
)


def sensitivity(
    scenario: Annotated[Path, typer.Argument(help="A scenario (YAML).")],
    set_: Overrides = None,
    change: Annotated[str, typer.Option(metavar="SHARE", help="How much better each is made.")] = "10%",
    seeds: Annotated[int, typer.Option(metavar="N", help="Runs of each.")] = 5,
    confidence: Annotated[str, typer.Option(metavar="SHARE", help="Of the intervals over seeds.")] = "95%",
    at: Annotated[
        str, typer.Option(metavar="LOAD", help="given: the scenario's load; capacity: what its SLO allows.")
    ] = "given",
    load: Annotated[
        str, typer.Option(metavar="KIND", help="With --at capacity: rate, rate-scale, concurrency.")
    ] = "auto",
    pool: Annotated[
        str | None, typer.Option(metavar="NAME", help="Better devices in this pool alone.")
    ] = None,
    executor: Executors = "local",
    jobs: Jobs = None,
    plugin: Plugins = None,
    output: Output = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make each ability of the devices better in turn: what throughput, latency or capacity gain.

    Compute rate, memory bandwidth, memory size, links, host: the elasticity of each figure, and the
    bottleneck. With --output, they and their page are kept.
    """
    load_plugins(plugin)
    from tokensim.cli.folder import answer_folder
    from tokensim.cli.interrupt import told_when_interrupted
    from tokensim.cli.progress import points_bar
    from tokensim.explore.answer_files import about, answer_text, write_answer
    from tokensim.explore.sensitivity import sensitivity as find
    from tokensim.explore.sensitivity_page import SENSITIVITY_ANSWER, sensitivity_page
    from tokensim.explore.sensitivity_report import print_sensitivity
    from tokensim.scenario.loading import load_scenario

    given = load_scenario(scenario, set_ or [])
    workers = make_workers(executor, jobs, plugin)
    folder = answer_folder(output, SENSITIVITY_ANSWER)
    with told_when_interrupted(), points_bar(quiet) as bar:
        found = find(
            given,
            change=share(change, "--change"),
            seeds=seeds,
            confidence=share(confidence, "--confidence"),
            at=cast(Literal["given", "capacity"], at),
            pool=pool,
            load=load,
            executor=workers,
            progress=bar,
        )
    plain = {**about(given), **found.to_dict()}
    if folder is not None:
        write_answer(folder, SENSITIVITY_ANSWER, plain, sensitivity_page, given)
    if as_json:
        typer.echo(answer_text(plain))
    elif not quiet:
        print_sensitivity(found, given.name or "")
        if folder is not None:
            typer.echo(f"Files: {folder}")
