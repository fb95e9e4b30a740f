"""Draw the figures of ``docs/concepts`` anew: ``python tools/draw_diagrams.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diagrams import memory, prefill_decode, step_runs, the_schedule, time_of_a_step

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "concepts" / "figures"

DRAWN: dict[str, Callable[[], str]] = {
    "step-runs": step_runs.draw,
    "tokens-of-a-step": the_schedule.tokens,
    "time-axes": the_schedule.axes,
    "two-stages": the_schedule.stages,
    "operators-of-a-step": time_of_a_step.operators,
    "sources-of-time": time_of_a_step.sources,
    "blocks": memory.pool,
    "block-tables": memory.tables,
    "handover": prefill_decode.handover,
    "gaps": prefill_decode.gaps,
}

if __name__ == "__main__":
    for name, draw in DRAWN.items():
        (FIGURES / f"{name}.svg").write_text(draw(), encoding="utf-8")
