"""``tokensim explain``: where the time of one step goes, operator by operator, on one device or on two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokensim.cli.options import Operators, Overrides, Plugins, load_plugins

if TYPE_CHECKING:
    from tokensim.cost.explain import Step
    from tokensim.plan import PoolPlan
    from tokensim.report.explain import OnDevice
    from tokensim.scenario.loading import Document


def explain(
    scenario: Annotated[Path, typer.Argument(help="A scenario (YAML).")],
    step: Annotated[
        list[str],
        typer.Option(
            "--step",
            metavar="STEP",
            help="decode=64@1024 (requests@context), prefill=2048, prefill=512@4096 (new@cached);"
            " joined by + or repeated: all in one step.",
        ),
    ],
    hardware: Annotated[
        list[str] | None,
        typer.Option(
            "--hardware", metavar="ID", help="Instead of the scenario's; given twice: compare the two."
        ),
    ] = None,
    operators: Operators = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="NAME", help="Which pool. [default: the first]")
    ] = None,
    set_: Overrides = None,
    plugin: Plugins = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON (SI units) instead of a table.")] = False,
) -> None:
    """Explain one step: each operator's shape, time, work, share of the device's peak, bound and source."""
    import json

    from tokensim.cost.explain import parse_step
    from tokensim.errors import InputError
    from tokensim.report.explain import as_json, render_one, render_two
    from tokensim.scenario.loading import read_document

    wanted = parse_step(step)
    if hardware and len(hardware) > 2:
        raise InputError(
            f"--hardware is given {len(hardware)} times", hint="once: that device; twice: compare the two"
        )
    load_plugins(plugin)
    document = read_document(scenario)
    for override in set_ or []:
        document.override(override)
    if operators is not None:
        document.set(("performance", "operators"), operators, f"--operators {operators}")
    choices: list[str | None] = [*hardware] if hardware else [None]
    devices = [_explained(document, wanted, pool, choice) for choice in choices]
    if json_:
        typer.echo(json.dumps(as_json(wanted, devices), indent=2))
    elif len(devices) == 2:
        typer.echo(render_two(wanted, *devices))
    else:
        typer.echo(render_one(wanted, devices[0]))


def _explained(document: Document, step: Step, pool: str | None, hardware: str | None) -> OnDevice:
    """``step`` on the pool of that name, on ``hardware`` if that is given."""
    from tokensim.cost.explain import explain as explain_step
    from tokensim.errors import InputError
    from tokensim.model import load_model
    from tokensim.plan import plan_pool
    from tokensim.report.explain import OnDevice

    index = _pool_index(document, pool)
    if hardware is not None:
        place = ("cluster", "pools", index, "hardware")
        document.set(place, hardware, f"--hardware {hardware}")
    scenario = document.check()
    try:
        plan = plan_pool(scenario, index, load_model(scenario.model, "model"))
        explanation = explain_step(plan.cost, step)
    except InputError as error:
        raise document.locate(error) from None
    notes = (*plan.notes, *_notes(plan, step, explanation.rows))
    return OnDevice(plan.device.id, plan.device.name, plan.operators, explanation, notes)


def _pool_index(document: Document, name: str | None) -> int:
    from tokensim.errors import InputError, nearest

    if name is None:
        return 0
    names = [pool.name for pool in document.check().cluster.pools]
    if name not in names:
        raise InputError(f"no pool is called '{name}'", where=f"--pool {name}", hint=nearest(name, names))
    return names.index(name)


def _notes(plan: PoolPlan, step: Step, rows: int) -> list[str]:
    """What the engine of this pool would do differently."""
    engine = plan.engine
    assert engine.max_num_seqs and engine.max_num_batched_tokens and engine.max_model_len
    notes = []
    if rows != step.tokens:
        notes.append(f"{step.tokens} tokens run as {rows}, the next captured CUDA graph")
    longest = max([context for _, context in step.decodes] + [new + cached for new, cached in step.chunks])
    for what, value, limit in (
        ("requests", step.requests, "max_num_seqs"),
        ("tokens", step.tokens, "max_num_batched_tokens"),
        ("tokens in the longest request", longest, "max_model_len"),
    ):
        most = getattr(engine, limit)
        if value > most:
            notes.append(f"the engine would not run this step: {value:,} {what}, {limit} is {most:,}")
    return notes
