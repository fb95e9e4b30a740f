"""The page of a run as text: complete in itself, small, the same for the same run, safe for any name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from handmade import empty_log, floats, ints, request_columns, run_data_of, run_log, step_columns, step_rows
from tokensim.metrics.slo import Slo
from tokensim.report.page import bundle
from tokensim.report.page.page import inline_json
from tokensim.report.run_page import run_page
from tokensim.report.series.run import figures_json

MB = 1_000_000


class Asked(HTMLParser):
    """What a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]


def _parsed(page: str) -> Asked:
    asked = Asked()
    asked.feed(page)
    return asked


def test_a_page_leads_nowhere_and_forbids_itself_the_network() -> None:
    page = run_page(run_data_of())
    asked = _parsed(page)
    assert all(link.startswith("#") or link == "data:," for link in asked.links)
    assert "default-src 'none'" in page
    own = page.replace(bundle.javascript(), "")
    assert "://" not in own
    assert "@import" not in own


def test_the_same_run_gives_the_same_bytes() -> None:
    assert run_page(run_data_of()) == run_page(run_data_of())


def test_names_of_any_kind_are_escaped() -> None:
    evil = '</script><script>alert("1")</script>&<b>'
    data = run_data_of(run_log(requests=request_columns(names=[evil] * 5)))
    data = replace(data, title=evil, scenario_yaml=f"name: {evil}\n", lines=((evil, evil),))
    page = run_page(data)
    assert "alert(" not in re.sub(r"alert\(&#34;1|alert\(\\\"1", "", page)
    assert _parsed(page).tags.count("script") == 3
    assert "<b>" not in page.replace(bundle.javascript(), "")


def test_json_inside_a_script_cannot_end_it() -> None:
    text = inline_json({"a": "</script><!--\u2028 & x"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--\u2028 & x"}


def test_verdicts_and_partial_results_stand_first() -> None:
    page = run_page(run_data_of(replace(run_log(), complete=False), slo=Slo(ttft_s=0.3, tpot_s=1.0)))
    assert "Partial results" in page
    assert 'class="tile bad"' in page and 'class="tile good"' in page
    assert "Partial results" not in run_page(run_data_of())


def test_a_tile_shows_the_percentile_that_was_judged() -> None:
    page = run_page(run_data_of(slo=Slo(ttft_s=0.3, percentile=50.0)))
    assert "TTFT, p50" in page and "TPOT, p99" in page


def test_a_run_in_which_nothing_happened_has_a_page() -> None:
    page = run_page(run_data_of(empty_log()))
    assert "<figure" not in page
    assert "model: tiny" in page


def test_the_page_of_a_big_run_is_small() -> None:
    """A million requests on forty instances, 200,000 rows of steps."""
    size, steps, instances = 1_000_000, 200_000, 40
    arrival = np.linspace(0, 5000, size)
    rng = np.random.default_rng(0)
    wait, decode = rng.lognormal(-2, 1, size), rng.lognormal(0, 0.5, size)
    ones, zeros = np.ones(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    requests = request_columns(
        intended_s=arrival,
        arrival_s=arrival,
        scheduled_s=arrival + wait / 2,
        **dict.fromkeys(("first_token_s", "first_delivery_s"), arrival + wait),
        **dict.fromkeys(("finish_s", "last_delivery_s"), arrival + wait + decode),
        **dict.fromkeys(("input_tokens", "output_tokens", "requested_output_tokens"), 100 * ones),
        **dict.fromkeys(("cached_tokens", "preemptions", "recomputed_tokens"), zeros),
        instance=np.arange(size) % instances,
        status=ones.astype(np.int8),
    )
    each = steps // instances
    starts = np.tile(np.linspace(0, 5000, each, endpoint=False), instances)
    width = 5000 / each
    whole, real = np.ones(steps, dtype=np.int64), np.zeros(steps)
    rows = step_rows(
        instance=np.repeat(np.arange(instances), each),
        start_s=starts,
        end_s=starts + width,
        **dict.fromkeys(("first_step_s", "last_step_s"), np.full(steps, width / 10)),
        **dict.fromkeys(("running", "waiting", "used_blocks", "first_blocks"), whole * 5),
        waited_s=whole * 0.0,
        prefill_tokens=whole * 0,
        what=step_columns(
            steps=whole * 10,
            decode=whole * 5,
            **dict.fromkeys(("context", "window_context", "window_growth", "longest", "clock_share"), real),
            seconds=np.full(steps, width),
            samples=whole * 5,
            **dict.fromkeys(("chunk_row", "chunk_tokens", "chunk_context"), ints()),
        ),
    )
    log = run_log(
        requests=requests,
        steps=rows,
        gap_s=floats(),
        gap_weight=ints(),
        end_s=5100.0,
        num_blocks=[100] * instances,
    )
    data = run_data_of(log)
    assert len(run_page(data).encode()) < 3 * MB
    assert len(figures_json(data).encode()) < 0.8 * MB


def test_the_library_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    made = []
    monkeypatch.setattr(bundle, "_cache_file", lambda: tmp_path / "cache" / "vega.js")
    monkeypatch.setattr(
        vl_convert, "javascript_bundle", lambda *_, **__: made.append(1) or "let x = '</script>';"
    )
    first = bundle.javascript.__wrapped__()
    assert first == bundle.javascript.__wrapped__() == "let x = '<\\/script>';"
    assert len(made) == 1


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vl_convert

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(bundle, "_cache_file", lambda: tmp_path / "file" / "vega.js")
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda *_, **__: "x")
    assert bundle.javascript.__wrapped__() == "x"
