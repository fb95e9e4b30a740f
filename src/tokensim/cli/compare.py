"""``tokensim compare``: runs side by side, and whether a difference is more than seed noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokensim.cli.options import (
    AsJson,
    Executors,
    Jobs,
    Output,
    Plugins,
    Quiet,
    load_plugins,
    make_workers,
    share,
)


def compare(
    items: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B...",
            help="Run folders, points of sweeps (DIR@3) or scenarios (YAML); the first is the base.",
        ),
    ],
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Runs of each. [default: 5; with folders among them what these hold]"),
    ] = None,
    confidence: Annotated[str, typer.Option(metavar="SHARE", help="Of all verdicts together.")] = "95%",
    figure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A figure of summary.json (latency.ttft_s.p95). Repeatable."),
    ] = None,
    executor: Executors = "local",
    jobs: Jobs = None,
    plugin: Plugins = None,
    output: Output = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs: what differs in their scenarios and figures, and whether it is more than seed noise.

    Scenario files are run, with several seeds; folders of runs and sweeps are taken as they are, unless
    --seeds asks for more. With --output, the comparison and its page are kept.
    """
    load_plugins(plugin)
    from tokensim.cli.folder import answer_folder
    from tokensim.cli.interrupt import told_when_interrupted
    from tokensim.cli.progress import points_bar
    from tokensim.explore.answer_files import answer_text, write_answer
    from tokensim.explore.compare import compare as run_compare
    from tokensim.explore.compare_report import print_comparison
    from tokensim.explore.comparison_page import COMPARISON_ANSWER, comparison_page

    workers = make_workers(executor, jobs, plugin)
    folder = answer_folder(output, COMPARISON_ANSWER)
    with told_when_interrupted(), points_bar(quiet) as bar:
        found = run_compare(
            items,
            seeds=seeds,
            confidence=share(confidence, "--confidence"),
            figures=figure or (),
            executor=workers,
            progress=bar,
        )
    plain = found.to_dict()
    if folder is not None:
        write_answer(folder, COMPARISON_ANSWER, plain, comparison_page, found.sides[0].scenario)
    if as_json:
        typer.echo(answer_text(plain))
    elif not quiet:
        print_comparison(found)
        if folder is not None:
            typer.echo(f"Files: {folder}")
