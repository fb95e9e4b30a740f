"""``tokensim explain``: where the time of one step goes, operator by operator, on one device or on two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokensim.cli.options import Operators, Overrides, Plugins, load_plugins

if TYPE_CHECKING:
    from tokensim.cost.explain import Explanation, Step
    from tokensim.plan import PoolPlan
    from tokensim.report.explain import OnDevice
    from tokensim.scenario.loading import Document

ABOVE_PEAK = 1.1
"""Share of the memory's bandwidth from which operands must lie in a cache: more than tables scatter."""


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
    explained = [_explained(document, wanted, pool, choice) for choice in choices]
    if json_:
        typer.echo(json.dumps(as_json(wanted, [d for devices in explained for d in devices]), indent=2))
    elif len(explained) == 2:
        typer.echo("\n\n".join(render_two(wanted, *pair) for pair in zip(*explained, strict=True)))
    else:
        typer.echo("\n\n".join(render_one(wanted, device) for device in explained[0]))


def _explained(document: Document, step: Step, pool: str | None, hardware: str | None) -> list[OnDevice]:
    """``step`` on the pool of that name, stage by stage, on ``hardware`` if that is given."""
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
        explanations = [explain_step(cost, step) for cost in plan.stages]
    except InputError as error:
        raise document.locate(error) from None
    stages = len(explanations)
    explained = []
    for stage, explanation in enumerate(explanations):
        name = plan.device.name + (f", stage {stage + 1} of {stages}" if stages > 1 else "")
        notes = (
            *plan.notes,
            *_notes(plan, step, explanation.rows),
            *_sends(plan, step, stage),
            *_drafts(plan, step),
            *_above_peak(explanation),
        )
        explained.append(OnDevice(plan.device.id, name, plan.operators, explanation, notes))
    return explained


def _above_peak(explanation: Explanation) -> list[str]:
    """What outruns the memory of the device."""
    found = [
        part.operator
        for part in explanation.operators
        if part.bound == "memory" and part.of_peak is not None and part.of_peak > ABOVE_PEAK
    ]
    if not found:
        return []
    return [f"above the memory's bandwidth, since measured with operands in a cache: {', '.join(found)}"]


def _sends(plan: PoolPlan, step: Step, stage: int) -> list[str]:
    """What a pipeline adds around the operators of ``stage``."""
    from tokensim.report.numbers import duration

    if stage >= len(plan.sends):
        return []
    notes = [f"to stage {stage + 2} the activations take {duration(plan.sends[stage].seconds(step.tokens))}"]
    if stage == 0:
        busy = duration(plan.host.busy_s(step.requests))
        notes.append(f"before stage 1 the host takes {busy}, behind what the stages do")
    return notes


def _drafts(plan: PoolPlan, step: Step) -> list[str]:
    """What speculation adds to the step."""
    from tokensim.report.numbers import duration

    cost = plan.speculative
    if cost is None:
        return []
    drafts = cost.drafts * step.decode
    context, longest = step.contexts()
    capped, _ = step.contexts(cost.window)
    spent = cost.verify_time(
        step.decode, drafts, context, capped, longest, step.chunks, step.requests + drafts
    )
    drafter = spent.first_s + spent.later_s + spent.search_s
    return [
        f"with {cost.drafts} drafts a decode to verify the step lasts {duration(spent.step_s)}, of which the"
        f" next drafts take {duration(drafter)}"
    ]


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
    held = sum(requests * context for requests, context in step.decodes) + sum(map(sum, step.chunks))
    room = (engine.num_gpu_blocks or 0) * (engine.block_size or 1)
    if held > room and plan.stages[0].window is None:
        notes.append(f"the engine would not run this step: {held:,} tokens, its KV pool holds {room:,}")
    return notes
