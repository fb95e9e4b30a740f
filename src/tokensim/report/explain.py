"""The tables of ``tokensim explain``: one device with every figure, or two side by side; and the same as
JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokensim.cost.explain import HOST, ExplainedOperator, Explanation, Step
from tokensim.report.numbers import NOTHING, duration, share


@dataclass(frozen=True, slots=True)
class OnDevice:
    """A step explained on one device: its catalog ``hardware`` id, its ``name``, the source of ``operators``,
    and what to mind."""

    hardware: str
    name: str
    operators: str
    explanation: Explanation
    notes: tuple[str, ...] = ()


def render_one(step: Step, device: OnDevice) -> str:
    """The table of one device."""
    titles = (
        "operator",
        "shape",
        "runs",
        "time",
        "share",
        "GFLOP",
        "MB",
        "of peak",
        "bound",
        "known",
        "source",
    )
    explanation = device.explanation
    rows = [
        (
            operator.operator,
            operator.shape,
            str(operator.count),
            duration(operator.seconds),
            share(_part(operator.seconds, explanation)),
            _number(operator.flops / 1e9),
            _number(operator.bytes / 1e6),
            NOTHING if operator.of_peak is None else share(operator.of_peak),
            operator.bound,
            _known(operator),
            operator.origin.source,
        )
        for operator in explanation.operators
    ]
    left = {"operator", "shape", "bound", "known", "source"}
    lines = [f"{device.name}: {_step(step)}", "", _table(titles, rows, left), "", _total(explanation)]
    return "\n".join([*lines, *_notes([device])])


def render_two(step: Step, one: OnDevice, other: OnDevice) -> str:
    """Two devices side by side; ``ratio`` is the second's time over the first's."""
    titles = (
        *("operator", "shape", "runs"),
        *("time", "share", "of peak", "bound", "known"),
        *("time", "share", "of peak", "bound", "known", "ratio"),
    )
    rows = []
    others = {operator.operator: operator for operator in other.explanation.operators}
    for operator in one.explanation.operators:
        twin = others.get(operator.operator)
        rows.append(
            (
                operator.operator,
                operator.shape,
                str(operator.count),
                *_half(operator, one.explanation),
                *_half(twin, other.explanation),
                _ratio(operator.seconds, twin.seconds if twin else None),
            )
        )
    rows.append(
        (
            *("total", "", ""),
            *(duration(one.explanation.step_s), "", "", "", ""),
            *(duration(other.explanation.step_s), "", "", "", ""),
            _ratio(one.explanation.step_s, other.explanation.step_s),
        )
    )
    lines = [
        f"{_step(step)}: {one.name}, then {other.name}",
        "",
        _table(titles, rows, {"operator", "shape", "bound", "known"}),
        "",
    ]
    for device in (one, other):
        lines += [f"{device.name}: {_total(device.explanation)}"]
    return "\n".join([*lines, *_notes([one, other])])


def as_json(step: Step, devices: Sequence[OnDevice]) -> dict[str, Any]:
    """What the tables say, in SI units."""
    return {
        "step": {
            "decodes": [{"requests": n, "context": context} for n, context in step.decodes],
            "chunks": [{"tokens": new, "cached": cached} for new, cached in step.chunks],
        },
        "devices": [
            {
                "hardware": device.hardware,
                "name": device.name,
                "operators": device.operators,
                "rows": device.explanation.rows,
                "step_s": device.explanation.step_s,
                "device_s": device.explanation.device_s,
                "host_s": device.explanation.host_s,
                "breakdown": [_operator_json(o, device.explanation) for o in device.explanation.operators],
                "notes": list(device.notes),
            }
            for device in devices
        ],
    }


def _operator_json(operator: ExplainedOperator, explanation: Explanation) -> dict[str, Any]:
    return {
        "operator": operator.operator,
        "kind": operator.kind,
        "shape": operator.shape,
        "count": operator.count,
        "seconds": operator.seconds,
        "share": _part(operator.seconds, explanation),
        "flops": operator.flops,
        "bytes": operator.bytes,
        "of_peak": operator.of_peak,
        "bound": operator.bound,
        "how": operator.origin.how,
        "source": operator.origin.source,
        "error": operator.origin.error,
    }


def _half(operator: ExplainedOperator | None, explanation: Explanation) -> tuple[str, ...]:
    if operator is None:
        return (NOTHING,) * 5
    return (
        duration(operator.seconds),
        share(_part(operator.seconds, explanation)),
        NOTHING if operator.of_peak is None else share(operator.of_peak),
        operator.bound,
        _known(operator),
    )


def _part(seconds: float, explanation: Explanation) -> float:
    return seconds / explanation.step_s if explanation.step_s > 0 else 0.0


def _ratio(one: float, other: float | None) -> str:
    return NOTHING if other is None or one <= 0 else f"{other / one:.2f}"


def _known(operator: ExplainedOperator) -> str:
    """How the time is known, and its error where that is known."""
    if operator.kind == HOST:
        return NOTHING
    error = operator.origin.error
    return operator.origin.how if error is None else f"{operator.origin.how} ±{share(error)}"


def _number(value: float) -> str:
    """Three digits, and no more zeros than needed."""
    if value == 0:
        return NOTHING
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}" if value >= 0.001 else "<0.001"


def _step(step: Step) -> str:
    parts = [f"{n} decodes of {context:,} tokens" for n, context in step.decodes]
    parts += [
        f"prefill of {new:,} tokens" + (f" after {cached:,}" if cached else "") for new, cached in step.chunks
    ]
    return ", ".join(parts)


def _total(explanation: Explanation) -> str:
    host = share(_part(explanation.host_s, explanation))
    return (
        f"step {duration(explanation.step_s)}: device {duration(explanation.device_s)},"
        f" host {duration(explanation.host_s)} ({host})"
    )


def _notes(devices: Sequence[OnDevice]) -> list[str]:
    notes = dict.fromkeys(note for device in devices for note in device.notes)
    return [f"note: {note}" for note in notes]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: set[str]) -> str:
    """``rows`` under ``titles``; the columns in ``left`` start at the left, the others end at the right."""
    table = [tuple(titles), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if title in left else cell.rjust(width)
            for cell, width, title in zip(row, widths, titles, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
