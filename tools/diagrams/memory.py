"""A pool of 20 KV blocks over 15 steps, block by block; and the block tables of three prompts that begin
alike."""

from __future__ import annotations

from diagrams.canvas import DECODE, PREFILL, QUEUE, WIDTH, Canvas, colour
from diagrams.runs import Moment, watched

OWNERS = (colour(0), colour(2), colour(4), colour(3))
"""Of requests A, B, C, D."""


def pool() -> str:
    """A column a step, a row a block: who holds it, or whose KV it still has."""
    result, notes = watched("narrow_budget")
    blocks, left, top, wide, high = result.log.num_blocks[0], 64.0, 78.0, 29.6, 12.5
    sheet = Canvas(
        top + high * blocks + 34,
        "Who holds which KV block, step by step",
        f"{blocks} blocks of 4 tokens over {len(notes.moments)} steps. Blocks of a request lie anywhere."
        " Freed blocks keep what they cache until somebody needs them, so that a preempted request finds"
        " its own again.",
    )
    sheet.text(16, 26, f"{blocks} blocks of 4 tokens", bold=True, size=15)
    sheet.legend(16, 50, [(owner, f"held by {name}") for owner, name in zip(OWNERS, "ABCD", strict=True)])
    sheet.frame(398, 40.5, 10, 10, "muted", round_=2, line=1.5)
    sheet.text(413, 50, "free, still cached", "muted", size=12)
    last: dict[int, int] = {}
    for column, moment in enumerate(notes.moments):
        x = left + wide * column
        held = {block: owner for owner, ids in moment.blocks.items() for block in ids}
        last |= held
        for block in range(1, blocks + 1):
            y = top + high * (block - 1)
            if block in held:
                sheet.box(x, y, wide - 2, high - 1.5, OWNERS[held[block]], round_=2)
            elif block in moment.cached:
                sheet.frame(x, y, wide - 2, high - 1.5, OWNERS[last[block]], round_=2, line=1.5)
            else:
                sheet.box(x, y, wide - 2, high - 1.5, "panel", round_=2)
        for request in moment.preempted:
            sheet.text(
                x + wide / 2,
                top - 6,
                f"{'ABCD'[request]} out",
                colour(QUEUE),
                size=11,
                at="middle",
                bold=True,
            )
        sheet.text(x + wide / 2 - 1, top + high * blocks + 14, f"{column + 1}", "muted", size=12, at="middle")
    sheet.text(left - 8, top + 11, "block 1", "muted", size=12, at="end")
    sheet.text(left - 8, top + high * blocks - 3, f"{blocks}", "muted", size=12, at="end")
    sheet.text(left - 8, top + high * blocks + 14, "step", "muted", size=12, at="end")
    return sheet.svg()


def tables() -> str:
    """The block table of each request at its first step: what it computes, what it finds."""
    result, notes = watched("shared_prompts")
    sheet = Canvas(
        276,
        "Block tables of three prompts that begin alike",
        "Each row lists the physical blocks of a request. B holds the same first blocks as A while both"
        " run. C comes when A has finished, and finds the blocks that A computed still cached.",
    )
    sheet.text(16, 26, "Three prompts that begin alike", bold=True, size=15)
    entries = [(PREFILL, "computed"), (DECODE, "found: shared, or left in the cache")]
    sheet.legend(16, 50, [(colour(number), words) for number, words in entries])
    left, wide = 190.0, 60.0
    for row, r in enumerate(result.requests.iter_rows(named=True)):
        y = 72 + 66 * row
        moment = next(m for m in notes.moments if row in m.prefill)
        found = r["cached_tokens"] // 4
        sheet.text(16, y + 17, f"{'ABC'[row]}: {r['input_tokens']} tokens", bold=True)
        sheet.text(
            16, y + 34, f"{r['cached_tokens']} found, {moment.prefill[row]} computed", "muted", size=12
        )
        for place, block in enumerate(moment.blocks[row]):
            x = left + (wide + 4) * place
            sheet.box(x, y, wide, 38, colour(DECODE if place < found else PREFILL), round_=4)
            sheet.text(x + wide / 2, y + 24, f"block {block}", "on", at="middle")
        if row:
            before = {block: place for place, block in enumerate(_first_table(notes.moments, 0))}
            for place, block in enumerate(moment.blocks[row][:found]):
                x = left + (wide + 4) * place + wide / 2
                assert before[block] == place
                sheet.line([(x, y - 26), (x, y - 3)], colour(DECODE), line=1.5, head=True)
    sheet.text(WIDTH - 14, 265, "block tables of the first step of each", "muted", size=12, at="end")
    return sheet.svg()


def _first_table(moments: list[Moment], request: int) -> tuple[int, ...]:
    """The blocks of ``request`` in its first step."""
    return next(m.blocks[request] for m in moments if request in m.prefill)
