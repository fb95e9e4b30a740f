"""One run of many: a scenario in, a row of figures out. What executors carry, and what they call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokensim.errors import InputError, SimulationError

Figure = float | int | str | bool | None

Status = Literal["ok", "incomplete", "refused", "failed", "crashed"]
"""``ok``: it has its figures. ``refused``: the scenario cannot be (``InputError``). ``failed``: it started
and could not be completed. ``crashed``: a defect, or a process that died."""

LABELS = ("name", "pool", "link", "tier", "operator", "kind", "tenant", "bound", "metric")
"""What names an entry of a list in a summary; the first of these that it has."""


@dataclass(frozen=True, slots=True)
class Task:
    """Run the scenario that the tree ``data`` describes; ``key`` tells its outcome from others'."""

    key: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the task ``key``: its ``figures``, or the ``error``."""

    key: int
    status: Status
    error: str | None
    figures: dict[str, Figure]


def evaluate(task: Task) -> Outcome:
    """Run ``task`` here and now; whatever goes wrong is told in the outcome."""
    from tokensim.assemble import simulate
    from tokensim.scenario.loading import from_mapping

    try:
        result = simulate(from_mapping(task.data))
        return Outcome(
            task.key,
            "ok" if result.complete else "incomplete",
            None if result.complete else "interrupted",
            flatten(result.summary.to_dict()),
        )
    except InputError as error:
        return Outcome(task.key, "refused", _one_line(error), {})
    except SimulationError as error:
        return Outcome(task.key, "failed", _one_line(error), {})
    except MemoryError:
        return Outcome(task.key, "crashed", "out of memory", {})
    except Exception as error:
        return Outcome(task.key, "crashed", f"{type(error).__name__}: {_one_line(error)}", {})


def flatten(tree: Mapping[str, Any]) -> dict[str, Figure]:
    """The leaves of a summary by dotted path (``latency.ttft_s.p99``). Entries of a list stand under their
    own name (``spending.pools.serve.usd``); texts in a list become one; lists of numbers are left out."""
    figures: dict[str, Figure] = {}
    _flatten(tree, "", figures)
    return figures


def _flatten(value: Any, path: str, figures: dict[str, Figure]) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _flatten(item, f"{path}.{name}" if path else str(name), figures)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(item, str) for item in value):
            figures[path] = "; ".join(value)
        for item in value:
            if isinstance(item, Mapping) and (label := next((k for k in LABELS if k in item), None)):
                rest = {key: entry for key, entry in item.items() if key != label}
                _flatten(rest, f"{path}.{item[label]}", figures)
    else:
        figures[path] = value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
