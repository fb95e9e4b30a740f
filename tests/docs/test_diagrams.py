"""The figures of the concepts are current, readable in light and dark, and told in words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from example_outputs import ENVIRONMENT, ROOT

CONCEPTS = ROOT / "docs" / "concepts"
IMAGE = re.compile(r"!\[([^\]]*)\]\(figures/([\w-]+)\.svg\)")
SVG = "{http://www.w3.org/2000/svg}"


DRAW = """
import json, draw_diagrams
from diagrams.prefill_decode import APART, TOGETHER, WHOLE_PROMPTS, watched
figures = {name: draw() for name, draw in draw_diagrams.DRAWN.items()}
times = [watched("five_requests", *setting, *WHOLE_PROMPTS)[1].tokens[1] for setting in (TOGETHER, APART)]
print(json.dumps([figures, times]))
"""


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, str], list[list[float]]]:
    """The figures, drawn now, by name; and when request B gets its tokens, mixed and with prefill apart."""
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=ROOT / "tools",
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    figures, times = json.loads(done.stdout)
    return figures, times


@pytest.fixture
def drawn(made: tuple[dict[str, str], list[list[float]]]) -> dict[str, str]:
    return made[0]


def shown() -> dict[str, str]:
    """The words for each figure that a page shows."""
    pages = [page.read_text(encoding="utf-8") for page in sorted(CONCEPTS.glob("*.md"))]
    return {name: words for page in pages for words, name in IMAGE.findall(page)}


def test_every_figure_is_drawn_shown_and_current(drawn: dict[str, str]) -> None:
    files = {file.stem: file.read_text(encoding="utf-8") for file in (CONCEPTS / "figures").glob("*.svg")}
    assert files == drawn, "run: python tools/draw_diagrams.py"
    assert shown().keys() == files.keys()


def test_words_and_boxes_stay_on_the_sheet_and_follow_the_readers_colours(drawn: dict[str, str]) -> None:
    for name, text in drawn.items():
        root = ElementTree.fromstring(text)
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        assert root.find(f"{SVG}title") is not None and root.find(f"{SVG}desc") is not None, name
        assert "prefers-color-scheme:dark" in text, name
        for box in root.iter(f"{SVG}rect"):
            x, y, wide, high = (float(box.get(key, 0)) for key in ("x", "y", "width", "height"))
            assert x >= 0 and y >= 0 and wide > 0 and high > 0, name
            assert x + wide <= width + 0.11 and y + high <= height + 0.11, name
        for words in root.iter(f"{SVG}text"):
            assert 0 < float(words.attrib["y"]) < height - 2, f"{name}: {words.text}"
            assert 0 <= float(words.attrib["x"]) <= width, f"{name}: {words.text}"


def test_numbers_beside_the_figures_are_those_in_them(drawn: dict[str, str]) -> None:
    words = shown()
    assert "64 steps" in drawn["step-runs"] and "18 runs" in drawn["step-runs"]
    assert "64 steps fall into 18 runs" in words["step-runs"]
    waits = re.findall(r"waits ([\d.]+) ms", drawn["time-axes"])
    assert len(waits) == 2
    assert all(f"{wait} ms" in words["time-axes"] for wait in waits)
    assert "197 MB" in drawn["handover"] and "is 197 MB" in (CONCEPTS / "prefill-decode.md").read_text()


def test_a_prompt_in_the_same_step_makes_one_gap_long_and_prefill_apart_none(
    made: tuple[dict[str, str], list[list[float]]],
) -> None:
    mixed, apart = made[1]
    long = sorted(1e3 * (b - a) for a, b in pairwise(mixed))
    assert round(long[-1]) == 23 and long[-2] < 8  # what the page says
    gaps = [1e3 * (b - a) for a, b in pairwise(apart[1:])]
    assert min(gaps) > 6.4 and max(gaps) < 7.5
