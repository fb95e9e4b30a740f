"""The account of a search in the terminal: the best or the front, what binds, what became of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokensim.explore.terminal import short_names, shown
from tokensim.explore.trials import Trial

if TYPE_CHECKING:
    from tokensim.explore.optimum import Optimum

ROWS = 20
"""Of the front that are printed."""

NOT_RUN = {
    "refused": "not possible",
    "late": "ruled out: they cannot keep what is required",
    "worse": "ruled out: they cannot beat what was found",
    "short": "given up after a short run",
    "repeated": "looked at before",
}
"""What is said of trials by rule."""


def print_optimum(answer: Optimum) -> None:
    """Print what ``answer`` found."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    wanted = ", ".join(
        f"{'least' if goal.sign > 0 else 'most'} {goal.name} ({goal.figure})"
        if goal.name != goal.figure
        else f"{'least' if goal.sign > 0 else 'most'} {goal.name}"
        for goal in answer.goals
    )
    console.print(f"[bold]{escape(answer.study.file.name or 'Study')}[/]: {wanted}", soft_wrap=True)
    for line in _account(answer):
        console.print(line, markup=False, soft_wrap=True)
    if not answer.best:
        console.print("\nNothing that was looked at keeps what is required.")
        return
    console.print()
    console.print(_table(answer))
    if len(answer.best) > ROWS:
        console.print(f"… {len(answer.best) - ROWS:,} more; results.parquet has them all, marked best")
    for line in _what_binds(answer):
        console.print(line, markup=False, soft_wrap=True)


def _account(answer: Optimum) -> list[str]:
    space = "endless many" if answer.space is None else f"{answer.space:,}"
    whole = sum(bool(trial.record.runs) for trial in answer.trials)
    lines = [
        f"Looked at {len(answer.trials):,} of {space} configurations; {whole:,} were run in full"
        + (f" ({answer.runs:,} runs)" if answer.runs != whole else "")
    ]
    rules = answer.rules()
    lines += [f"  {rules[rule]:,} {told}" for rule, told in NOT_RUN.items() if rule in rules]
    errors = [trial for trial in answer.trials if any(run.status != "ok" for run in trial.record.runs)]
    if errors:
        lines.append(f"  {len(errors):,} failed, the first: {errors[0].record.error}")
    return lines


def _table(answer: Optimum) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    names = [parameter.name for parameter in answer.study.parameters]
    for name in short_names(names):
        table.add_column(name, overflow="fold")
    figures = list(dict.fromkeys([goal.figure for goal in answer.goals]))
    titles = {goal.figure: goal.name for goal in answer.goals}
    for figure in figures:
        table.add_column(short_names([titles[figure]])[0], justify="right")
    for trial in answer.best[:ROWS]:
        settings = answer.settings(trial)
        cells = [shown(settings[name]) for name in names]
        table.add_row(*cells, *(shown(answer.figure(trial, figure), figure) for figure in figures))
    return table


def _what_binds(answer: Optimum) -> list[str]:
    def told(trial: Trial) -> str:
        binding = answer.binding(trial)
        if not binding:
            return "nothing that is required comes within 10 % of its limit"
        return ", ".join(f"{name} ({-miss:.1%} inside)" for name, miss in binding)

    lines = []
    if len(answer.best) == 1:
        lines.append(f"What binds: {told(answer.best[0])}")
    missed = answer.missed()
    if missed:
        lines.append(
            "Missed by others that were run: " + ", ".join(f"{name} ({count:,})" for name, count in missed)
        )
    return ["", *lines] if lines else []
