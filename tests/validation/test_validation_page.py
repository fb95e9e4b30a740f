"""The page of ``validate --html``: what it shows of cases whose figures are known by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from case_files import write_case
from tokensim.report.figures.base import VEGA_LITE
from tokensim.report.figures.errors import ROWS
from tokensim.report.figures.sides import LOG_FROM
from tokensim.report.figures.sides_over_time import sides_over_time
from tokensim.report.figures.study import Words
from tokensim.validation.case import read_case
from tokensim.validation.case_sections import DOTS, LEAST_DOTS, detail_of, ends_of
from tokensim.validation.errors import errors_of
from tokensim.validation.over_time import OverTime
from tokensim.validation.page import validation_page
from tokensim.validation.replay import Replay, measured_times, times_of

TTFT = (0.010, 0.020, 0.030, 0.040)
"""Seconds of four requests a second apart, of five output tokens each; every later token takes 10 ms."""


@pytest.fixture
def by_hand(tmp_path: Path) -> Any:
    """A replay in which every time is ``factor`` of the measured one."""

    def make(name: str = "by-hand", factor: float = 1.1, *told: OverTime, **facts: Any) -> Replay:
        rows = [
            {
                **{"arrival_s": float(at), "sent_s": float(at), "input_tokens": 10, "output_tokens": 5},
                **{"ttft_s": ttft, "e2e_s": ttft + 0.04},
            }
            for at, ttft in enumerate(TTFT)
        ]
        case = read_case(write_case(tmp_path / name, rows, **facts))
        ours = measured_times(case.measured)
        theirs = times_of(
            case.measured.anchor_s, ours.ttft_s * factor, ours.e2e_s * factor, case.measured.output_tokens
        )
        return Replay(case, ours, theirs, tuple(case.facts.notes), told)

    return make


def made(*replays: Replay, refused: Any = ()) -> str:
    return validation_page([errors_of(one) for one in replays], replays, refused)


def data_of(page: str) -> Mapping[str, Any]:
    """What the scripts of the page get, each figure with its own tables."""
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data = json.loads(found[1])
    for figure in data["figures"].values():
        figure["datasets"] = {name: data["tables"][at] for name, at in figure["datasets"].items()}
        figure["spec"] = data["specs"][figure["spec"]]
    return data


def text_of(page: str) -> str:
    """The words of the page, scripts and styles left out."""
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_a_case_tells_its_errors_facts_and_notes(by_hand: Any) -> None:
    facts = {"source": "a bench", "measured_with": "an engine", "notes": ["mind the gap"]}
    text = text_of(made(by_hand(**facts, client={"max_in_flight": 3})))
    for told in ("by-hand: measured and simulated", "a bench", "an engine", "mind the gap", "client-send"):
        assert told in text
    assert "4; 3 in flight at most" in text
    assert "TTFT, mean +10.0% 25.0 ms measured, 27.5 ms simulated" in text
    assert "TTFT, each 10.0% 2.50 ms between the sides, on average" in text
    # The throughput: 20 tokens until the last is answered, 3.08 s measured, 3.088 s simulated.
    assert "TTFT 25.0 ms 27.5 ms +10.0% +10.0% +10.0% +10.0% +10.0% 10.0%" in text
    assert "TPOT 10.0 ms 11.0 ms +10.0% +10.0% +10.0% +10.0% +10.0% 10.0%" in text
    assert "tokens/s 6.49 6.48 -0.3% - - - - -" in text
    assert "All cases" not in text
    assert "Over time" not in text


def test_errors_are_marked_by_their_size(by_hand: Any) -> None:
    page = made(by_hand(factor=1.02))
    assert page.count('<div class="tile good">') == 4
    assert page.count('<td class="right good">') == 3 * 5 + 1
    page = made(by_hand(factor=1.05))
    assert page.count('<div class="tile good">') == 1
    assert page.count('<div class="tile bad">') == 0
    page = made(by_hand(factor=0.8))
    assert page.count('<div class="tile bad">') == 3
    assert page.count('<td class="right bad">') == 3 * 5


def test_distributions_and_scatters_draw_the_times(by_hand: Any) -> None:
    figures = data_of(made(by_hand()))["figures"]
    assert list(figures) == [
        f"case-1-{metric}-{kind}"
        for kind in ("distribution", "scatter")
        for metric in ("ttft", "tpot", "e2e")
    ]
    dots = figures["case-1-ttft-scatter"]["datasets"]["requests"]
    assert dots == {"measured": [0.01, 0.02, 0.03, 0.04], "simulated": [0.011, 0.022, 0.033, 0.044]}
    shares = figures["case-1-ttft-distribution"]["datasets"]["shares"]
    assert len(shares["share"]) == 201
    at = shares["share"].index(0.5)
    assert (shares["measured"][at], shares["simulated"][at]) == (0.025, 0.0275)
    assert (shares["measured"][0], shares["simulated"][-1]) == (0.01, 0.044)


def test_an_axis_is_logarithmic_where_times_are_far_apart() -> None:
    near, far = np.linspace(1.0, 3.0, 100), np.geomspace(0.01, 10.0, 100)
    assert not ends_of((near, near)).log
    assert ends_of((near, near)).low == 0
    assert ends_of((near + 9, near + 9)).low > 9
    ends = ends_of((far, far))
    assert ends.log
    assert ends.high > LOG_FROM * ends.low
    assert all(ends.low <= tick <= ends.high for tick in ends.values()["ticks"])
    assert ends_of((np.array([1.0, 99.0]), near)).high == 99
    assert ends_of((np.r_[near, near, 99.0], np.r_[near, near, 1.0])).high < 4
    same = np.full(5, 2.0)
    assert (ends_of((same, same)).low, ends_of((same, same)).high) == (0.0, 2.2)


def test_a_recorded_case_has_both_sides_over_time(by_hand: Any) -> None:
    time_s = np.array([0.5, 1.5, 2.5])
    told = OverTime(
        "TTFT, by when it was sent", "duration", time_s, np.array([0.1, np.nan, 0.3]), time_s / 10
    )
    kv = OverTime("KV cache in use", "share", time_s, time_s / 5, time_s / 4)
    page = made(by_hand("by-hand", 1.1, told, kv))
    text = text_of(page)
    assert "TTFT over time" in text
    assert "The mean of each interval, by when it was sent." in text
    assert "All time" in text
    assert "0.5 100 ms 50.0 ms 1.5 - 150 ms 2.5 300 ms 250 ms" in text
    assert "0.5 10.0 % 12.5 %" in text
    figures = data_of(page)["figures"]
    drawn = figures["case-1-time-0"]
    assert drawn["datasets"]["sides"] == {
        "time_s": [0.5, 1.5, 2.5],
        "measured": [0.1, None, 0.3],
        "simulated": [0.05, 0.15, 0.25],
    }
    assert drawn["timed"]
    assert drawn["params"] == {"half": 0.5}
    assert drawn["spec"]["layer"][0]["encoding"]["x"]["scale"]["domain"] == [0, 3.0]


def test_lines_break_where_a_side_says_nothing_for_long() -> None:
    """Drawn as a file: a gap of two intervals is gone over, one of seven is not; a lone value is a dot."""
    import vl_convert

    measured = [1.0 if at < 3 or at > 4 else None for at in range(20)]
    simulated = [2.0 if at < 5 or at == 12 else None for at in range(20)]
    table = {"time_s": [at + 0.5 for at in range(20)], "measured": measured, "simulated": simulated}
    figure = sides_over_time(Words("a", "b", "c"), table, 20.0, "TTFT", "count", {})
    drawn = vl_convert.vegalite_to_svg(json.dumps(figure.complete()), vl_version=VEGA_LITE)
    lines = re.findall(
        r'<path aria-label="[^"]*" role="graphics-symbol" aria-roledescription="line mark" d="([^"]*)"', drawn
    )
    assert len(lines) == 3
    assert sorted(line.count("L") for line in lines) == [0, 4, 17]


def test_several_cases_are_listed_drawn_and_chosen(by_hand: Any) -> None:
    page = made(by_hand("near", 1.01), by_hand("far", 1.5), by_hand("under", 0.6))
    text = text_of(page)
    assert "3 cases of 12 requests" in text
    assert "within 3% of what was measured in 1, and within 10% in 1." in text
    assert "TTFT, worst mean +50.0% far" in text
    assert "Cases 1 of 3" in text
    errors = data_of(page)["figures"]["errors"]
    assert errors["chooses"] == "case"
    table = errors["datasets"]["errors"]
    rows = list(zip(table["case"], table["metric"], table["error"], strict=True))
    assert ("near", "TTFT", 0.01) in rows
    assert ("far", "E2E", 0.5) in rows
    assert len(rows) == 3 * 4
    assert re.findall(r"<option>(.*?)</option>", page) == ["near", "far", "under"]
    assert page.count('<section id="case-') == page.count('<section id="case-1-') * 3
    assert len(re.findall(r'<section id="case-2-[^>]*data-choice="far"', page)) == 2


def test_cases_of_one_name_are_told_apart(by_hand: Any) -> None:
    one = by_hand("twin")
    assert re.findall(r"<option>(.*?)</option>", made(one, one, one)) == ["twin", "twin (2)", "twin (3)"]


def test_a_refused_case_is_told(by_hand: Any) -> None:
    why = "case.yaml: no <such> model"
    text = text_of(made(by_hand("good"), refused=[("bad", why)]))
    assert "1 of 2 cases could not be simulated" in text
    assert f"Not simulated bad: {why}" in text
    assert f"bad: {why}" in text_of(made(refused=[("bad", why), ("worse", why)]))


def test_a_case_without_a_metric_shows_the_others(by_hand: Any) -> None:
    one = by_hand()
    missing = np.full(len(TTFT), np.nan)
    single = replace(
        one,
        measured=replace(one.measured, tpot_s=missing),
        simulated=replace(one.simulated, tpot_s=missing, ttft_s=missing),
    )
    page = made(single, one)
    names = list(data_of(page)["figures"])
    assert [name for name in names if name.startswith("case-1-")] == [
        "case-1-e2e-distribution",
        "case-1-e2e-scatter",
    ]
    assert "TPOT - - - - - - - -" in text_of(page)


def test_many_cases_have_less_of_each_and_share_specifications(by_hand: Any) -> None:
    assert detail_of(1).dots == DOTS
    assert detail_of(10_000).dots == LEAST_DOTS
    assert detail_of(20).dots < DOTS
    one = by_hand()
    many = [
        replace(one, simulated=replace(one.simulated, ttft_s=one.measured.ttft_s * (1 + n / 100)))
        for n in range(ROWS + 1)
    ]
    page = made(*many)
    data = data_of(page)
    assert len(data["figures"]) == 6 * len(many) + 1
    assert len(data["specs"]) == 7
    spread = data["figures"]["errors"]["datasets"]["errors"]["spread"]
    assert len(set(spread)) == len(many)
    assert min(spread) >= 0
    assert max(spread) < 1
    assert page == made(*many)
