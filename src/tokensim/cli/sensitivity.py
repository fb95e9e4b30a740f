"""``tokensim sensitivity``: what better devices would give, and what binds now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from tokensim.cli.options import Executors, Jobs, Overrides, Plugins, load_plugins, share


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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make each ability of the devices better in turn: what throughput, latency or capacity gain.

    Compute rate, memory bandwidth, memory size, links, host: the elasticity of each figure, and the
    bottleneck.
    """
    load_plugins(plugin)
    from tokensim.cli.interrupt import told_when_interrupted
    from tokensim.cli.progress import points_bar
    from tokensim.explore.executors import make_executor
    from tokensim.explore.sensitivity import sensitivity as find
    from tokensim.explore.sensitivity_report import print_sensitivity
    from tokensim.scenario.loading import load_scenario

    given = load_scenario(scenario, set_ or [])
    workers = make_executor(executor, jobs, [str(path.absolute()) for path in plugin or ()])
    with told_when_interrupted(), points_bar(quiet=False) as bar:
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
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        print_sensitivity(found, given.name or "")
