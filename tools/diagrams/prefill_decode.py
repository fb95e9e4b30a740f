"""Five requests over an instance that prefills, a link, and one that decodes; and the gaps between tokens
with and without prompts in the same steps."""

from __future__ import annotations

from itertools import pairwise

from diagrams.canvas import DECODE, PREFILL, QUEUE, TRANSFER, WIDTH, Canvas, colour
from diagrams.runs import watched

APART = (
    "cluster.pools=[{name: prefill, hardware: h100-sxm-80gb, role: prefill},"
    " {name: decode, hardware: h100-sxm-80gb, role: decode}]",
    "cluster.network={placement: by-pool, inter_node: ethernet-100}",
)
TOGETHER = ("cluster.pools[0].replicas=2",)
WHOLE_PROMPTS = ("engine.max_num_batched_tokens=2048",)
LEFT, RIGHT, SPAN_S = 96.0, WIDTH - 16, 0.5


def _x(time_s: float) -> float:
    return LEFT + (RIGHT - LEFT) * time_s / SPAN_S


def handover() -> str:
    """What each machine and the link do."""
    result, notes = watched("five_requests", *APART)
    moved = result.log.transfers
    assert moved is not None
    sheet = Canvas(
        296,
        "Prefill and decode on machines of their own",
        "Three lanes: the instance that prefills, the link, the instance that decodes. Each request's"
        " KV crosses the link when its prefill is over, and it decodes once the KV has come.",
    )
    sheet.text(16, 26, "Prefill here, decode there: 100 Gb/s between", bold=True, size=15)
    entries = [(PREFILL, "prefill"), (TRANSFER, "KV on the link"), (DECODE, "decode")]
    sheet.legend(16, 50, [(colour(number), words) for number, words in entries])
    sheet.axis(
        262, [(_x(ms / 1000), f"{ms}") for ms in range(0, 401, 100)], "ms", left=LEFT, right=RIGHT, top=66
    )
    for y, words in ((97, "prefill"), (147, "link"), (202, "decode")):
        sheet.text(LEFT - 10, y, words, at="end")
    for moment in notes.moments:
        if moment.instance == 0:
            width = _x(moment.end_s) - _x(moment.start_s)
            sheet.box(_x(moment.start_s), 80, width - 0.6, 26, colour(PREFILL))
    for row, r in enumerate(result.requests.iter_rows(named=True)):
        start_s, end_s = float(moved.start_s[row]), float(moved.end_s[row])
        done_s = max(m.end_s for m in notes.moments if m.instance == 0 and row in m.prefill)
        first_s = min(m.start_s for m in notes.moments if m.instance == 1 and row in m.prefill)
        sheet.text(_x(done_s) - 3, 76, f"{'ABCDE'[row]}", at="end", bold=True, size=12)
        sheet.box(_x(start_s), 132, _x(end_s) - _x(start_s), 22, colour(TRANSFER))
        size = f"{moved.bytes[row] / 1e6:.0f} MB"
        if row % 2:  # beside their neighbours' there is no room on one line
            sheet.text(_x(start_s) - 4, 153, size, "muted", at="end", size=11)
        else:
            sheet.text(_x(end_s) + 4, 141, size, "muted", size=11)
        y = 174 + 16 * row
        sheet.line([(_x(start_s), 106), (_x(start_s), 132)], colour(TRANSFER), line=1.5)
        sheet.line([(_x(end_s), 154), (_x(end_s), y + 5.5)], colour(TRANSFER), line=1.5)
        sheet.line([(_x(end_s), y + 5.5), (_x(first_s), y + 5.5)], colour(QUEUE), line=3)
        sheet.box(_x(first_s), y, _x(r["finish_s"]) - _x(first_s), 11, colour(DECODE), round_=2)
        sheet.text(_x(r["finish_s"]) + 5, y + 10, "ABCDE"[row], bold=True, size=12)
    return sheet.svg()


def gaps() -> str:
    """The gaps between the tokens of one request on two instances, mixed and apart."""
    request, top, bottom, most_ms = 1, 74.0, 218.0, 30.0
    sheet = Canvas(
        250,
        "The gaps between tokens of one request",
        "Two mixed instances: a prompt of 900 tokens in the same step makes one gap of the request"
        " several times as long. With prefill apart, all gaps stay as short as a step of decodes.",
    )
    sheet.text(16, 26, "Gaps between the tokens of request B", bold=True, size=15)
    sheet.legend(
        16, 50, [(colour(QUEUE), "two mixed instances"), (colour(DECODE), "one prefills, one decodes")]
    )
    sheet.axis(
        bottom, [(_x(ms / 1000), f"{ms}") for ms in range(0, 401, 100)], "ms", left=LEFT, right=RIGHT, top=top
    )
    for ms in (10, 20, 30):
        y = bottom - (bottom - top) * ms / most_ms
        sheet.line([(LEFT, y), (RIGHT, y)], "grid")
        sheet.text(LEFT - 8, y + 4, f"{ms} ms", "muted", at="end", size=12)
    for overrides, number in ((TOGETHER, QUEUE), (APART, DECODE)):
        _, notes = watched("five_requests", *overrides, *WHOLE_PROMPTS)
        times = notes.tokens[request]
        path = []
        for before, time in pairwise(times):
            y = bottom - (bottom - top) * 1e3 * (time - before) / most_ms
            path += [(_x(before), y), (_x(time), y)]
        sheet.line(path, colour(number), line=2)
    return sheet.svg()
