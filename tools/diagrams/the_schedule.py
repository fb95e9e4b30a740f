"""Who gets how many tokens in each step of a server with room for 16 a step and for 80 in memory; and what
asynchronous scheduling does to an arrival; and the two stages that a request passes."""

from __future__ import annotations

from itertools import pairwise

from diagrams.canvas import DECODE, PREFILL, QUEUE, WIDTH, Canvas, colour
from diagrams.runs import watched

LEFT, TOP, CELL = 100.0, 74.0, 27.0


def tokens() -> str:
    """A cell for each request and step: what it is given."""
    result, notes = watched("narrow_budget")
    moments, rows = notes.moments, len(result.requests)
    pool, budget = result.log.num_blocks[0], result.scenario.engine.max_num_batched_tokens
    sheet = Canvas(
        TOP + 30 * (rows + 2) + 40,
        "Who gets how many tokens, step by step",
        f"{rows} requests over {len(moments)} steps. A step has {budget} tokens: those who decode get"
        " one each, the rest goes to chunks of prompts. When blocks run out, the last one admitted is"
        " preempted.",
    )
    sheet.text(16, 26, f"{budget} tokens a step, {pool} blocks of 4 tokens", bold=True, size=15)
    entries = [(PREFILL, "prompt tokens"), (DECODE, "one token"), (QUEUE, "waits")]
    sheet.legend(16, 50, [(colour(number), words) for number, words in entries])
    sheet.text(328, 50, "×", colour(QUEUE), size=15, bold=True)
    sheet.text(342, 50, "preempted", "muted", size=12)
    for row, r in enumerate(result.requests.iter_rows(named=True)):
        y = TOP + 30 * row
        sheet.text(LEFT - 10, y + 17, f"{'ABCD'[row]}: {r['input_tokens']} → {r['output_tokens']}", at="end")
        for column, moment in enumerate(moments):
            x = LEFT + CELL * column
            if row in moment.prefill:
                sheet.box(x, y, CELL - 2, 24, colour(PREFILL), round_=3)
                sheet.text(x + CELL / 2 - 1, y + 16.5, f"{moment.prefill[row]}", "on", at="middle")
            elif row in moment.decode:
                sheet.box(x, y, CELL - 2, 24, colour(DECODE), round_=3)
                sheet.text(x + CELL / 2 - 1, y + 16.5, "1", "on", at="middle")
            elif row in moment.preempted:
                sheet.frame(x, y, CELL - 2, 24, colour(QUEUE), round_=3, line=1.5)
                sheet.text(x + CELL / 2 - 1, y + 17.5, "×", colour(QUEUE), at="middle", size=16, bold=True)
            elif row in moment.waiting:
                sheet.box(x + 3, y + 9, CELL - 8, 6, colour(QUEUE), round_=3)
    y = TOP + 30 * rows + 8
    sheet.line([(16, y), (WIDTH - 14, y)], "grid")
    sheet.text(LEFT - 10, y + 21, "tokens", "muted", at="end")
    sheet.text(LEFT - 10, y + 43, "free blocks", "muted", at="end")
    sheet.text(LEFT - 10, y + 65, "step", "muted", at="end")
    for column, moment in enumerate(moments):
        x = LEFT + CELL * (column + 0.5) - 1
        used = sum(moment.prefill.values()) + len(moment.decode)
        free = pool - sum(len(blocks) for blocks in moment.blocks.values())
        sheet.text(x, y + 21, f"{used}", at="middle", bold=used == budget)
        sheet.text(x, y + 43, f"{free}", at="middle", bold=free == 0)
        sheet.text(x, y + 65, f"{column + 1}", "muted", at="middle")
    return sheet.svg()


def axes() -> str:
    """The steps around one arrival, scheduled when the one before ended, or when it started."""
    arrival_s, new = 0.060, 1
    sheet = Canvas(
        252,
        "An arrival under synchronous and asynchronous scheduling",
        "Above, a step is decided when the one before has ended, and the request that arrives during a"
        " step runs in the next one. Below, a step is decided when the one before starts, and it runs in"
        " the one after next.",
    )
    sheet.text(16, 26, "A request arrives while a step runs", bold=True, size=15)
    sheet.down(30, 47, "muted", 4.5)
    sheet.text(40, 46, "a step is decided", "muted", size=12)
    sheet.box(150, 37, 10, 10, colour(PREFILL), round_=2)
    sheet.text(165, 46, "the first step with the new request", "muted", size=12)
    for lane, asynchronous in enumerate((False, True)):
        name = "asynchronous" if asynchronous else "synchronous"
        _, notes = watched("five_requests", f"engine.async_scheduling={str(asynchronous).lower()}")
        moments = [m for m in notes.moments if m.end_s > 0.045 and m.start_s < 0.0853]
        y = 98.0 + 82 * lane

        def x(time_s: float) -> float:
            return 22 + (WIDTH - 40) * (time_s - 0.0465) / 0.0375

        sheet.text(16, y - 16, name, bold=True)
        for moment in moments:
            start, end = max(x(moment.start_s), 16), min(x(moment.end_s), WIDTH - 12)
            first = new in moment.prefill
            sheet.box(start, y, end - start - 1.5, 28, colour(PREFILL if first else DECODE), round_=3)
            words = f"{moment.prefill[new]} tokens of its prompt" if first else "decode"
            if end - start > (140 if first else 46):
                sheet.text((start + end) / 2, y + 18.5, words, "on", at="middle", size=12)
        for before, moment in pairwise(moments):
            at = before.start_s if asynchronous else moment.start_s
            if x(at) > 100:
                sheet.down(x(at), y - 3, "muted", 4.5)
        before, decided = next(pair for pair in pairwise(moments) if new in pair[1].prefill)
        if asynchronous:
            at, start = x(before.start_s), x(decided.start_s) + 12
            sheet.line(
                [(at, y - 12), (at, y - 18), (start, y - 18), (start, y - 2)], colour(PREFILL), head=True
            )
        sheet.line([(x(arrival_s), y - 14), (x(arrival_s), y + 40)], colour(QUEUE), line=2)
        sheet.line([(x(arrival_s), y + 40), (x(decided.start_s) - 1, y + 40)], colour(QUEUE), line=2)
        waits_ms = 1e3 * (decided.start_s - arrival_s)
        sheet.text(
            x(decided.start_s) + 5, y + 44, f"waits {waits_ms:.1f} ms", colour(QUEUE), size=12, bold=True
        )
    return sheet.svg()


def stages() -> str:
    """The two schedulers of a cluster."""
    sheet = Canvas(
        250,
        "Two stages of scheduling",
        "Requests reach the global scheduler, which picks an instance for each. In the instance the"
        " local scheduler forms every step from its waiting and running requests, within tokens, seats"
        " and KV blocks.",
    )
    sheet.text(16, 26, "Which instance; then, in which step", bold=True, size=15)
    sheet.text(16, 128, "requests", size=12)
    sheet.line([(16, 138), (74, 138)], "muted", line=1.5, head=True)
    sheet.frame(76, 104, 118, 68, colour(4), round_=6, line=1.5)
    sheet.text(135, 128, "router", at="middle", bold=True)
    sheet.text(135, 145, "global scheduler:", "muted", at="middle", size=12)
    sheet.text(135, 160, "which instance", "muted", at="middle", size=12)
    for number, y in enumerate((48.0, 148.0)):
        sheet.line([(194, 138), (218, 138), (218, y + 44), (234, y + 44)], "muted", line=1.5, head=True)
        sheet.box(238, y, 268, 88, "panel", round_=6)
        sheet.text(248, y + 17, f"instance {number}", "muted", size=12)
        for place in range(3 - number):
            sheet.box(248 + 13 * place, y + 38, 10, 22, colour(QUEUE), round_=2)
        sheet.text(248, y + 83, "waiting", "muted", size=12)
        sheet.line([(289, y + 49), (302, y + 49)], "muted", line=1.5, head=True)
        sheet.frame(304, y + 26, 92, 46, colour(4), round_=6, line=1.5)
        sheet.text(350, y + 45, "local", at="middle", bold=True, size=12)
        sheet.text(350, y + 61, "scheduler", at="middle", bold=True, size=12)
        sheet.line([(396, y + 49), (409, y + 49)], "muted", line=1.5, head=True)
        shades = [PREFILL, DECODE, DECODE, DECODE, DECODE][: 5 - number]
        for place, shade in enumerate(shades):
            sheet.box(412, y + 22 + 10 * place, 84 if shade == PREFILL else 26, 8, colour(shade), round_=2)
        sheet.text(412, y + 83, "the next step", "muted", size=12)
    return sheet.svg()
