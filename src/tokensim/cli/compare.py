"""``tokensim compare``: runs side by side, and whether a difference is more than seed noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tokensim.cli.options import Executors, Jobs, Plugins, load_plugins, share


def compare(
    items: Annotated[
        list[Path],
        typer.Argument(metavar="A B...", help="Run folders or scenarios (YAML); the first is the base."),
    ],
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Runs of each. [default: 5; with a run folder among them 1]"),
    ] = None,
    confidence: Annotated[str, typer.Option(metavar="SHARE", help="Of all verdicts together.")] = "95%",
    figure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A figure of summary.json (latency.ttft_s.p95). Repeatable."),
    ] = None,
    executor: Executors = "local",
    jobs: Jobs = None,
    plugin: Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs: what differs in their scenarios and figures, and whether it is more than seed noise.

    Scenario files are run, with several seeds; run folders are taken as they are, unless --seeds asks for
    more.
    """
    load_plugins(plugin)
    from tokensim.cli.interrupt import told_when_interrupted
    from tokensim.cli.progress import points_bar
    from tokensim.explore.compare import compare as run_compare
    from tokensim.explore.compare_report import print_comparison
    from tokensim.explore.executors import make_executor

    workers = make_executor(executor, jobs, [str(path.absolute()) for path in plugin or ()])
    with told_when_interrupted(), points_bar(quiet=False) as bar:
        found = run_compare(
            items,
            seeds=seeds,
            confidence=share(confidence, "--confidence"),
            figures=figure or (),
            executor=workers,
            progress=bar,
        )
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        print_comparison(found)
