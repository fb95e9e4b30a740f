"""The page of a study in a real browser: every figure draws, in light and dark, and nothing complains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from test_run_page_in_browser import DRAWN, MARKS

from tokensim import Study, sweep
from tokensim.explore.executors import make_executor

STUDY = {
    "name": "Batches & loads",
    "scenario": {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": [{"name": "serve", "hardware": "h100-sxm-80gb"}]},
        "performance": {"operators": "builtin"},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 10},
            "input_tokens": 400,
            "output_tokens": 20,
            "num_requests": 30,
        },
        "slo": {"ttft": 0.2},
    },
    "parameters": {
        "workload.arrivals.rate": [5, 20, 80],
        "engine.max_num_seqs": [2, 64],
        "cluster.pools[0].parallel.tensor": [1, 3],
    },
}


def test_every_figure_of_a_study_draws(browser: Any, tmp_path: Path) -> None:
    sweep(Study.from_mapping(STUDY), tmp_path, executor=make_executor("serial"))
    browser.set_window_size(1280, 900)
    browser.get_log("browser")
    browser.get(f"file://{tmp_path / 'report.html'}")
    for theme in ("light", "dark"):
        if theme == "dark":
            browser.execute_script("document.querySelector('#theme').click()")
        assert browser.execute_async_script(DRAWN, theme)
        marks = browser.execute_script(MARKS)
        assert len(marks) >= 8
        assert all(marks.values()), marks
    assert browser.get_log("browser") == []
    text = browser.find_element("tag name", "body").text
    assert "refused" in text and "Batches & loads" in text
