"""The operators of two steps, by time and by what binds them; and who knows the time of an operator."""

from __future__ import annotations

from diagrams.canvas import DECODE, WIDTH, Canvas, colour
from diagrams.runs import EXAMPLES
from tokensim.cost.explain import explain, parse_step
from tokensim.model import load_model
from tokensim.plan import plan_pool
from tokensim.report.figures.theme import BOUNDS
from tokensim.scenario.loading import load_scenario

STEPS = ("decode=64@1024", "prefill=2048")
SHOWN = 6


def operators() -> str:
    """Two steps of Llama-3.1-8B on an H100, operator by operator."""
    scenario = load_scenario(EXAMPLES / "quickstart.yaml", ("performance.operators=builtin",))
    cost = plan_pool(scenario, 0, load_model(scenario.model)).cost
    sheet = Canvas(
        58 + len(STEPS) * (36 + 21 * (SHOWN + 1)),
        "Where the time of a step goes",
        "Two steps: 64 requests decode, and a prompt of 2,048 tokens. Decoding is bound by memory: it"
        " reads all weights and contexts for 64 tokens. The prompt is bound by arithmetic.",
    )
    sheet.text(16, 26, "Two steps of Llama-3.1-8B on an H100", bold=True, size=15)
    sheet.legend(
        16, 50, [(colour(BOUNDS.index(bound)), f"bound by {bound}") for bound in ("compute", "memory")]
    )
    y = 82.0
    for text in STEPS:
        step = explain(cost, parse_step([text]))
        sheet.text(16, y, text, bold=True)
        sheet.text(WIDTH - 16, y, f"{1e3 * step.step_s:.1f} ms", at="end", bold=True)
        ordered = sorted(step.operators, key=lambda operator: -operator.seconds)
        longest = ordered[0].seconds
        rest = sum(operator.seconds for operator in ordered[SHOWN:])
        rows = [(o.operator, o.seconds, colour(BOUNDS.index(o.bound))) for o in ordered[:SHOWN]]
        for name, seconds, shade in [*rows, (f"{len(ordered) - SHOWN} others", rest, "muted")]:
            y += 21
            sheet.text(122, y, name, "muted", at="end")
            sheet.box(130, y - 11, 290 * seconds / longest, 13, shade, round_=2)
            sheet.text(138 + 290 * seconds / longest, y, f"{seconds / step.step_s:.0%}", "muted", size=12)
        y += 36
    return sheet.svg()


def sources() -> str:
    """From the model to the time of a step."""
    sheet = Canvas(
        366,
        "From the model to the time of a step",
        "Model, parallel plan and engine give a list of operators with shapes. Measured tables, the"
        " fitted model and the roofline are asked in this order. The sum over operators, exchanges"
        " between devices included, and the host time that the device does not hide make the step.",
    )

    def part(x: float, y: float, width: float, head: str, words: str, shade: str = "muted") -> None:
        sheet.frame(x, y, width, 46, shade, round_=6, line=1.5)
        sheet.text(x + width / 2, y + 19, head, at="middle", bold=True)
        sheet.text(x + width / 2, y + 36, words, "muted", at="middle", size=12)

    sheet.text(16, 26, "From the model to the time of a step", bold=True, size=15)
    part(
        16,
        44,
        488,
        "model × parallel plan × the step's tokens",
        "operators with shapes: GEMMs, attention, experts, collectives …",
    )
    sheet.line([(260, 90), (260, 112)], "muted", line=1.5, head=True)
    sheet.text(16, 130, "the first source that knows the operator", "muted", size=12)
    for place, (head, words) in enumerate(
        [
            ("measured table", "exact, or interpolated"),
            ("fitted model", "fitted to such tables"),
            ("roofline", "peaks and bandwidths"),
        ]
    ):
        part(16 + 168 * place, 140, 152, head, words, colour(0))
        if place < 2:
            sheet.line([(169 + 168 * place, 163), (182 + 168 * place, 163)], "muted", line=1.5, head=True)
    sheet.line([(92, 186), (92, 212)], "muted", line=1.5, head=True)
    sheet.line([(260, 186), (260, 212)], "muted", line=1.5, head=True)
    sheet.line([(428, 186), (428, 212)], "muted", line=1.5, head=True)
    part(
        16,
        214,
        488,
        "sum over operators",
        "device time; each part keeps its source, bound, FLOPs and bytes",
        colour(DECODE),
    )
    sheet.line([(260, 260), (260, 284)], "muted", line=1.5, head=True)
    part(
        16,
        286,
        488,
        "+ host time that the device does not hide",
        "asynchronous: what is longer than the device; synchronous: all of it",
    )
    sheet.text(260, 354, "= the time of the step", at="middle", bold=True)
    return sheet.svg()
