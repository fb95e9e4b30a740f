"""What a search found: the best configuration or the Pareto front, what binds there, and what became of all
the others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.explore.answer_files import REPORT_FILE, answer_text
from tokensim.explore.goals import Goal, Kept, dominated, number
from tokensim.explore.key_figures import written
from tokensim.explore.results import RESULTS_FILE, frame_of, write_frame
from tokensim.explore.space import choices_at, size
from tokensim.explore.study import Study
from tokensim.explore.task import Figure
from tokensim.explore.terminal import short_names, shown
from tokensim.explore.trials import Trial
from tokensim.report.atomic import write_atomic, write_bytes

if TYPE_CHECKING:
    import polars as pl

BINDING = 0.1
"""A requirement binds if its figure is within this share of the limit."""


@dataclass(frozen=True)
class Optimum:
    """The answer of a search.

    ``best``: the trials of the front by their first goal, one if there is one goal, none if nothing keeps the
    requirements. ``frame``: one row a run, and one a trial that was not run: ``point`` (the trial), the
    parameters, ``seed``, ``status`` (``pruned``: not run in full), ``rule``, ``error``, ``feasible``,
    ``best`` and the figures. ``complete``: all trials that were asked for were made; ``interrupted``: Ctrl-C
    ended it.
    """

    study: Study
    goals: tuple[Goal, ...]
    kept: tuple[Kept, ...]
    trials: tuple[Trial, ...]
    best: tuple[Trial, ...]
    frame: pl.DataFrame
    complete: bool
    interrupted: bool
    folder: Path | None

    @property
    def runs(self) -> int:
        """Runs made in full, all seeds counted."""
        return sum(len(trial.record.runs) for trial in self.trials)

    @property
    def space(self) -> int | None:
        """Configurations in all; None: endless many."""
        return size(self.study)

    def rules(self) -> dict[str, int]:
        """Trials that were not run in full, by the rule that spared it."""
        return dict(Counter(trial.record.rule for trial in self.trials if trial.record.rule))

    def settings(self, trial: Trial) -> dict[str, bool | int | float | str | None]:
        """The parameters of ``trial``, as a table shows them."""
        choices = choices_at(self.study, trial.place)
        return {p.name: choice.label for p, choice in zip(self.study.parameters, choices, strict=True)}

    def figure(self, trial: Trial, name: str) -> Figure:
        """The mean of a figure over the runs of ``trial``; of what is no number, that of the first."""
        values = [run.figures.get(name) for run in trial.record.runs]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        return sum(numbers) / len(numbers) if values and len(numbers) == len(values) else values[0]

    def binding(self, trial: Trial) -> list[tuple[str, float]]:
        """The requirements that ``trial`` only just keeps, the tightest first: (which, miss: −0.02 is 2 %
        inside)."""
        worst: dict[str, float] = {}
        for run in trial.record.runs:
            for each in self.kept:
                for name, miss in each.told(run.figures):
                    worst[name] = max(miss, worst.get(name, miss))
        return sorted(
            ((name, miss) for name, miss in worst.items() if -BINDING <= miss <= 0), key=lambda item: -item[1]
        )

    def missed(self) -> list[tuple[str, int]]:
        """By how many trials each requirement was missed, the most often first; of those that were run."""
        counts = Counter[str]()
        for trial in self.trials:
            for name in {
                name
                for run in trial.record.runs
                if run.figures
                for each in self.kept
                for name, miss in each.told(run.figures)
                if miss > 0
            }:
                counts[name] += 1
        return counts.most_common()

    def statement(self) -> str:
        """What was found, in a sentence or two."""
        if not self.best:
            return "Nothing that was looked at keeps what is required."
        rest = ", run in full or ruled out" if len(self.trials) > sum(map(_whole, self.trials)) else ""
        of_all = (
            f"all {len(self.trials):,} configurations"
            if self.space == len(self.trials)
            else (f"the {len(self.trials):,} configurations that were looked at")
        )
        if len(self.goals) > 1:
            names = " and ".join(goal.name for goal in self.goals)
            return f"Of {of_all}{rest}, {len(self.best):,} are beaten by no other in {names} at once."
        settings = self.settings(self.best[0])
        paths = list(settings)
        told = ", ".join(f"{t} {shown(settings[n])}" for n, t in zip(paths, short_names(paths), strict=True))
        (goal,) = self.goals
        best = "least" if goal.sign > 0 else "most"
        value = written(goal.figure)(number(self.figure(self.best[0], goal.figure)))
        return f"Of {of_all}{rest}, {told} has the {best} {goal.name}: {value}."

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain data, ready for JSON; the rest is in ``frame``."""
        return {
            "title": self.study.file.name or "Study",
            "statement": self.statement(),
            "goals": [
                {
                    "name": goal.name,
                    "figure": goal.figure,
                    "direction": "minimize" if goal.sign > 0 else "maximize",
                }
                for goal in self.goals
            ],
            "best": [
                {
                    "trial": trial.number,
                    "parameters": self.settings(trial),
                    "goals": {goal.name: self.figure(trial, goal.figure) for goal in self.goals},
                    "binding": dict(self.binding(trial)),
                }
                for trial in self.best
            ],
            "trials": len(self.trials),
            "space": self.space,
            "run_in_full": sum(map(_whole, self.trials)),
            "runs": self.runs,
            "spared": self.rules(),
            "missed": dict(self.missed()),
            "complete": self.complete,
            "interrupted": self.interrupted,
        }

    def save(self) -> None:
        """Write ``results.parquet``, ``report.html``, ``optimum.json`` into the folder, if there is one."""
        from tokensim.explore.optimum_figures import OPTIMUM_ANSWER, OptimumData
        from tokensim.explore.optimum_page import optimum_page

        if self.folder is None:
            return
        frame, text = self.frame, answer_text(self.to_dict())
        page = optimum_page(OptimumData(self.study, json.loads(text), frame))
        write_atomic(self.folder / RESULTS_FILE, lambda file: write_frame(frame, file))
        write_bytes(self.folder / REPORT_FILE, page.encode())
        write_bytes(self.folder / OPTIMUM_ANSWER, f"{text}\n".encode())


def _whole(trial: Trial) -> bool:
    """Whether ``trial`` was run in full."""
    return bool(trial.record.runs)


def optimum_of(
    study: Study,
    goals: tuple[Goal, ...],
    kept: tuple[Kept, ...],
    trials: Sequence[Trial],
    folder: Path | None,
    *,
    complete: bool,
    interrupted: bool,
) -> Optimum:
    """The answer that lies in ``trials``."""
    found = {
        trial.number: trial.record.losses
        for trial in trials
        if trial.record.rule == "" and trial.record.feasible and trial.record.losses is not None
    }
    front = [n for n, losses in found.items() if dominated(losses, found) is None]
    front.sort(key=lambda n: (found[n], n))
    if len(goals) == 1:
        front = front[:1]
    by_number = {trial.number: trial for trial in trials}
    best = tuple(by_number[number] for number in front)
    frame = frame_of(_rows(study, trials, set(front)))
    return Optimum(study, goals, kept, tuple(trials), best, frame, complete, interrupted, folder)


def _rows(study: Study, trials: Sequence[Trial], best: set[int]) -> Iterator[dict[str, Any]]:
    names = [parameter.name for parameter in study.parameters]
    for trial in trials:
        record = trial.record
        head = {
            "point": trial.number,
            **dict(zip(names, (choice.label for choice in choices_at(study, trial.place)), strict=True)),
        }
        verdict = {"rule": record.rule, "feasible": record.feasible, "best": trial.number in best}
        for run in record.runs:
            told = {"seed": run.seed, "status": run.status, "error": run.error or record.error}
            yield {**head, **told, **verdict, **run.figures}
        if not record.runs:
            status = "refused" if record.rule == "refused" else "pruned"
            yield {**head, "seed": None, "status": status, "error": record.error, **verdict}
