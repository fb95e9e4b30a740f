"""The filters of a study's page in a real browser: figures, fronts, numbers and lists follow them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_run_page_in_browser import DRAWN

from tokensim import Study
from tokensim.explore.page import study_page
from tokensim.explore.study_data import StudyData
from tokensim.report.figures.front import pareto

RATES, CAPS, DEVICES = [float(rate) for rate in range(1, 15)], [8, 64], ["h100-sxm-80gb", "a100-sxm-80gb"]
COST, TTFT = "spending.usd_per_million_total_tokens", "latency.ttft_s.p99"
FRONT = "front-ttft-p99-us-per-million-tokens"
SETTLED = """
const done = arguments[arguments.length - 1];
(function look() {
  if (document.documentElement.dataset.settled) done(true); else setTimeout(look, 20);
})();
"""
DRAWN_ROWS = """
return tokensim.views.get(arguments[0]).view.data("study").map(row => row.row);
"""
NUMBERS = """
return [...document.querySelectorAll("#figure-" + arguments[0] + " details tbody tr")]
  .map(row => [...row.cells].map(cell => cell.textContent));
"""
COLUMN = """
return [...document.querySelectorAll("[data-listing] tbody tr")]
  .map(row => row.cells[arguments[0]].textContent);
"""


def results() -> list[dict[str, Any]]:
    """A row for each configuration: cost falls with the load, latency rises with it; made up."""
    rows = []
    for point, (rate, cap, device) in enumerate(itertools.product(RATES, CAPS, DEVICES)):
        slow = 1 + DEVICES.index(device)
        ttft = 0.01 * slow * rate * (2 if cap == 8 else 1)
        rows.append(
            {
                "point": point,
                "workload.arrivals.rate": rate,
                "engine.max_num_seqs": cap,
                "cluster.pools[0].hardware": device,
                "seed": 0,
                "status": "ok",
                "error": None,
                COST: (1 + (point * 7) % 5) / slow / rate,
                TTFT: ttft,
                "slo.met": ttft <= 0.1,
            }
        )
    return rows


def of_study(parameters: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The page of a study whose runs left ``rows``."""
    study = Study.from_mapping(
        {
            "name": "Filtered",
            "scenario": {
                "model": "meta-llama/Llama-3.1-8B",
                "cluster": {"pools": [{"name": "serve", "hardware": DEVICES[0]}]},
                "workload": {"arrivals": {"process": "poisson", "rate": 1}, "num_requests": 10},
                "slo": {"ttft": 0.1},
            },
            "parameters": parameters,
        }
    )
    return study_page(StudyData(study, pl.DataFrame(rows)))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the study of ``results``."""
    parameters = {
        "workload.arrivals.rate": RATES,
        "engine.max_num_seqs": CAPS,
        "cluster.pools[0].hardware": DEVICES,
    }
    file = tmp_path_factory.mktemp("filters") / "report.html"
    file.write_text(of_study(parameters, results()), encoding="utf-8")
    return file


@pytest.fixture
def shown(browser: Any, page: Path) -> Iterator[Any]:
    """The page, drawn, with nothing chosen; at the end nobody has complained."""
    browser.set_window_size(1280, 900)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(page.as_uri())
    assert browser.execute_async_script(
        DRAWN,
        browser.execute_script(
            "return matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
        ),
    )
    yield browser
    assert browser.get_log("browser") == []
    browser.get("about:blank")


def choose(browser: Any, script: str) -> None:
    """Run ``script`` over the form ``f`` and wait until the figures show what it chose."""
    browser.execute_script(
        "document.documentElement.dataset.settled = '';"
        f"const f = document.getElementById('filters'); {script}"
    )
    assert browser.execute_async_script(SETTLED)


def tick(browser: Any, number: int, *boxes: int) -> None:
    """Tick ``boxes`` of the filter ``number``."""
    for box in boxes:
        choose(browser, f"f.querySelectorAll('[data-filter=\"{number}\"] input')[{box}].click()")


def count(browser: Any) -> str:
    return str(browser.find_element("css selector", "#filters .count").text)


def wanted(**equal: Any) -> list[int]:
    """The rows of ``results`` with these values."""
    return [
        place
        for place, row in enumerate(results())
        if all(row[name] == value for name, value in equal.items())
    ]


def test_a_choice_restricts_every_figure_and_the_list_and_is_counted(shown: Any) -> None:
    names = shown.execute_script("return Object.keys(tokensim.data.figures)")
    assert len(names) == 4 and count(shown) == "56 of 56 configurations"
    tick(shown, 2, 1)
    rows = wanted(**{"cluster.pools[0].hardware": DEVICES[1]})
    for name in names:
        assert sorted(shown.execute_script(DRAWN_ROWS, name)) == rows, name
    assert set(shown.execute_script(COLUMN, 2)) == {DEVICES[1]}
    assert count(shown) == "28 of 56 configurations"
    assert {row[2] for row in shown.execute_script(NUMBERS, "over-ttft-p99")} == {DEVICES[1]}


def test_the_front_is_that_of_what_is_chosen(shown: Any) -> None:
    dots = f"return document.querySelectorAll('[data-figure=\"{FRONT}\"] .front_marks path').length"
    table = results()

    def best(rows: list[int]) -> list[list[str]]:
        front = pareto([table[row][COST] for row in rows], [table[row][TTFT] for row in rows])
        return [
            [f"{table[row]['workload.arrivals.rate']:.4g}", str(table[row]["engine.max_num_seqs"])]
            for row in (rows[place] for place in sorted(front))
        ]

    told = best(wanted())
    assert [row[:2] for row in shown.execute_script(NUMBERS, FRONT)] == told
    assert shown.execute_script(dots) == len(told)
    tick(shown, 1, 0)
    fewer = best(wanted(**{"engine.max_num_seqs": CAPS[0]}))
    assert [row[:2] for row in shown.execute_script(NUMBERS, FRONT)] == fewer != told
    assert shown.execute_script(dots) == len(fewer)


def test_many_numbers_are_chosen_from_a_range_and_the_slo_by_a_box(shown: Any) -> None:
    choose(
        shown,
        "const box = f.querySelector('[data-end=from]'); box.value = '6.5';"
        "box.dispatchEvent(new Event('input', {bubbles: true}))",
    )
    assert count(shown) == "32 of 56 configurations"
    assert shown.find_element("css selector", "[data-filter='0'] .told").text == "from 6.5"
    tick(shown, 3, 0)
    met = [place for place in wanted() if results()[place]["slo.met"]]
    rows = [place for place in met if results()[place]["workload.arrivals.rate"] >= 6.5]
    assert sorted(shown.execute_script(DRAWN_ROWS, FRONT)) == rows and rows
    assert count(shown) == f"{len(rows)} of 56 configurations"


def test_one_button_shows_everything_again_and_the_theme_keeps_what_is_chosen(shown: Any) -> None:
    tick(shown, 1, 0)
    tick(shown, 2, 0)
    other = (
        "light" if shown.execute_script("return document.documentElement.dataset.drawn") == "dark" else "dark"
    )
    shown.execute_script("document.getElementById('theme').click()")
    assert shown.execute_async_script(DRAWN, other)
    assert len(shown.execute_script(DRAWN_ROWS, "coordinates")) == 14
    choose(shown, "f.querySelector('[type=reset]').click()")
    assert len(shown.execute_script(DRAWN_ROWS, "coordinates")) == 56
    assert count(shown) == "56 of 56 configurations"
    assert shown.execute_script("return document.querySelector('#filters [type=reset]').disabled")


def test_where_nothing_is_left_the_figures_say_so(shown: Any) -> None:
    choose(
        shown,
        "const box = f.querySelector('[data-end=from]'); box.value = '99';"
        "box.dispatchEvent(new Event('input', {bubbles: true}))",
    )
    assert count(shown) == "0 of 56 configurations"
    visible = "return [...document.querySelectorAll('.plot')].filter(p => p.offsetParent).length"
    assert shown.execute_script(visible) == 0
    assert "leave nothing to show" in shown.find_element("id", "figure-coordinates").text
    choose(shown, "f.querySelector('[type=reset]').click()")
    assert shown.execute_script(visible) == 4


def test_the_keyboard_alone_opens_chooses_and_closes(shown: Any) -> None:
    from selenium.webdriver import Keys

    summary = shown.find_element("css selector", "[data-filter='2'] summary")
    summary.send_keys(Keys.ENTER)
    assert shown.execute_script("return document.querySelector(\"[data-filter='2']\").open")
    shown.switch_to.active_element.send_keys(Keys.TAB)
    shown.execute_script("document.documentElement.dataset.settled = ''")
    shown.switch_to.active_element.send_keys(Keys.SPACE)
    assert shown.execute_async_script(SETTLED)
    assert count(shown) == "28 of 56 configurations"
    shown.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not shown.execute_script("return document.querySelector(\"[data-filter='2']\").open")
    assert shown.switch_to.active_element == summary
    assert summary.text.split() == ["hardware", DEVICES[0]]


def test_a_list_is_sorted_by_its_headers(shown: Any) -> None:
    ttft = "[data-listing] th:nth-child(4)"
    press = f"document.querySelector('{ttft} button').click()"
    state = f"return document.querySelector('{ttft}').getAttribute('aria-sort')"
    before = shown.execute_script(COLUMN, 3)
    seconds = sorted(row[TTFT] for row in results())
    shown.execute_script(press)
    assert shown.execute_script(state) == "ascending"
    ascending = [_seconds(text) for text in shown.execute_script(COLUMN, 3)]
    assert ascending == pytest.approx(seconds, rel=0.01)
    shown.execute_script(press)
    assert shown.execute_script(state) == "descending"
    assert [_seconds(text) for text in shown.execute_script(COLUMN, 3)] == ascending[::-1]
    shown.execute_script(press)
    assert shown.execute_script(state) is None
    assert shown.execute_script(COLUMN, 3) == before


def _seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"ms": 1e-3, "s": 1.0}[unit]


@pytest.mark.parametrize(("models", "mark"), [(1, "rect"), (12, "bar")])
def test_maps_and_bars_follow_what_is_chosen(browser: Any, tmp_path: Path, models: int, mark: str) -> None:
    policies, names = ["vllm", "sjf"], [f"model {number}" for number in range(models)]
    rows = [
        {
            **{"point": point, "engine.policy": policy, "cluster.pools[0].hardware": device, "model": model},
            **{"seed": 0, "status": "ok", "error": None, TTFT: 0.1 + point},
        }
        for point, (policy, device, model) in enumerate(itertools.product(policies, DEVICES, names))
    ]
    file = tmp_path / "report.html"
    parameters = {"engine.policy": policies, "cluster.pools[0].hardware": DEVICES, "model": names}
    file.write_text(of_study(parameters, rows), encoding="utf-8")
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(file.as_uri())
    theme = browser.execute_script(
        "return matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
    )
    assert browser.execute_async_script(DRAWN, theme)
    spec = "return JSON.stringify(tokensim.data.figures['over-ttft-p99'].spec)"
    assert f'"type":"{mark}"' in browser.execute_script(spec)
    drawn = """return document.querySelectorAll(
      '[data-figure="over-ttft-p99"] .layer_0_marks path').length"""
    assert browser.execute_script(drawn) == min(len(rows), 24 if models > 1 else 4)
    tick(browser, 0, 1)
    assert browser.execute_script(drawn) == len(rows) // 2
    assert browser.get_log("browser") == []
    browser.get("about:blank")


def test_a_phone_has_room_for_the_filters(shown: Any) -> None:
    shown.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
    )
    shown.refresh()
    theme = shown.execute_script(
        "return matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
    )
    assert shown.execute_async_script(DRAWN, theme)
    wide = "return document.documentElement.scrollWidth"
    assert shown.execute_script(wide) == 390
    for number in range(3):
        shown.execute_script("document.querySelector(`[data-filter='${arguments[0]}']`).open = true", number)
        assert shown.execute_script(wide) == 390
    shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_scripts_the_list_stands_and_the_filters_do_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8").split("<script")[0]
    assert text.count("<tr>") > 56
    assert 'id="filters" aria-label' in text and 'autocomplete="off" hidden' in text
