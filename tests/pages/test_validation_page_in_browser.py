"""The page of ``validate --html`` in a real browser: one case at a time is drawn, chosen in three ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from test_run_page_in_browser import DRAWN, MARKS

from case_files import write_case
from tokensim.validation.case import read_case
from tokensim.validation.errors import errors_of
from tokensim.validation.over_time import OverTime
from tokensim.validation.page import validation_page
from tokensim.validation.replay import Replay, measured_times, times_of

SHOWN = """
const views = [...tokensim.views.keys()].filter(name => name !== "errors");
return [document.querySelector("#chooser select").value, [...new Set(views.map(name => name.slice(0, 7)))],
  [...document.querySelectorAll("main > section[id]")].filter(s => s.offsetParent).map(s => s.id)];
"""
TIME = "return Array.from(tokensim.views.get('case-2-time-0').view.signal('time_time_s') || [])"
DOT = '[data-figure="errors"] svg [aria-roledescription="point"]'


def replay(folder: Path, factor: float) -> Replay:
    """Requests whose times are all ``factor`` of the measured ones, and two quantities over time."""
    rng = np.random.default_rng(3)
    rows = [
        {
            **{"arrival_s": float(at), "sent_s": float(at), "input_tokens": 10, "output_tokens": 9},
            **{"ttft_s": float(ttft), "e2e_s": float(ttft) + 0.3},
        }
        for at, ttft in enumerate(rng.lognormal(-2, 1.5, 60))
    ]
    case = read_case(write_case(folder, rows))
    ours = measured_times(case.measured)
    outputs = case.measured.output_tokens
    theirs = times_of(case.measured.anchor_s, ours.ttft_s * factor, ours.e2e_s * factor, outputs)
    time_s = np.arange(20) * 3 + 1.5
    gap = np.where((time_s < 15) | (time_s > 40), time_s, np.nan)
    told = (
        OverTime("TTFT, by when it was sent", "duration", time_s, gap / 100, time_s / 90),
        OverTime("KV cache in use", "share", time_s, np.zeros(20), np.full(20, np.nan)),
    )
    return Replay(case, ours, theirs, (), told)


def test_one_case_is_drawn_and_others_can_be_chosen(browser: Any, tmp_path: Path) -> None:
    replays = [
        replay(tmp_path / name, factor) for name, factor in (("one", 1.01), ("two", 1.3), ("three", 0.9))
    ]
    page = tmp_path / "page.html"
    page.write_text(
        validation_page([errors_of(r) for r in replays], replays, [("bad", "no model")]), encoding="utf-8"
    )
    browser.set_window_size(1280, 900)
    browser.get_log("browser")
    browser.get(page.as_uri())
    for theme in ("light", "dark"):
        if theme == "dark":
            browser.execute_script("document.querySelector('#theme').click()")
        assert browser.execute_async_script(DRAWN, theme)
        marks = {name: n for name, n in browser.execute_script(MARKS).items() if name[5:6] not in "23"}
        assert len(marks) == 1 + 6 + 2
        assert all(marks.values()), marks
    parts = ("errors", "latencies", "over-time")
    assert browser.execute_script(SHOWN) == [
        "one",
        ["case-1-"],
        ["overview", *(f"case-1-{part}" for part in parts), "refused"],
    ]

    browser.execute_script("document.querySelector('#chooser [data-step=\"1\"]').click()")
    assert browser.execute_async_script(DRAWN, "dark")
    shown = browser.execute_script(SHOWN)
    assert shown[:2] == ["two", ["case-2-"]]
    browser.execute_script("document.querySelector('#case-2-over-time [data-zoom=in]').click()")
    low, high = browser.execute_script(TIME)
    assert high - low < 0.6 * 60

    cell = "[...document.querySelectorAll('[data-chooses] td.choice')].find(c => c.textContent === 'three')"
    browser.execute_script(f"{cell}.click()")
    assert browser.execute_async_script(DRAWN, "dark")
    assert browser.execute_script(SHOWN)[:2] == ["three", ["case-3-"]]

    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    dot = browser.find_elements("css selector", DOT)[3]  # its others lie on each other
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", dot)
    dot.click()
    assert browser.execute_async_script(DRAWN, "dark")
    assert browser.execute_script(SHOWN)[:2] == ["one", ["case-1-"]]

    browser.get(page.as_uri() + "#case-2-latencies")
    assert browser.execute_async_script(DRAWN, "dark")
    assert browser.execute_script(SHOWN)[0] == "two"
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        browser.refresh()
        assert browser.execute_async_script(DRAWN, "light")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.get_log("browser") == []
