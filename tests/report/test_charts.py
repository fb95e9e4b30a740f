"""The histograms of the report in a terminal."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from handmade import NAN, floats
from tokensim.metrics.latency import RequestLatency
from tokensim.report.charts import BARS, histogram, latency_charts


def _text(latency: RequestLatency, ascii_only: bool = False) -> str:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(latency_charts(latency, ascii_only))
    return captured.get()


def test_bars_are_steps_of_equal_ratio() -> None:
    values = np.concatenate([np.full(10, 0.001), np.full(5, 0.0999), np.full(40, 10.0)])
    bars, low, high = histogram(values, ascii_only=False) or ("", "", "")
    assert (len(bars), low, high) == (BARS, "1.00 ms", "10.0 s")
    assert (bars[0], bars[BARS // 2 - 1], bars[-1]) == ("▂", "▁", "█")
    assert set(bars[1 : BARS // 2 - 1]) == {" "}


def test_few_or_equal_values_have_no_histogram() -> None:
    assert histogram(floats(1, 2, 3), ascii_only=False) is None
    assert histogram(np.full(100, 0.5), ascii_only=False) is None
    assert histogram(np.append(np.full(100, NAN), 0.0), ascii_only=False) is None


def test_a_line_for_each_latency_that_varies_fits_80_columns_and_ascii() -> None:
    spread = np.geomspace(0.001, 3000, 100)
    latency = RequestLatency(ttft_s=spread, tpot_s=np.full(100, 0.01), e2e_s=spread * 2, queue_s=spread)
    lines = _text(latency, ascii_only=True).splitlines()
    assert [line.split()[0] for line in lines] == ["histogram", "TTFT", "end"]
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert "".join(lines).isascii()


def test_without_requests_there_is_nothing() -> None:
    none = np.full(3, NAN)
    assert latency_charts(RequestLatency(none, none, none, none), ascii_only=False) is None
    assert latency_charts(None, ascii_only=False) is None
