"""The trials of a search, kept where other processes and a later one find them: an optuna study.

Every trial has a record: what became of it, by which rule, and the outcomes of its runs. It is durable once
it is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from tokensim.errors import InputError
from tokensim.explore.goals import Goal
from tokensim.explore.space import Place
from tokensim.explore.task import Figure, Status

if TYPE_CHECKING:
    import optuna

STORAGE_FILE = "trials.sqlite"
STARTUP = 10
"""Trials drawn at random before the sampler learns from them (optuna's default)."""

HOPELESS = 1e6
"""What a trial without figures misses the requirements by."""

Rule = Literal["", "refused", "late", "worse", "short", "repeated"]
"""Why a trial was not run in full: ``refused``: the plan cannot be; ``late``: a bound says that it misses a
requirement; ``worse``: a bound says that it is worse than one that was found; ``short``: a short run misses
the SLO by far already; ``repeated``: it was looked at before."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a trial."""

    seed: int
    status: Status
    error: str | None
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a trial. ``losses``: of each goal, the smaller the better (None: unknown); ``missed``:
    by what share it misses requirements, 0: by none."""

    rule: Rule
    error: str | None
    missed: float
    losses: tuple[float, ...] | None
    runs: tuple[Run, ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether it was run, and keeps to everything."""
        return self.rule in ("", "repeated") and self.losses is not None and self.missed <= 0

    def again(self) -> Record:
        """The record of another trial at the same place."""
        return Record("repeated" if self.rule == "" else self.rule, self.error, self.missed, self.losses)


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration that was looked at."""

    number: int
    place: Place
    record: Record


class Trials:
    """The trials of a search for ``goals``. ``storage``: a database's URL (None: kept in memory only).

    Use it in a ``with`` block. ``resume``: go on with those that it holds; else it must hold none, unless
    ``shared``. ``identity`` tells searches apart. Raises ``InputError``.
    """

    def __init__(
        self,
        goals: Sequence[Goal],
        space: Mapping[str, optuna.distributions.BaseDistribution],
        *,
        storage: str | None,
        name: str,
        identity: str,
        seed: int,
        resume: bool,
        shared: bool,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._goals = dict(space), tuple(goals)
        self._open: dict[int, optuna.Trial] = {}
        self._base: optuna.storages.RDBStorage | None = None
        try:
            kept = self._base = None if storage is None else _database(storage)
            self._study = optuna.create_study(
                storage=kept,
                directions=["minimize"] * len(self._goals),
                study_name=name,
                load_if_exists=resume or shared,
            )
            before = self._study.user_attrs.get("identity", identity)
            self._study.set_user_attr("identity", identity)
            known = len(self._study.trials)
        except optuna.exceptions.DuplicatedStudyError:
            raise InputError(
                "holds a search already",
                where=str(storage),
                hint="--resume goes on from it; or give another folder with --output",
            ) from None
        except Exception as error:  # whatever the database's driver raises
            raise InputError(
                f"cannot be used: {' '.join(str(error).split())}",
                where=str(storage),
                hint="e.g. --storage sqlite:///search.sqlite",
            ) from None
        if before != identity:
            raise InputError(
                "holds another search", where=str(storage), hint="give another folder with --output"
            )
        if resume and not shared:
            for trial in self._study.trials:  # what was in flight when the process ended
                if not trial.state.is_finished():
                    self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        self._study.sampler = optuna.samplers.TPESampler(
            # The same seed again would draw the same places again, after a start and beside another process.
            seed=None if shared else seed + known,
            n_startup_trials=STARTUP,
            multivariate=True,
        )

    def __enter__(self) -> Trials:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_up()
        if self._base is not None:
            self._base.remove_session()
            self._base.engine.dispose()

    def ask(self, place: Place | None = None) -> tuple[int, Place]:
        """A new trial, at ``place`` or where the sampler wants it: its number, its place."""
        if place is not None:
            self._study.enqueue_trial(dict(place))
        trial = self._study.ask(self._space)
        self._open[trial.number] = trial
        return trial.number, dict(trial.params)

    def tell(self, number: int, record: Record) -> None:
        """Keep what became of trial ``number``."""
        trial = self._open.pop(number)
        trial.set_user_attr("record", json.dumps(asdict(record)))
        # A sampler must not take what has no figures for good: it is as far out of bounds as anything is.
        trial.set_constraint("missed", record.missed)
        losses = record.losses or (0.0,) * len(self._goals)
        self._study.tell(trial, list(losses))

    def _give_up(self) -> None:
        """End the trials that were asked for and never told: nobody runs them any more."""
        import optuna

        for trial in self._open.values():
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        self._open.clear()

    def told(self) -> list[Trial]:
        """All trials that have a record, of all who share the storage, by number."""
        return [
            Trial(trial.number, trial.params, _record(trial.user_attrs["record"]))
            for trial in self._study.get_trials(deepcopy=False)
            if "record" in trial.user_attrs and trial.state.is_finished()
        ]


def _database(url: str) -> optuna.storages.RDBStorage:
    """The database at ``url``. In SQLite, a commit survives the end of the process at any time; none waits
    for the disk: the end of the machine may cost the last few."""
    import optuna
    from sqlalchemy import event

    base = optuna.storages.RDBStorage(url)
    if base.engine.dialect.name == "sqlite":

        def begin(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        event.listen(base.engine, "connect", begin)
        base.remove_session()
        base.engine.dispose()  # connections from before
    return base


def _record(text: str) -> Record:
    data: dict[str, Any] = json.loads(text)
    runs = tuple(Run(**run) for run in data.pop("runs"))
    losses = data.pop("losses")
    return Record(**data, losses=None if losses is None else tuple(losses), runs=runs)


def storage_url(folder: Path) -> str:
    """The database of a search in ``folder``."""
    return f"sqlite:///{(folder / STORAGE_FILE).absolute()}"
