"""The page of a run in a real browser: figures draw; zoom, filter and theme work; a phone can show it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tokensim import Scenario, simulate

DRAWN = """
const done = arguments[arguments.length - 1], theme = arguments[0];
(function look() {
  if (document.documentElement.dataset.drawn === theme) done(true); else setTimeout(look, 50);
})();
"""
SETTLED = """
const done = arguments[arguments.length - 1];
Promise.all([...tokensim.views.values()].map(r => r.view.runAsync()))
  .then(() => setTimeout(() => done(true), 150));
"""
MARKS = """
const out = {};
for (const place of document.querySelectorAll("[data-figure]"))
  out[place.dataset.figure] = place.querySelectorAll("svg .mark-group path, svg .mark-group line").length
    + place.querySelectorAll("svg [class*='mark-'] path").length;
return out;
"""
TICKS = """
return [...document.querySelectorAll(
  '[data-figure="' + arguments[0] + '"] svg g[aria-label^="X-axis"] .role-axis-label text')]
  .map(t => Number(t.textContent))
  .sort((a, b) => a - b);
"""


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two prefill and two decode instances, with an SLO: it has every kind of figure."""
    pool = {"hardware": "h100-sxm-80gb", "replicas": 2}
    scenario = Scenario.model_validate(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {
                "pools": [
                    {"name": "prefill", "role": "prefill", **pool},
                    {"name": "decode", "role": "decode", **pool},
                ]
            },
            "performance": {"operators": "builtin"},
            "workload": {
                "arrivals": {"process": "poisson", "rate": 20},
                "input_tokens": {"distribution": "lognormal", "mean": 1500, "cv": 0.6, "max": 4000},
                "output_tokens": {"distribution": "lognormal", "mean": 60, "cv": 0.6, "max": 300},
                "num_requests": 300,
                "tenants": [2, 1],
            },
            "slo": {"ttft": 0.2, "tpot": 0.02},
        }
    )
    folder = tmp_path_factory.mktemp("page")
    simulate(scenario).save(folder)
    return folder / "report.html"


@pytest.fixture
def shown(browser: Any, page: Path) -> Iterator[Any]:
    """The page, drawn, in the light theme on a wide screen, showing all of the time; loaded anew only if a
    test has left it."""
    if browser.current_url != page.as_uri():
        _prefer(browser, "light")
        browser.get(page.as_uri())
        assert browser.execute_async_script(DRAWN, "light")
    yield browser
    if browser.current_url == page.as_uri():
        _click(browser, "[data-zoom=reset]")


def _prefer(browser: Any, scheme: str) -> None:
    """What the system says of light and dark."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def _click(browser: Any, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)
    browser.execute_async_script(SETTLED)


def test_every_figure_draws_marks_and_nothing_complains(shown: Any) -> None:
    marks = shown.execute_script(MARKS)
    assert len(marks) == 20
    assert {name for name, number in marks.items() if number < 1} == set()
    assert shown.get_log("browser") == []


def test_nothing_is_asked_of_a_network(shown: Any) -> None:
    asked = shown.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in asked if not name.startswith(("data:", "blob:"))] == []


def test_zooming_one_figure_moves_all_figures_over_time_and_back(shown: Any) -> None:
    timed = ("ttft-over-time", "queue-length", "kv-cache", "throughput", "requests")
    before = {name: shown.execute_script(TICKS, name) for name in timed}
    assert all(before.values())
    _click(shown, "[data-zoom=in]")
    inside = {name: shown.execute_script(TICKS, name) for name in timed}
    assert all(inside[name] != before[name] for name in timed)
    assert len({tuple(ticks) for name, ticks in inside.items() if name != "requests"}) == 1
    _click(shown, "[data-zoom=later]")
    assert shown.execute_script(TICKS, "kv-cache") != inside["kv-cache"]
    _click(shown, "[data-zoom=reset]")
    assert {name: shown.execute_script(TICKS, name) for name in timed} == before


def test_dragging_a_figure_pans_the_others(shown: Any) -> None:
    from selenium.webdriver import ActionChains

    _click(shown, "[data-zoom=in]")
    before = {name: shown.execute_script(TICKS, name) for name in ("batch-size", "throughput")}
    plot = shown.find_element("css selector", '[data-figure="batch-size"] svg')
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(shown).move_to_element(plot).click_and_hold().move_by_offset(90, 0).release().perform()
    shown.execute_async_script(SETTLED)
    after = {name: shown.execute_script(TICKS, name) for name in before}
    assert after["batch-size"] != before["batch-size"]
    assert after["throughput"] == after["batch-size"]


def test_choosing_an_instance_leaves_its_lines_alone(shown: Any) -> None:
    lines = """return document.querySelectorAll(
      '[data-figure="kv-cache"] svg .mark-line path').length"""
    choose = """
    const select = document.querySelector("select.instances");
    select.value = arguments[0]; select.dispatchEvent(new Event("change"));
    """
    assert shown.execute_script(lines) == 4
    shown.execute_script(choose, "decode-1")
    shown.execute_async_script(SETTLED)
    assert shown.execute_script(lines) == 1
    shown.execute_script(choose, "")
    shown.execute_async_script(SETTLED)
    assert shown.execute_script(lines) == 4


def test_the_requests_in_sight_are_drawn_wherever_the_reader_looks(shown: Any) -> None:
    bars = """const items = [...document.querySelectorAll(
      '[data-figure="requests"] svg .mark-rect path')].map(bar => bar.getBoundingClientRect());
    return new Set(items.map(box => Math.round(box.top))).size"""
    assert shown.execute_script(bars) == 100
    for _ in range(2):
        _click(shown, "[data-zoom=in]")
    seen = shown.execute_script(bars)
    assert seen > 40  # of 300 in 15 s, those of a quarter, not of the 100 shown at first
    _click(shown, "[data-zoom=later]")
    assert shown.execute_script(bars) > 40


def test_choosing_a_tenant_leaves_its_requests(shown: Any) -> None:
    tenants = """return [...new Set(
      tokensim.views.get(arguments[0]).view.data(arguments[1]).map(row => row.tenant))].sort()"""
    choose = """
    const select = document.querySelector("select.by");
    select.value = arguments[0]; select.dispatchEvent(new Event("change"));
    """
    places = (("requests", "spans"), ("ttft-over-time", "requests"), ("tpot-over-time", "requests"))
    assert [shown.execute_script(tenants, *place) for place in places] == [[0, 1]] * 3
    shown.execute_script(choose, "1")
    shown.execute_async_script(SETTLED)
    assert [shown.execute_script(tenants, *place) for place in places] == [[1]] * 3
    shown.execute_script(choose, "")
    shown.execute_async_script(SETTLED)
    assert [shown.execute_script(tenants, *place) for place in places] == [[0, 1]] * 3


def test_the_theme_follows_the_system_and_the_button(shown: Any) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = shown.execute_script(ground)
    _click(shown, "#theme")
    assert shown.execute_async_script(DRAWN, "dark")
    dark = shown.execute_script(ground)
    assert dark != light
    text = "return getComputedStyle(document.querySelector('[data-figure=cost] svg text')).fill"
    pale = shown.execute_script(text)
    _click(shown, "#theme")
    assert shown.execute_async_script(DRAWN, "light")
    assert shown.execute_script(ground) == light
    assert shown.execute_script(text) != pale
    _prefer(shown, "dark")
    shown.refresh()
    assert shown.execute_async_script(DRAWN, "dark")
    assert shown.execute_script(ground) == dark
    shown.get("about:blank")


def test_a_phone_shows_it_without_scrolling_sideways(shown: Any) -> None:
    shown.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
    )
    shown.refresh()
    assert shown.execute_async_script(DRAWN, "light")
    assert shown.execute_script("return document.documentElement.scrollWidth") == 390
    wide = """return [...document.querySelectorAll("[data-figure]")].filter(
      p => p.querySelector("svg").getBoundingClientRect().right > 390).map(p => p.dataset.figure)"""
    assert shown.execute_script(wide) == []
    shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    shown.get("about:blank")


def test_a_reader_of_screens_finds_titles_descriptions_and_tables(shown: Any) -> None:
    told = shown.execute_script(
        """return [...document.querySelectorAll("figure")].map(f => [
          document.getElementById(f.getAttribute("aria-labelledby")).textContent,
          f.querySelector("[role=graphics-document]").getAttribute("aria-label"),
          f.querySelectorAll("table tbody tr").length])"""
    )
    assert all(title and len(label) > 20 and rows for title, label, rows in told)
    assert shown.execute_script("return document.querySelectorAll('main h1').length") == 1
    assert shown.execute_script(
        "return [...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    )


@pytest.mark.parametrize(("format_", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_a_figure_can_be_saved(shown: Any, tmp_path: Path, format_: str, start: bytes) -> None:
    shown.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    shown.execute_script(f"document.querySelector('[data-of=cost][data-save={format_}]').click()")
    file = tmp_path / f"cost.{format_}"
    for _ in range(100):
        if file.exists():
            break
        time.sleep(0.1)
    assert file.read_bytes().startswith(start)


def test_the_wheel_zooms_with_control_alone(shown: Any) -> None:
    before = shown.execute_script(TICKS, "throughput")
    turn = """
    const svg = document.querySelector('[data-figure="kv-cache"] svg');
    svg.scrollIntoView({block: "center"});
    const box = svg.getBoundingClientRect();
    const at = {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2};
    document.elementFromPoint(at.clientX, at.clientY).dispatchEvent(new WheelEvent("wheel",
      {deltaY: -400, ctrlKey: arguments[0], bubbles: true, cancelable: true, ...at}));
    """
    shown.execute_script(turn, False)
    shown.execute_async_script(SETTLED)
    assert shown.execute_script(TICKS, "throughput") == before
    shown.execute_script(turn, True)
    shown.execute_async_script(SETTLED)
    assert shown.execute_script(TICKS, "throughput") != before
