"""A capacity, or those of a study, in the terminal."""

from __future__ import annotations

from typing import Any

from tokensim.explore.answer_files import about
from tokensim.explore.capacities import Capacities
from tokensim.explore.question import Capacity, Question
from tokensim.report.numbers import duration
from tokensim.scenario import Scenario


def statement(result: Capacity) -> str:
    """What was found, with what confidence, in one or two sentences."""
    load = result.load
    if result.status == "none":
        return "No load keeps the SLO, not even one request at a time."
    if load is None or result.value is None:
        return f"No capacity was found ({result.status}{f': {result.error}' if result.error else ''})."
    text = f"Capacity: {load.text(result.value)}"
    if not result.lasts:
        text = f"Not for long (runs twice as long miss the SLO below it): {load.text(result.value)}"
    if result.interval is None:
        edge = result.edges[0]
        assert edge.high is not None
        return f"{text} with seed {edge.seed} ({edge.high:.4g} misses the SLO). Other seeds may differ."
    low, high = result.interval
    share = f"{100 * result.confidence:.6g} %"
    return (
        f"{text} on average over {len(result.edges)} seeds; {share} interval of the mean edge: {low:.4g} to"
        f" {high:.4g}."
    )


def plain_capacity(result: Capacity, scenario: Scenario) -> dict[str, Any]:
    """``result`` of ``scenario`` as plain data: what is printed with --json, kept, and shown on its page."""
    bounds = scenario.slo.model_dump(exclude={"percentile"}, exclude_none=True)
    return {
        **about(scenario),
        "slo": {"percentile": scenario.slo.percentile, "bounds": bounds},
        "statement": statement(result),
        **result.to_dict(),
    }


def print_capacity(result: Capacity, title: str) -> None:
    """Print ``result`` of the scenario ``title``: statement, seeds, what binds it, what limits it, notes."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if title:
        console.print(title, style="bold", markup=False)
    console.print(statement(result), style="bold" if result.value is not None else "", markup=False)
    if len(result.edges) > 1:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for name in ("seed", "met", "missed", "TTFT p99", "TPOT p99", "E2E p50"):
            table.add_column(name, justify="right")
        for edge in result.edges:
            figures = [
                edge.figures.get(f"latency.{name}") for name in ("ttft_s.p99", "tpot_s.p99", "e2e_s.p50")
            ]
            table.add_row(
                str(edge.seed),
                *("-" if side is None else f"{side:.4g}" for side in (edge.low, edge.high)),
                *(duration(value) if isinstance(value, int | float) else "-" for value in figures),
            )
        console.print(table)
    lines = []
    if result.binding:
        lines.append(f"{'Just above it' if result.value is not None else 'Missed'}: {result.binding}")
    if result.limits:
        lines.append(f"At it: {result.limits}")
    arriving = result.figures.get("throughput.arrivals_per_s")
    if result.load is not None and result.load.kind == "rate-scale" and isinstance(arriving, int | float):
        lines.append(f"These are {arriving:.4g} requests/s (seed {result.edges[0].seed})")
    if result.saturated_per_s is not None:
        lines.append(f"All at once: {result.saturated_per_s:.4g} requests/s are served")
    lines.append(f"Runs: {result.runs}")
    if result.interval is not None:
        lines.append(
            "The interval covers what seeds change (arrivals, lengths) and the step of the search; not the"
            " error of the model, nor what a longer run would show."
        )
    lines += [f"Note: {note}" for note in result.notes]
    for line in lines:
        console.print(line, markup=False)


def print_capacities(found: Capacities, question: Question) -> None:
    """Print a row for each configuration of ``found``, the best in bold, and what failed."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for parameter in found.study.parameters:
        table.add_column(parameter.name.rsplit(".", 1)[-1], no_wrap=True)
    for name in ("capacity", "interval", "USD/M out", "bound"):
        table.add_column(name, justify="left" if name == "bound" else "right", no_wrap=True)
    for index, (choices, result) in enumerate(zip(found.choices, found.results, strict=True)):
        price = result.figures.get("spending.usd_per_million_output_tokens")
        interval = result.interval
        table.add_row(
            *(str(choice.label) for choice in choices),
            "-" if result.value is None else f"{result.value:.4g}",
            "-" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}",
            f"{price:.3g}" if isinstance(price, int | float) and result.value is not None else "-",
            result.bound if result.status == "found" else result.status,
            style="bold" if index == found.best else "",
        )
    study = found.study
    units = {result.load.unit for result in found.results if result.load is not None}
    title = f"[bold]{study.file.name or 'Study'}[/]: capacity in {' or '.join(sorted(units)) or 'no load'}"
    console.print(f"{title}, {question.seeds} seeds\n")
    console.print(table)
    told = dict.fromkeys(note for result in found.results for note in (*result.notes, result.error) if note)
    for note in list(told)[:8]:
        console.print(f"Note: {note}", markup=False)
    if len(told) > 8:
        console.print(f"… {len(told) - 8} more notes in capacity.parquet")
