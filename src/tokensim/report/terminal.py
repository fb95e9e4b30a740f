"""The table at the end of a run: what was simulated, how it went, where the time went, what to mind.

It fits 80 columns, says everything without colour, and keeps to ASCII where the terminal cannot do more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokensim.metrics.latency import Distribution, RequestLatency
from tokensim.metrics.summary import Summary
from tokensim.metrics.tiers import TierReport
from tokensim.report.charts import latency_charts
from tokensim.report.header import Header
from tokensim.report.numbers import count, duration, energy, money, setting, share, volume
from tokensim.report.pools import pools_table
from tokensim.report.tenants import tenants_table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 80
BAR = 16
LABEL = 12
MIN_SHARE = 0.0005
"""Parts of less than this share of the time are not listed (they would read 0.0 %)."""


def print_report(
    summary: Summary,
    *,
    header: Header,
    wall_s: float | None = None,
    latency: RequestLatency | None = None,
    console: Console | None = None,
) -> None:
    """Print the report on ``summary`` to ``console`` (default: standard output).

    ``wall_s`` is the real time that the event loop took, for the line on the simulation's speed; ``latency``
    is that of each request, for histograms.
    """
    from rich.console import Console

    console = console or Console(highlight=False)
    ascii_only = console.options.ascii_only
    report = render(summary, header=header, wall_s=wall_s, latency=latency, ascii_only=ascii_only)
    if console.is_terminal:
        console.print(report, highlight=False)
        return
    with console.capture() as captured:
        console.print(report, highlight=False)
    lines = captured.get().splitlines()
    console.file.write("".join(line.rstrip() + "\n" for line in lines))  # tables pad their cells


def render(
    summary: Summary,
    *,
    header: Header,
    wall_s: float | None = None,
    latency: RequestLatency | None = None,
    ascii_only: bool = False,
) -> RenderableType:
    """The report as one rich renderable."""
    from rich.console import Group
    from rich.text import Text

    sections = [
        _head(summary, header, ascii_only),
        _latency(summary, ascii_only),
        _figures(summary, wall_s),
        pools_table(summary),
        tenants_table(summary.tenants),
        latency_charts(latency, ascii_only),
        _over_time(summary, ascii_only),
        _time(summary, ascii_only),
        _notes(summary),
    ]
    return Group(*(part for s in sections if s is not None for part in (s, Text())))


def _head(summary: Summary, header: Header, ascii_only: bool) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    requests = summary.requests
    ended = requests.finished + requests.truncated
    outcome = Text("", "bold")
    if not summary.complete:
        outcome.append("PARTIAL RESULTS: ", "red")
    outcome.append(f"{count(ended)} of {count(requests.total)} requests served")
    if requests.truncated:
        outcome.append(f" ({count(requests.truncated)} cut short)", "yellow")
    outcome.append(f" in {duration(summary.makespan_s)} of simulated time", "not bold")
    for name in ("rejected", "failed", "cancelled", "unfinished"):
        number = getattr(requests, name)
        if number:
            outcome.append(f", {count(number)} {name}", "yellow")
    rule = Text(("-" if ascii_only else "─") * WIDTH, "dim")
    return Group(Text(header.title, "bold cyan"), rule, _pairs(header.lines), rule, outcome)


def _latency(summary: Summary, ascii_only: bool) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    slo = summary.slo
    bounds = {bound.metric: bound for bound in slo.bounds} if slo else {}
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("latency", min_width=LABEL - 1, no_wrap=True)
    for column in ("mean", "p50", "p90", "p95", "p99", "max"):
        table.add_column(column, justify="right", min_width=7, no_wrap=True)
    if slo:
        table.add_column(f"SLO at p{slo.percentile:g}", no_wrap=True, max_width=20)
    rows: tuple[tuple[str, str, Distribution], ...] = (
        ("TTFT", "ttft", summary.latency.ttft_s),
        ("TPOT", "tpot", summary.latency.tpot_s),
        ("ITL", "itl", summary.latency.itl_s),
        ("end to end", "e2e", summary.latency.e2e_s),
        ("queue", "queue", summary.latency.queue_s),
    )
    for label, metric, d in rows:
        cells: list[RenderableType] = [duration(v) for v in (d.mean, d.p50, d.p90, d.p95, d.p99, d.max)]
        bound = bounds.get(metric)
        if slo and bound:
            verdict = _mark(bound.met, ascii_only)
            cells.append(Text.assemble((verdict[0], verdict[1]), f" {setting(bound.bound_s)}"))
        table.add_row(label, *cells)
    return table


def _mark(met: bool | None, ascii_only: bool) -> tuple[str, str]:
    """The sign and style of a verdict."""
    if met is None:
        return "?", "yellow"
    if met:
        return ("met" if ascii_only else "✓ met"), "green"
    return ("MISSED" if ascii_only else "✗ missed"), "bold red"


def _figures(summary: Summary, wall_s: float | None) -> RenderableType:
    rate, tokens, usage = summary.throughput, summary.tokens, summary.usage
    spending = summary.spending
    lines = [
        (
            "throughput",
            f"{count(rate.requests_per_s)} requests/s; tokens/s: {count(rate.input_tokens_per_s)} in, "
            f"{count(rate.output_tokens_per_s)} out, {count(rate.total_tokens_per_s)} in all",
        )
    ]
    if summary.slo:
        lines.append(
            (
                "goodput",
                f"{count(summary.slo.goodput_per_s)} requests/s within the SLO "
                f"({share(summary.slo.good_share)} of requests)",
            )
        )
    each = " in each instance" if len(usage.instances) > 1 else ""
    lines += [
        ("KV cache", f"{share(usage.kv_mean)} mean, {share(usage.kv_max)} max of {_blocks(summary)}"),
        (
            "batch",
            f"{count(usage.batch_mean)} requests mean, {count(usage.batch_max)} max; "
            f"at most {count(usage.waiting_max)} waiting{each}",
        ),
        ("busy", f"{share(usage.busy_share)} of the time, {count(usage.steps)} steps"),
        ("prefix hits", f"{share(tokens.cached_share)} of input tokens ({count(tokens.cached)})"),
        *(("memory tier", _tier(tier)) for tier in summary.tiers or ()),
        ("preemptions", _preemptions(summary)),
        *_network(summary),
        *_operations(summary),
        (
            "cost",
            f"{money(spending.usd)}; per million tokens: {money(spending.usd_per_million_input_tokens)} in, "
            f"{money(spending.usd_per_million_output_tokens)} out, "
            f"{money(spending.usd_per_million_total_tokens)} in all",
        ),
        ("energy", _energy(summary)),
    ]
    drafts = summary.speculation
    if drafts is not None:
        accepted = f"{share(drafts.acceptance_rate)} of {count(drafts.drafted_tokens)} drafts accepted"
        lines.append(
            ("speculation", f"{accepted}; {count(drafts.mean_accepted_length)} tokens a verification")
        )
    if wall_s is not None:
        ended = summary.requests.total - summary.requests.unfinished
        speed = f"; {count(ended / wall_s)} requests/s" if wall_s > 0 else ""
        faster = f", {count(summary.simulated_s / wall_s)} x real time" if wall_s > 0 else ""
        lines.append(("simulated in", f"{duration(wall_s)}{speed}{faster}"))
    return _pairs(lines)


def _energy(summary: Summary) -> str:
    spending = summary.spending
    if not spending.energy_kwh:
        return "none"
    parts = ", ".join(
        f"{share(kwh / spending.energy_kwh)} {phase}" for phase, kwh in spending.energy_kwh_by_phase.items()
    )
    return f"{energy(spending.energy_kwh)} ({parts}); {count(spending.mean_power_w)} W on average"


def _blocks(summary: Summary) -> str:
    """The KV blocks of an instance, or of the smallest and the largest."""
    sizes = sorted({instance.num_blocks for instance in summary.usage.instances})
    if len(summary.usage.instances) == 1:
        return f"{count(sizes[0])} blocks"
    span = " to ".join(count(size) for size in dict.fromkeys((sizes[0], sizes[-1])))
    return f"{span} blocks each"


def _preemptions(summary: Summary) -> str:
    if not summary.preemptions:
        return "none"
    requests, tokens = count(summary.preempted_requests), count(summary.tokens.recomputed)
    return f"{count(summary.preemptions)} (requests: {requests}; tokens recomputed: {tokens})"


_KINDS = {"kv": "KV"}


def _network(summary: Summary) -> list[tuple[str, str]]:
    """What moved over links, and the busiest of them; nothing if nothing was sent."""
    if not summary.links:
        return []
    moved = [
        f"{_KINDS.get(kind.kind, kind.kind)}: {volume(kind.bytes)} in {count(kind.count)} transfers, "
        f"{duration(kind.seconds.mean)} each on average"
        for kind in summary.transfers or ()
    ]
    link = summary.links[0]
    use = (
        f"{link.name}: {share(link.used_share)} of its bandwidth, busy {share(link.busy_share)} of the time,"
        f" at most {count(link.peak_transfers)} at once"
    )
    return [*([("network", "; ".join(moved))] if moved else []), ("busiest link", use)]


def _operations(summary: Summary) -> list[tuple[str, str]]:
    """How the cluster changed during the run; nothing if it did not."""
    done = summary.operations
    if done is None:
        return []
    sizes = "; ".join(
        f"{size.pool} {count(size.least)} to {count(size.most)}, {size.mean:.3g} on average"
        if size.least < size.most
        else f"{size.pool} {count(size.most)} throughout"
        for size in done.pools
    )
    numbers = ((done.started, "started"), (done.removed, "removed"), (done.failures, "failed"))
    events = ", ".join(f"{count(number)} {what}" for number, what in numbers if number)
    if done.failures:
        events += f"; requests taken up again: {count(done.retried_requests)}"
        if done.retries > done.retried_requests:
            events += f" ({count(done.retries)} times)"
    return [("replicas", sizes), ("changes", events)]


def _tier(tier: TierReport) -> str:
    """What of the prefix hits came from a memory tier."""
    full = f"{share(tier.use.used_bytes / tier.use.capacity_bytes)} full at the end"
    if not tier.loads:
        return f"{tier.use.name}: nothing loaded; {full}"
    return (
        f"{tier.use.name}: {share(tier.hit_share)} of input tokens; {volume(tier.loaded_bytes)} in"
        f" {count(tier.loads)} loads, {duration(tier.load_s.mean)} each on average; {full}"
    )


def _over_time(summary: Summary, ascii_only: bool) -> RenderableType | None:
    series = summary.usage.series
    if not series.kv_share:
        return None
    end = duration(series.interval_s * len(series.kv_share))
    lines = [
        ("over time", f"0 to {end}; each line from 0 to its highest"),
        ("KV cache", f"{_spark(series.kv_share, ascii_only)} {share(max(series.kv_share))}"),
        ("running", f"{_spark(series.running, ascii_only)} {count(max(series.running))}"),
        ("waiting", f"{_spark(series.waiting, ascii_only)} {count(max(series.waiting))}"),
    ]
    return _pairs(lines)


def _spark(values: Sequence[float], ascii_only: bool) -> str:
    """One character a value, from nothing to the highest."""
    levels = " .:-=+*#" if ascii_only else " ▁▂▃▄▅▆▇█"
    top = max(values)
    if top <= 0:
        return levels[0] * len(values)
    return "".join(levels[max(round(v / top * (len(levels) - 1)), 1 if v > 0 else 0)] for v in values)


def _time(summary: Summary, ascii_only: bool) -> RenderableType | None:
    from rich.table import Table
    from rich.text import Text

    shares = summary.time
    if not shares.step_s:
        return None
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for title in ("time by kind", "time by bound"):
        table.add_column(title, min_width=LABEL - 1, no_wrap=True)
        table.add_column("", min_width=BAR, no_wrap=True)
        table.add_column("", min_width=7, justify="right", no_wrap=True)
    sides = [
        [(n, part) for n, part in by.items() if part >= MIN_SHARE] for by in (shares.by_kind, shares.by_bound)
    ]
    for row in itertools.zip_longest(*sides):
        cells: list[RenderableType] = []
        for entry, style in zip(row, ("cyan", "magenta"), strict=True):
            name, part = entry or ("", 0.0)
            cells += [Text(name), Text(_bar(part, ascii_only), style), share(part) if entry else ""]
        table.add_row(*cells)
    return table


def _bar(part: float, ascii_only: bool) -> str:
    if ascii_only:
        return "#" * round(part * BAR)
    eighths = round(part * BAR * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _notes(summary: Summary) -> RenderableType | None:
    if not summary.notes:
        return None
    return _pairs([("note", note) for note in summary.notes])


def _pairs(lines: Sequence[tuple[str, str]]) -> RenderableType:
    """Labels on the left, text that wraps in its own column on the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(min_width=LABEL, style="dim", no_wrap=True)
    table.add_column()
    for label, text in lines:
        table.add_row(label, Text(text))
    return table
