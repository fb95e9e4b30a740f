"""The files of an answer: the plain data that a command prints as JSON, and the page that is made from it.

The page is made from what the file says, so that it is the same when it is made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokensim.errors import InputError
from tokensim.report.atomic import write_bytes
from tokensim.report.header import header_of
from tokensim.scenario import Scenario, dump_scenario

REPORT_FILE = "report.html"
SCENARIO_FILE = "scenario.yaml"

Plain = Mapping[str, Any]
"""What JSON can hold."""


def about(scenario: Scenario) -> dict[str, Any]:
    """What a page says of ``scenario`` first: a title, and lines of (label, text)."""
    header = header_of(scenario)
    return {"title": header.title, "about": [list(line) for line in header.lines]}


def answer_text(plain: Any) -> str:
    """The JSON of an answer, as it is printed and kept."""
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a folder holds: an answer as ``plain`` data, and the YAML of the ``scenario`` asked about."""

    plain: Plain
    scenario: str


def write_answer(
    folder: Path, name: str, plain: Plain, page: Callable[[Answer], str], scenario: Scenario
) -> None:
    """Leave ``scenario.yaml``, ``report.html`` and, last, ``plain`` as ``name`` in ``folder``; ``page`` makes
    the HTML of what these say. Raises ``SimulationError`` where something cannot be written."""
    text, given = answer_text(plain), dump_scenario(scenario)
    write_bytes(folder / SCENARIO_FILE, given.encode())
    write_bytes(folder / REPORT_FILE, page(Answer(json.loads(text), given)).encode())
    write_bytes(folder / name, f"{text}\n".encode())


def read_answer(folder: Path, name: str) -> Answer:
    """The answer that ``folder`` holds as ``name``, its scenario if it has one; raises ``InputError``."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=str(folder / name)) from None
    if not isinstance(found, dict):
        raise InputError("is no object", where=str(folder / name))
    scenario = folder / SCENARIO_FILE
    return Answer(found, scenario.read_text(encoding="utf-8") if scenario.is_file() else "")
