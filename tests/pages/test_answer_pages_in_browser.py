"""Pages of answers in a real browser: every figure draws, light and dark; nothing complains; a phone can
show them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_run_page_in_browser import DRAWN, MARKS
from test_study_page_in_browser import STUDY

from tokensim import Question, Scenario, Study, capacities, capacity, compare, optimize, sensitivity
from tokensim.explore.answer_files import about, write_answer
from tokensim.explore.capacity_page import CAPACITY_ANSWER, capacity_page
from tokensim.explore.capacity_report import plain_capacity
from tokensim.explore.comparison_page import COMPARISON_ANSWER, comparison_page
from tokensim.explore.executors import make_executor
from tokensim.explore.sensitivity_page import SENSITIVITY_ANSWER, sensitivity_page

HERE = make_executor("serial")
ASKED = Question(seeds=2, tolerance=0.5)


def scenario(rate: float = 10) -> Scenario:
    data: Any = STUDY["scenario"]
    arrivals = {"process": "poisson", "rate": rate}
    slo = {"ttft": 0.05, "tpot": 0.05, "percentile": 90}
    workload = {**data["workload"], "arrivals": arrivals, "num_requests": 60}
    return Scenario.model_validate({**data, "slo": slo, "workload": workload})


def study(**more: Any) -> Study:
    base = scenario().model_dump(mode="json")
    parameters = {"engine.max_num_seqs": [2, 64], "cluster.pools[0].parallel.tensor": [1, 2, 3]}
    return Study.from_mapping({"scenario": base, "parameters": parameters, **more})


def of_capacity(folder: Path) -> None:
    found = plain_capacity(capacity(scenario(), ASKED, executor=HERE), scenario())
    write_answer(folder, CAPACITY_ANSWER, found, capacity_page, scenario())


def of_capacities(folder: Path) -> None:
    capacities(study(), ASKED, folder, executor=HERE)


def of_comparison(folder: Path) -> None:
    found = compare([scenario(), scenario(40)], seeds=2, executor=HERE)
    write_answer(folder, COMPARISON_ANSWER, found.to_dict(), comparison_page, scenario())


def of_sensitivity(folder: Path) -> None:
    found = {**about(scenario()), **sensitivity(scenario(), seeds=2, executor=HERE).to_dict()}
    write_answer(folder, SENSITIVITY_ANSWER, found, sensitivity_page, scenario())


def of_search(folder: Path) -> None:
    optimize(study(goals=[{"minimize": "cost"}, {"minimize": "tpot"}]), folder, executor=HERE)


@pytest.mark.parametrize(
    ("make", "least", "said"),
    [
        (of_capacity, 4, "How close to the SLO"),
        (of_capacities, 4, "Capacity for the money"),
        (of_comparison, 1, "more than noise"),
        (of_sensitivity, 3, "is bound by"),
        (of_search, 5, "beaten by no other"),
    ],
)
def test_every_figure_of_an_answer_draws(
    browser: Any, tmp_path: Path, make: Callable[[Path], None], least: int, said: str
) -> None:
    make(tmp_path)
    browser.set_window_size(1280, 900)
    browser.get_log("browser")
    browser.get((tmp_path / "report.html").as_uri())
    for theme in ("light", "dark"):
        if theme == "dark":
            browser.execute_script("document.querySelector('#theme').click()")
        assert browser.execute_async_script(DRAWN, theme)
        marks = browser.execute_script(MARKS)
        assert len(marks) >= least
        assert all(marks.values()), marks
    assert said in browser.find_element("tag name", "body").text
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        browser.refresh()
        assert browser.execute_async_script(DRAWN, "light")
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.get_log("browser") == []
