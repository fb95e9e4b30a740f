"""Five requests on one instance: what each does, every step, and the runs of steps that the engine takes."""

from __future__ import annotations

from diagrams.canvas import DECODE, PREFILL, QUEUE, WIDTH, Canvas, colour
from diagrams.runs import run

LEFT, RIGHT, SPAN_S = 96.0, WIDTH - 16, 0.48
ROW, TOP = 30.0, 66.0


def draw() -> str:
    """The figure."""
    result, single = run("five_requests"), run("five_requests", exact_steps=True)
    requests, runs, steps = result.requests, result.steps, single.steps
    total = int(runs["steps"].sum())

    def x(time_s: float) -> float:
        return LEFT + (RIGHT - LEFT) * time_s / SPAN_S

    lanes = TOP + ROW * len(requests) + 12
    bottom = lanes + 2 * 34 + 8
    sheet = Canvas(
        bottom + 28,
        "Five requests on one instance, in steps and in runs of steps",
        f"Above: a bar for each request, prefill then decode. Below: {total} steps, and the {len(runs)}"
        " runs of equal steps that they fall into. A run ends where a request arrives and can be"
        " admitted, or finishes.",
    )
    ticks = [(x(ms / 1000), f"{ms}") for ms in range(0, 401, 100)]
    sheet.axis(bottom, ticks, "ms", left=LEFT, right=RIGHT, top=TOP)
    sheet.text(16, 26, "Five requests, one H100", bold=True, size=15)
    sheet.legend(
        16,
        48,
        [(colour(QUEUE), "waits"), (colour(PREFILL), "prefill, in chunks"), (colour(DECODE), "decode")],
    )
    for row, r in enumerate(requests.iter_rows(named=True)):
        y = TOP + ROW * row
        sheet.text(LEFT - 8, y + 16, f"{r['input_tokens']:,} → {r['output_tokens']}", at="end", size=12)
        chunks = [
            (s["start_s"], s["end_s"])
            for s in runs.filter(runs["prefill_tokens"] > 0).iter_rows(named=True)
            if r["scheduled_s"] - 1e-9 <= s["start_s"] and s["end_s"] <= r["first_token_s"] + 1e-9
        ]
        if chunks[0][0] > r["arrival_s"]:
            sheet.box(x(r["arrival_s"]), y + 9, x(chunks[0][0]) - x(r["arrival_s"]), 4, colour(QUEUE))
        for start_s, end_s in chunks:
            sheet.box(x(start_s), y + 4, x(end_s) - x(start_s) - 0.6, 14, colour(PREFILL))
        sheet.box(x(chunks[-1][1]), y + 4, x(r["finish_s"]) - x(chunks[-1][1]), 14, colour(DECODE))
        sheet.down(x(r["arrival_s"]), y + 7, "ink", 4)
    sheet.text(LEFT - 8, lanes + 16, f"{total} steps", at="end", size=12, bold=True)
    for s in steps.iter_rows(named=True):
        shade = colour(PREFILL if s["prefill_tokens"] else DECODE)
        sheet.box(x(s["start_s"]), lanes + 2, x(s["end_s"]) - x(s["start_s"]) - 0.8, 20, shade, fade=0.55)
    lane = lanes + 34
    sheet.text(LEFT - 8, lane + 16, f"{len(runs)} runs", at="end", size=12, bold=True)
    for s in runs.iter_rows(named=True):
        shade, width = colour(PREFILL if s["prefill_tokens"] else DECODE), x(s["end_s"]) - x(s["start_s"])
        sheet.box(x(s["start_s"]), lane + 2, width - 1, 20, shade, round_=2)
        if s["steps"] > 1:
            middle = x(s["start_s"]) + width / 2 - 0.5
            sheet.text(middle, lane + 16.5, f"{s['steps']}", "on", at="middle", size=12)
    return sheet.svg()
