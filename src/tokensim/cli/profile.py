"""``tokensim profile``: measure the operators of a device, for use in every other command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokensim.cli import INCOMPLETE
from tokensim.cli.options import share

if TYPE_CHECKING:
    from tokensim.profiling.bench import Facts
    from tokensim.profiling.kernels.bench import TorchBench
    from tokensim.profiling.plan import Plan
    from tokensim.profiling.run import Expectation
    from tokensim.profiling.session import Outcome, Progress


def profile(
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="cpu, cuda:0. [default: the first GPU, else the CPU]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="Measure what this model's steps need. [default: any's]")
    ] = None,
    tensor_parallel_size: Annotated[
        int, typer.Option("--tensor-parallel-size", "-tp", metavar="N", min=1, help="Of the model.")
    ] = 1,
    expert_parallel_size: Annotated[
        int, typer.Option("--expert-parallel-size", "-ep", metavar="N", min=1, help="Of the model.")
    ] = 1,
    dtypes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Weights: bfloat16,fp8. [default: the model's; else bfloat16, fp8]"
        ),
    ] = None,
    operators: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Of gemm, attention, elementwise, experts, collective. [default: all]"
        ),
    ] = None,
    max_num_batched_tokens: Annotated[
        int, typer.Option(metavar="N", min=2, help="Tokens in a step at most.")
    ] = 8192,
    max_num_seqs: Annotated[int, typer.Option(metavar="N", min=2, help="Decodes in a step at most.")] = 256,
    max_model_len: Annotated[
        int | None,
        typer.Option(metavar="N", min=32, help="Context at most. [default: the model's, to 16384]"),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="Stop after this long with what there is; 0: no bound.")
    ] = "10min",
    error: Annotated[
        str, typer.Option(metavar="SHARE", help="Refine until interpolation is off by less.")
    ] = "5%",
    cache: Annotated[
        str, typer.Option(metavar="WHICH", help="Weights and KV: cold (from memory), hot, or both.")
    ] = "cold",
    ranks: Annotated[int, typer.Option(metavar="N", min=0, help="On a CPU: processes for collectives.")] = 0,
    base: Annotated[
        str | None, typer.Option(metavar="ID", help="Device whose price, power and links to keep.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the device in the tables. [default: its own, or --base]"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go.")] = Path(
        "profile"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what DIR holds.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be measured, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Measure the operators of a device.

    Writes tables and a device file for `--hardware DIR/device.yaml` and `performance.operators=DIR/`. Exit
    codes: 0 complete, 1 stopped before the error that was asked for (with what there is), 2 refused.
    """
    from tokensim.errors import InputError, nearest
    from tokensim.hardware import load_device
    from tokensim.profiling.kernels import CACHES, open_bench
    from tokensim.profiling.plan import OPERATORS
    from tokensim.profiling.run import Request, expected, measure
    from tokensim.scenario.units import parse_duration

    if cache not in CACHES:
        raise InputError(f"unknown '{cache}'", where="--cache", hint="cold, hot or both")
    wanted = operators.split(",") if operators else list(OPERATORS)
    for one in wanted:
        if one not in OPERATORS:
            raise InputError(f"unknown operators '{one}'", where="--operators", hint=nearest(one, OPERATORS))
    try:
        budget_s = parse_duration(budget)
    except ValueError as problem:
        raise InputError(str(problem), where="--budget", hint="e.g. 10min") from None
    target = share(error, "--error")
    if not 0.0 < target < 1.0:
        raise InputError(f"{error} is out of range", where="--error", hint="between 0 and 1: 5%")
    if model is None and (tensor_parallel_size, expert_parallel_size) != (1, 1):
        raise InputError("parallelism is a model's", where="--tensor-parallel-size", hint="give --model")
    if base is not None:
        load_device(base, "--base")
    request = Request(output, target, budget_s, resume, base, cache)
    with closing(open_bench(device, cache=cache, ranks=ranks, slug=name or base)) as bench:
        planned = _planned(
            bench.facts,
            model,
            (tensor_parallel_size, expert_parallel_size),
            dtypes,
            (max_num_batched_tokens, max_num_seqs, max_model_len),
        ).only(wanted)
        if not planned.lines:
            raise InputError("there is nothing to measure", hint="; ".join(planned.notes) or None)
        if plan:
            _show_plan(bench, planned, expected(bench, planned, bench.policy, cache), as_json)
            return
        with _bar(quiet or as_json) as progress:
            outcome, paths = measure(bench, planned, request, bench.policy, progress, bench.told)
        _report(bench.facts, planned, outcome, paths, as_json, quiet)
    if not outcome.complete:
        if not quiet:
            typer.echo(f"error: {outcome.ended}; --resume goes on from here", err=True)
        raise typer.Exit(INCOMPLETE)


def _planned(
    facts: Facts,
    model: str | None,
    parallel: tuple[int, int],
    dtypes: str | None,
    load: tuple[int, int, int | None],
) -> Plan:
    """The plan of a model, or of any."""
    from tokensim.errors import InputError
    from tokensim.model.dtypes import FULL_PRECISION, weight_dtype
    from tokensim.profiling.generic import generic_plan
    from tokensim.profiling.plan import Extent, model_plan

    given = [weight_dtype(one, "--dtypes") for one in dtypes.split(",")] if dtypes else []
    tokens, seqs, context = load
    if model is None:
        from tokensim.cost.tables.formats import table_formats

        named = [next((n for n in table_formats(one) if n in facts.dtypes), None) for one in given]
        if None in named:
            lacking = given[named.index(None)]
            raise InputError(f"{lacking} is not on this device", where="--dtypes", hint=_known(facts))
        weights = [one for one in named if one] or [n for n in ("bfloat16", "fp8") if n in facts.dtypes]
        return generic_plan(facts, Extent(tokens, seqs, context or 16384), weights or list(facts.dtypes[:1]))
    from tokensim.model import load_model

    spec = load_model(model, "--model")
    own = spec.native_dtype if spec.native_dtype in FULL_PRECISION else "bfloat16"
    extent = Extent(tokens, seqs, min(context or 16384, spec.max_position))
    tensor, expert = parallel
    return model_plan(spec, facts, extent, given or [own], tensor=tensor, expert=expert)


def _known(facts: Facts) -> str:
    return "it has " + ", ".join(facts.dtypes)


def _show_plan(bench: TorchBench, plan: Plan, expectation: Expectation, as_json: bool) -> None:
    from tokensim.cli.columns import columns
    from tokensim.report.numbers import duration

    facts, rates = bench.facts, expectation.rates
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "device": facts.name,
                    "plan": plan.what,
                    "kinds": {k: {"shapes": n, "seconds": s} for k, (n, s) in expectation.kinds.items()},
                    "coarse_s": expectation.coarse_s,
                    "about_s": expectation.about_s,
                    "flops": dict(rates.flops),
                    "memory_bytes_per_s": rates.memory_bytes_per_s,
                    "failed": dict(rates.failed),
                    "notes": list(plan.notes),
                },
                indent=2,
            )
        )
        return
    reached = ", ".join(f"{dtype} {rate / 1e12:.2f} TFLOP/s" for dtype, rate in rates.flops.items())
    typer.echo(f"{facts.name}: {reached}, memory {rates.memory_bytes_per_s / 1e9:,.0f} GB/s")
    typer.echo(f"Plan: {plan.what}")
    rows = [(kind, f"{count:,}", duration(seconds)) for kind, (count, seconds) in expectation.kinds.items()]
    typer.echo(columns(("kind", "shapes", "takes"), rows))
    typer.echo(
        f"Coarse grid: {duration(expectation.coarse_s)}. With refinement and checks: about"
        f" {duration(expectation.about_s)}."
    )
    for note in (*plan.notes, *(f"{what} is not measured: {why}" for what, why in rates.failed.items())):
        typer.echo(f"Note: {note}")


def _report(
    facts: Facts, plan: Plan, outcome: Outcome, paths: list[Path], as_json: bool, quiet: bool
) -> None:
    if as_json:
        plain: dict[str, Any] = {
            "device": facts.name,
            "name": facts.slug,
            "plan": plan.what,
            "complete": outcome.complete,
            "ended": outcome.ended,
            "measured": outcome.measured,
            "error": outcome.error,
            "checks": list(outcome.checks),
            "noisy": outcome.noisy,
            "refused": dict(outcome.refused),
            "elapsed_s": outcome.elapsed_s,
            "notes": list(plan.notes),
            "files": [str(path) for path in paths],
        }
        typer.echo(json.dumps(plain, indent=2))
        return
    if quiet:
        return
    from tokensim.report.numbers import duration

    typer.echo(f"{facts.name}: {outcome.measured:,} shapes in {duration(outcome.elapsed_s)}, {outcome.ended}")
    if outcome.error is not None:
        most = f"{outcome.error:.1%} at most" if outcome.error < 1.0 else "more than 100%"
        typer.echo(f"Interpolation between them is expected to be off by {most}.")
    if outcome.checks:
        checks = sorted(outcome.checks)
        typer.echo(
            f"Checks between them: median {outcome.check_median:.1%}, worst {checks[-1]:.1%}"
            f" of {len(checks)}, before the tables took them in."
        )
    if outcome.noisy:
        typer.echo(
            f"Note: {outcome.noisy} shapes vary by more than the error asked for: is anything else running?"
        )
    for why, count in outcome.refused.items():
        typer.echo(f"Note: {count} shapes are not measured: {why}")
    for note in plan.notes:
        typer.echo(f"Note: {note}")
    folder = paths[-1].parent
    typer.echo(f"Files: {folder}")
    typer.echo(f"Use: --hardware {paths[-1]} --set performance.operators={folder}/")


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A bar on stderr; None when ``quiet`` or when stderr is no terminal."""
    from tokensim.cli.progress import BAR, clock, terminal_bar

    columns = (
        *("{task.fields[phase]}", BAR, "{task.completed:,.0f} shapes", "{task.fields[error]}"),
        "about {task.fields[left]} left",
    )
    with terminal_bar(quiet, *columns) as bar:
        if bar is None:
            yield None
            return
        task = bar.add_task("", total=None, phase="rates of the device", error="", left="?")

        def show(now: Progress) -> None:
            error = "" if now.error is None else f"error {now.error:.0%}"
            bar.update(
                task,
                completed=now.done,
                total=now.done + now.left,
                phase=now.phase,
                error=error,
                left=clock(now.left_s),
            )

        yield show
