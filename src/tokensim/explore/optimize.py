"""``optimize``: the configuration that does best by a study's goals among those that keep its requirements.

A space with no more places than trials is searched whole, the most promising first; a larger one by a
sampler that learns from what it has seen (tree-structured Parzen estimator: Bergstra et al., NeurIPS 2011,
with constraints and several goals as optuna has it). Before a configuration is run it must be possible, and
nothing may be known that rules it out: the cheapest test comes first (see ``examine`` and ``bounds``).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.errors import InputError
from tokensim.explore.examine import Prospect, examine, short_is_late
from tokensim.explore.executors import Executor, make_executor
from tokensim.explore.goals import Goal, Kept, dominated
from tokensim.explore.space import Place, choices_at, distributions, every, size
from tokensim.explore.study import Study
from tokensim.explore.sweep import keep_study, make_folder
from tokensim.explore.task import Outcome, Task
from tokensim.explore.trials import HOPELESS, STORAGE_FILE, Record, Run, Trials, storage_url
from tokensim.explore.wants import wants_of

if TYPE_CHECKING:
    from tokensim.explore.optimum import Optimum

TRIALS = 100

Progress = Callable[[int, int, int], None]
"""Called with (trials done, of these not feasible, trials in all) after each."""


def optimize(
    study: Study,
    folder: str | Path | None = None,
    *,
    trials: int = TRIALS,
    timeout_s: float | None = None,
    storage: str | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    prune: bool = True,
    progress: Progress | None = None,
) -> Optimum:
    """Search the parameters of ``study`` for what is best by its ``goals`` under ``subject_to``.

    Looks at ``trials`` configurations, for ``timeout_s`` seconds at most (of this process's time; what runs
    is finished). ``folder`` (made if absent) takes ``trials.sqlite``, where each trial is durable as soon as
    it is done, ``study.yaml``, and ``results.parquet`` at the end. ``storage`` is the URL of a database
    instead, which several processes may share. ``resume``: go on with the trials there are. ``prune``: leave
    out runs of which it is known that they cannot be the answer. Ctrl-C ends it early.

    Equal studies make equal trials, wherever they run, with as many runs at a time and no ``storage``.
    Raises ``InputError``.
    """
    from tokensim.explore.optimum import optimum_of

    if trials < 1:
        raise InputError(f"{trials} trials", where="--trials", hint="at least 1")
    if find_spec("optuna") is None:
        raise InputError("optuna is not installed", where="optimize", hint="pip install 'tokensim[search]'")
    executor = executor or make_executor()
    search = _Search(study, executor, trials, prune, progress, shared=storage is not None)
    place = None if folder is None else Path(folder)
    with ExitStack() as stack:
        if place is not None:
            make_folder(place, STORAGE_FILE, resume=resume)
            keep_study(place, study)
        if storage is None and place is not None:
            storage = storage_url(place)
        search.trials = stack.enter_context(
            Trials(
                search.goals,
                distributions(study),
                storage=storage,
                name=study.file.name or "study",
                identity=_identity(study),
                seed=study.file.seed,
                resume=resume,
                shared=search.shared,
            )
        )
        search.run(timeout_s)
        answer = optimum_of(
            study,
            search.goals,
            search.kept,
            search.trials.told(),
            place,
            complete=search.done >= search.total,
            interrupted=search.interrupted,
        )
        answer.save()
        return answer


@dataclass
class _Search:
    study: Study
    executor: Executor
    wanted: int
    prune: bool
    progress: Progress | None
    shared: bool
    goals: tuple[Goal, ...] = ()
    kept: tuple[Kept, ...] = ()
    trials: Trials = field(init=False)
    front: dict[int, tuple[float, ...]] = field(default_factory=dict)
    seen: dict[str, Record] = field(default_factory=dict)
    known: dict[str, tuple[list[Task], Prospect]] = field(default_factory=dict)
    done: int = 0
    bad: int = 0
    total: int = 0
    interrupted: bool = False

    def __post_init__(self) -> None:
        file = self.study.file
        self.goals, self.kept = wants_of(self.study)
        if file.method != "grid":
            raise InputError(
                f"method {file.method}", where="study: method", hint="leave it out: a search chooses itself"
            )

    def run(self, timeout_s: float | None) -> None:
        """Search until there is nothing left to look at, the time is up, or Ctrl-C."""
        for trial in self.trials.told():
            self._note(trial.number, trial.place, trial.record)
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        space = size(self.study)
        whole = space is not None and space <= self.wanted and not self.shared
        left = self._in_order() if whole else []
        places = iter(left) if whole else None
        total = self.total = self.done + len(left) if whole else self.wanted
        try:
            while self.done < total and time.monotonic() < until:
                if not self._batch(places, total):
                    break
        except KeyboardInterrupt:
            self.interrupted = True

    def _in_order(self) -> list[Place]:
        """All places that were not looked at, those that promise most by the first goal first."""
        promising: list[tuple[float, int, Place]] = []
        for index, place in enumerate(every(self.study)):
            if _key(place) not in self.seen:
                least = -math.inf
                if self.prune:
                    known = self.known[_key(place)] = self._examined(place)
                    least = known[1].least_loss(self.goals[0])
                promising.append((least, index, place))
        return [place for _, _, place in sorted(promising, key=lambda entry: entry[:2])]

    def _examined(self, place: Place) -> tuple[list[Task], Prospect]:
        """The runs of ``place`` and what is known of them; asked twice at most."""
        known = self.known.pop(_key(place), None)
        if known is None:
            tasks = self.study.tasks(choices_at(self.study, place), 0)
            known = tasks, examine(tasks, self.kept)
        return known

    def _batch(self, places: Iterator[Place] | None, total: int) -> bool:
        """As many trials as run at a time, and those on the way that need no run. Returns whether there were
        any. What is asked for depends on what was told before, never on which run ended first."""
        running: dict[int, tuple[Place, list[Task], Prospect]] = {}
        twins: list[tuple[int, Place]] = []
        some = False
        while (
            len(running) < getattr(self.executor, "jobs", 1) and self.done + len(running) + len(twins) < total
        ):
            place = None
            if places is not None:
                place = next(places, None)
                if place is None:
                    break
            number, place = self.trials.ask(place)
            some = True
            again = self.seen.get(_key(place))
            if again is None and any(_key(place) == _key(other) for other, _, _ in running.values()):
                twins.append((number, place))
            elif again is not None:
                self._tell(number, place, again.again())
            else:
                tasks, prospect = self._examined(place)
                record = self._ruled_out(prospect)
                if record is None:
                    running[number] = place, tasks, prospect
                else:
                    self._tell(number, place, record)
        if self.prune:
            self._try_short(running)
        self._run_whole(running)
        for number, place in twins:
            self._tell(number, place, self.seen[_key(place)].again())
        return some

    def _ruled_out(self, prospect: Prospect) -> Record | None:
        """The record of a configuration that needs no run; None: it needs one."""
        if prospect.error is not None:
            return Record("refused", prospect.error, HOPELESS, None)
        if not self.prune:
            return None
        missed = prospect.misses(self.kept)
        if missed is not None:
            return Record("late", f"no run could keep {missed}", HOPELESS, None)
        least = tuple(prospect.least_loss(goal) for goal in self.goals)
        better = dominated(least, self.front)
        if better is not None:
            return Record("worse", f"cannot do as well as trial {better}", 0.0, least)
        return None

    def _try_short(self, running: dict[int, tuple[Place, list[Task], Prospect]]) -> None:
        """Take those out whose first requests alone miss the SLO."""
        short = {
            number: prospect.short
            for number, (_, _, prospect) in running.items()
            if prospect.short is not None
        }
        late: dict[int, str] = {}
        for outcome in self.executor.run([Task(number, task.data) for number, task in short.items()]):
            missed = short_is_late(outcome.figures, running[outcome.key][2])
            if missed is not None:
                late[outcome.key] = missed
        for number in sorted(late):
            place, _, _ = running.pop(number)
            record = Record("short", f"the first requests miss {late[number]} already", HOPELESS, None)
            self._tell(number, place, record)

    def _run_whole(self, running: dict[int, tuple[Place, list[Task], Prospect]]) -> None:
        """Run what is left, and tell it in the order in which it was asked for."""
        runs: dict[int, dict[int, Outcome]] = {number: {} for number in running}
        tasks: list[Task] = []
        where: dict[int, tuple[int, int]] = {}
        for number, (_, own, _) in running.items():
            for repeat, task in enumerate(own):
                where[len(tasks)] = number, repeat
                tasks.append(Task(len(tasks), task.data))
        for outcome in self.executor.run(tasks) if tasks else ():
            number, repeat = where[outcome.key]
            runs[number][repeat] = outcome
        for number, (place, own, _) in running.items():
            made = [
                Run(int(task.data["seed"]), outcome.status, outcome.error, outcome.figures)
                for task, outcome in ((own[repeat], runs[number][repeat]) for repeat in sorted(runs[number]))
            ]
            self._tell(number, place, self._judged(made))

    def _judged(self, runs: Sequence[Run]) -> Record:
        """The mean of what the goals lose, and the worst miss, over the seeds."""
        failed = next((run for run in runs if run.status != "ok"), None)
        if failed is not None:
            return Record("", failed.error, HOPELESS, None, tuple(runs))
        losses = tuple(sum(goal.loss(run.figures) for run in runs) / len(runs) for goal in self.goals)
        missed = max((max(0.0, each.miss(run.figures)) for run in runs for each in self.kept), default=0.0)
        lacking = [
            goal.name for goal, loss in zip(self.goals, losses, strict=True) if not math.isfinite(loss)
        ]
        if lacking:
            return Record("", f"no figure for {', '.join(lacking)}", HOPELESS, None, tuple(runs))
        return Record("", None, missed, losses, tuple(runs))

    def _tell(self, number: int, place: Place, record: Record) -> None:
        self.trials.tell(number, record)
        self._note(number, place, record)
        if self.progress is not None:
            self.progress(self.done, self.bad, self.total)

    def _note(self, number: int, place: Place, record: Record) -> None:
        """Remember what ``record`` means for what comes."""
        self.done += 1
        self.bad += not record.feasible
        if record.rule != "repeated":
            self.seen[_key(place)] = record
        if record.rule == "" and record.feasible and record.losses is not None:
            losses = record.losses
            if dominated(losses, self.front) is None:
                self.front = {n: o for n, o in self.front.items() if dominated(o, {number: losses}) is None}
                self.front[number] = losses


def _key(place: Place) -> str:
    return json.dumps(dict(place), sort_keys=True)


def _identity(study: Study) -> str:
    """What tells this search from every other: the study without its texts, and the version."""
    from tokensim import __version__

    data = study.file.model_dump(mode="json", exclude={"name", "description", "scenario"})
    text = json.dumps([__version__, data, study.base.data], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
