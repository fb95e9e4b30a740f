from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from rich.console import Console

from handmade import NAN, empty_log, floats, ints, request_columns, run_log, summary
from tokensim.metrics.log import LinkUse, RunLog, TransferRows
from tokensim.metrics.slo import Slo
from tokensim.report.header import Header
from tokensim.report.terminal import print_report

HEADER = Header("five by hand", (("model", "a [bold]model[/bold]"), ("workload", "word " * 40)))


def _report(
    log: RunLog | None = None,
    *,
    slo: Slo | None = None,
    encoding: str = "utf-8",
    wall_s: float | None = None,
    color: bool = False,
) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    console = Console(
        file=file, width=80, force_terminal=color or None, color_system="standard" if color else None
    )
    print_report(summary(log, slo=slo), header=HEADER, wall_s=wall_s, console=console)
    return raw.getvalue().decode(encoding)


def _row(report: str, label: str) -> str:
    """The first line that starts with ``label``, its columns set apart by single spaces."""
    lines: Iterator[str] = (line for line in report.splitlines() if line.startswith(label))
    return " ".join(next(lines).split())


def test_latencies_are_set_against_the_slo() -> None:
    report = _report(slo=Slo(ttft_s=0.5, tpot_s=0.05))
    assert _row(report, "latency") == "latency mean p50 p90 p95 p99 max SLO at p99"
    assert _row(report, "TTFT") == "TTFT 250 ms 200 ms 410 ms 455 ms 491 ms 500 ms ✓ met 500 ms"
    assert _row(report, "TPOT").endswith("✗ missed 50 ms")
    assert _row(report, "ITL") == "ITL 150 ms 100 ms 300 ms 500 ms 500 ms 500 ms"
    assert _row(report, "goodput") == "goodput 0.500 requests/s within the SLO (20.0 % of requests)"


def test_without_an_slo_nothing_is_said_of_it() -> None:
    report = _report()
    assert "SLO" not in report
    assert "goodput" not in report


def test_the_figures_of_the_run_are_there() -> None:
    report = _report(wall_s=0.002)
    assert "4 of 5 requests served (1 cut short) in 2.00 s of simulated time, 1 rejected" in report
    assert _row(report, "throughput") == ("throughput 2 requests/s; tokens/s: 325 in, 9 out, 334 in all")
    assert _row(report, "KV cache") == "KV cache 23.5 % mean, 40.0 % max of 50 to 100 blocks each"
    assert _row(report, "prefix hits") == "prefix hits 10.0 % of input tokens (65)"
    assert _row(report, "preemptions") == "preemptions 2 (requests: 1; tokens recomputed: 32)"
    assert _row(report, "cost") == "cost $0.0200; per million tokens: $3.46 in, $986.11 out, $29.94 in all"
    assert _row(report, "energy").startswith("energy 0.556 Wh (9.0 % prefill, 71.0 % decode, 20.0 % idle)")
    assert _row(report, "simulated in") == "simulated in 2.00 ms; 2,500 requests/s, 1,000 x real time"
    assert _row(report, "gemm").startswith("gemm ████████████ 75.0 % compute")
    assert _row(report, "attention").endswith("memory ██ 12.5 %")
    assert "rejected on arrival" in report


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("log", [run_log(), empty_log()], ids=["run", "nothing happened"])
def test_every_line_fits_80_columns(encoding: str, log: RunLog) -> None:
    report = _report(log, slo=Slo(ttft_s=0.5, e2e_s=1000.0), encoding=encoding, wall_s=1.0)
    assert max(len(line) for line in report.splitlines()) <= 80


def test_a_terminal_without_unicode_gets_ascii() -> None:
    report = _report(slo=Slo(ttft_s=0.5, tpot_s=0.05), encoding="ascii")
    assert _row(report, "TTFT").endswith("met 500 ms")
    assert _row(report, "TPOT").endswith("MISSED 50 ms")
    assert "############" in _row(report, "gemm")


def test_a_pipe_gets_no_escape_codes_and_a_terminal_does() -> None:
    assert "\x1b" not in _report()
    assert "\x1b" in _report(color=True)


def test_a_pipe_gets_no_spaces_at_the_ends_of_lines() -> None:
    lines = _report(slo=Slo(ttft_s=0.5), wall_s=1.0).splitlines()
    assert [line for line in lines if line != line.rstrip()] == []


def test_text_of_the_user_is_not_markup() -> None:
    assert "a [bold]model[/bold]" in _report()


def test_an_interrupted_run_shouts() -> None:
    cut = request_columns(finish_s=floats(0.5, 0.7, NAN, NAN, NAN))
    report = _report(run_log(requests=cut, complete=False))
    assert "PARTIAL RESULTS" in report
    assert "partial results: the run was interrupted" in report


def test_a_run_that_did_nothing_shows_dashes() -> None:
    report = _report(empty_log(), wall_s=0.0)
    assert _row(report, "TTFT") == "TTFT - - - - - -"
    assert _row(report, "simulated in") == "simulated in 0 s"
    assert "time by" not in report


def test_transfers_are_told_with_the_busiest_link() -> None:
    rows = TransferRows(
        start_s=floats(0.0, 1.0, 1.0),
        end_s=floats(0.25, 1.75, 1.5),
        bytes=floats(3e9, 1e9, 0.5e9),
        source=ints(0, 0, 0),
        target=ints(1, 1, 1),
        kind=ints(0, 0, 0),
        arrived=np.array([True, True, False]),
        kinds=("kv",),
    )
    links = (
        LinkUse("decode-0 in, slow", 4e9, 4.5e9, 1.0, 2),
        LinkUse("prefill-0 out, fast", 40e9, 4.5e9, 1.0, 2),
        LinkUse("idle", 40e9, 0.0, 0.0, 0),
    )
    report = " ".join(_report(run_log(transfers=rows, links=links)).split())
    assert "network KV: 4.50 GB in 2 transfers, 500 ms each on average" in report
    use = "56.2 % of its bandwidth, busy 50.0 % of the time, at most 2 at once"
    assert f"busiest link decode-0 in, slow: {use}" in report
    assert "network" not in _report()
