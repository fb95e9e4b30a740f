"""``tokensim run``: simulate a scenario, print the report, leave the files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokensim.cli import INCOMPLETE
from tokensim.cli.options import OutputInRuns, Overrides, Plugins, load_plugins

if TYPE_CHECKING:
    from tokensim.assemble import Result
    from tokensim.cli.folder import OutputFolder
    from tokensim.cli.interrupt import Interrupt
    from tokensim.scenario import Scenario
    from tokensim.scenario.loading import Document


def run(
    scenario: Annotated[
        Path | None, typer.Argument(help="A scenario (YAML). Without it: --model, --hardware and a workload.")
    ] = None,
    set_: Overrides = None,
    output: OutputInRuns = None,
    no_output: Annotated[bool, typer.Option("--no-output", help="Write no files.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that holds other files.")
    ] = False,
    plugin: Plugins = None,
    exact_steps: Annotated[
        bool, typer.Option("--exact-steps", help="Walk every step: slower, same result.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    model: Annotated[str | None, typer.Option(metavar="ID", help="Catalog id, or a config.json.")] = None,
    weights: Annotated[str | None, typer.Option(metavar="DTYPE", help="bfloat16, fp8, int4, ...")] = None,
    hardware: Annotated[str | None, typer.Option(metavar="ID", help="Catalog id, or a YAML file.")] = None,
    replicas: Annotated[str | None, typer.Option(metavar="N", help="Instances.")] = None,
    tensor_parallel_size: Annotated[
        str | None, typer.Option("--tensor-parallel-size", "-tp", metavar="N", help="Devices of an instance.")
    ] = None,
    pipeline_parallel_size: Annotated[
        str | None, typer.Option("--pipeline-parallel-size", "-pp", metavar="N", help="Its stages.")
    ] = None,
    max_num_seqs: Annotated[str | None, typer.Option(metavar="N", help="Requests in a step at most.")] = None,
    max_num_batched_tokens: Annotated[
        str | None, typer.Option(metavar="N", help="Tokens in a step at most.")
    ] = None,
    max_model_len: Annotated[
        str | None, typer.Option(metavar="N", help="Tokens of a request at most.")
    ] = None,
    gpu_memory_utilization: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Of device memory, 0 to 1.")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="FILE", help="Replay this trace instead of the file's workload.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="R", help="Requests a second (replaces a trace's arrivals); inf: all at once."),
    ] = None,
    rate_scale: Annotated[str | None, typer.Option(metavar="X", help="Times the trace's own rate.")] = None,
    input_tokens: Annotated[str | None, typer.Option(metavar="N", help="Tokens of every prompt.")] = None,
    output_tokens: Annotated[str | None, typer.Option(metavar="N", help="Tokens of every answer.")] = None,
    num_requests: Annotated[
        str | None, typer.Option(metavar="N", help="How many requests, or sessions; of a trace, the first N.")
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="N", help="Seed of everything random.")] = None,
) -> None:
    """Simulate a scenario and report on it.

    Values on the command line win over the file: first the short options, then --set in order. Exit codes:
    0 done, 1 the simulation could not be completed (partial results say so), 2 the input was refused.
    """
    from tokensim.cli.folder import prepare_folder
    from tokensim.cli.interrupt import Interrupt
    from tokensim.errors import SimulationError

    flags = {
        "model": model,
        "weights": weights,
        "hardware": hardware,
        "replicas": replicas,
        "tensor-parallel-size": tensor_parallel_size,
        "pipeline-parallel-size": pipeline_parallel_size,
        "max-num-seqs": max_num_seqs,
        "max-num-batched-tokens": max_num_batched_tokens,
        "max-model-len": max_model_len,
        "gpu-memory-utilization": gpu_memory_utilization,
        "trace": trace,
        "rate": rate,
        "rate-scale": rate_scale,
        "input-tokens": input_tokens,
        "output-tokens": output_tokens,
        "num-requests": num_requests,
        "seed": seed,
    }
    folder = None if no_output else output or Path("runs") / (scenario.stem if scenario else "command-line")
    with Interrupt() as interrupt:
        try:
            load_plugins(plugin)
            document = _document(scenario, flags, set_ or [])
            checked = document.check()
            interrupt.check()
            target = prepare_folder(folder, force=force) if folder else None
            result = _simulate(document, checked, target, interrupt, exact_steps=exact_steps, quiet=quiet)
        except KeyboardInterrupt:
            raise SimulationError("interrupted before there was a result; nothing was written") from None
        _deliver(result, checked, target, quiet=quiet)


def _document(scenario: Path | None, flags: dict[str, str | None], overrides: list[str]) -> Document:
    """The scenario that the command line asks for, not yet checked."""
    from tokensim.cli.flags import apply_flags, bare_document, complete_bare
    from tokensim.scenario.loading import read_document

    document = read_document(scenario) if scenario else bare_document()
    apply_flags(document, flags)
    for override in overrides:
        document.override(override)
    if scenario is None:
        complete_bare(document)
    return document


def _simulate(
    document: Document,
    scenario: Scenario,
    target: OutputFolder | None,
    interrupt: Interrupt,
    *,
    exact_steps: bool,
    quiet: bool,
) -> Result:
    """Run ``scenario``, checked from ``document``. A run without a result leaves no folder behind."""
    from tokensim.cli.progress import progress_bar
    from tokensim.errors import InputError

    try:
        from tokensim.assemble import simulate

        interrupt.check()
        with progress_bar(quiet) as bar:
            return simulate(scenario, exact_steps=exact_steps, progress=interrupt.watch(bar))
    except BaseException as error:
        if target:
            target.withdraw()
        if isinstance(error, InputError):
            raise document.locate(error) from None
        raise


def _deliver(result: Result, scenario: Scenario, target: OutputFolder | None, *, quiet: bool) -> None:
    """Write ``result`` into ``target`` and print it; exits with 1 when it is partial."""
    from tokensim.errors import SimulationError

    if target:
        try:
            result.save(target.path)
        except KeyboardInterrupt:
            raise SimulationError(
                f"{target.path}: interrupted while the files were written: not all of them are there"
            ) from None
    if not quiet:
        from tokensim.metrics.latency import request_latency
        from tokensim.report.header import header_of
        from tokensim.report.terminal import print_report

        print_report(
            result.summary,
            header=header_of(scenario.model_copy(update={"performance": result.scenario.performance})),
            wall_s=result.wall_s,
            latency=request_latency(result.log.requests),
        )
        if target:
            typer.echo(f"Files: {target.path}")
    if not result.complete:
        print("error: interrupted; the results are partial", file=sys.stderr)
        raise typer.Exit(INCOMPLETE)
