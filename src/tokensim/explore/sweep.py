"""``sweep``: run every point of a study, wherever there is room, and keep each as soon as it is done."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tokensim.errors import InputError
from tokensim.explore.executors import Executor, make_executor
from tokensim.explore.results import frame_of, rows_of, write_results
from tokensim.explore.store import STORE_FILE, Store
from tokensim.explore.study import STUDY_FILE, Study, digest
from tokensim.explore.task import Task
from tokensim.explore.wants import wants_of
from tokensim.report.atomic import write_atomic, write_bytes
from tokensim.scenario import yaml_text

if TYPE_CHECKING:
    import polars as pl


REPORT_FILE = "report.html"

Progress = Callable[[int, int, int], None]
"""Called with (points done, of these not ok, points in all) after each."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What came of a study. ``frame``: one row a run, see ``tokensim.explore.results``; ``counts``: runs by
    status; ``reused``: runs that were there before; ``complete``: every point has a row."""

    study: Study
    frame: pl.DataFrame
    counts: dict[str, int]
    reused: int
    folder: Path | None

    @property
    def complete(self) -> bool:
        """Whether every point has a row."""
        return len(self.frame) == len(self.study)

    def to_dict(self) -> dict[str, Any]:
        """The account of it as plain data, ready for JSON; the figures are in ``frame``. ``best``: of a study
        with goals, the best configurations, by their first points; ``extremes``: the best configuration by
        each key figure that varies and has a better and a worse."""
        from tokensim.explore.extremes import extremes
        from tokensim.explore.key_figures import KEY_FIGURES
        from tokensim.explore.wants import best_points

        file, names = self.study.file, [parameter.name for parameter in self.study.parameters]

        def at(point: int) -> dict[str, Any]:
            choices = self.study.point(point).choices
            labels = {name: choice.label for name, choice in zip(names, choices, strict=True)}
            return {"point": point, "parameters": labels}

        found = extremes(self, [figure.name for figure in KEY_FIGURES if figure.better])
        best = best_points(self.study, self.frame.iter_rows(named=True)) if file.goals else []
        return {
            "title": file.name or "Study",
            "points": len(self.study),
            "counts": dict(sorted(self.counts.items())),
            "reused": self.reused,
            "complete": self.complete,
            "goals": [dict(goal) for goal in file.goals],
            "best": [at(point) for point in best],
            "extremes": {
                one.figure: {"best": "most" if one.most else "least", "value": one.best, **at(one.point)}
                for one in found
            },
        }


def sweep(
    study: Study,
    folder: str | Path | None = None,
    *,
    executor: Executor | None = None,
    resume: bool = False,
    retry: bool = False,
    progress: Progress | None = None,
) -> SweepResult:
    """Run the points of ``study``; those that fail say why in their row, and the rest goes on.

    ``folder`` (made if absent) takes ``points.sqlite``, where each run is durable as soon as it is done,
    ``study.yaml``, and ``results.parquet`` and ``report.html`` at the end; None: nothing is kept.
    ``resume``: runs that the folder holds already are not made again; with ``retry``, those that failed are.
    Ctrl-C ends it early, with the table of what is there. Raises ``InputError``.
    """
    executor = executor or make_executor()
    if study.file.method != "random":
        study.check_steps()
    if study.file.goals:
        wants_of(study)
    with ExitStack() as stack:
        if folder is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokensim-")))
        else:
            place = Path(folder)
            make_folder(place, STORE_FILE, resume=resume)
            keep_study(place, study)
        store = stack.enter_context(Store(place / STORE_FILE))
        reused = _run(study, store, executor, retry, progress)
        if folder is None:
            frame = frame_of(rows_of(study, store.outcomes()))
            return SweepResult(study, frame, store.counts(), reused, None)

        import polars as pl

        from tokensim.explore.page import study_page
        from tokensim.explore.study_data import StudyData

        frame = pl.read_parquet(write_results(place, study, store.outcomes))
        write_bytes(place / REPORT_FILE, study_page(StudyData(study, frame)).encode())
        return SweepResult(study, frame, store.counts(), reused, place)


def _run(study: Study, store: Store, executor: Executor, retry: bool, progress: Progress | None) -> int:
    """Run what ``store`` does not hold; returns how many it held."""
    total, in_hand = len(study), dict[str, int]()
    reused = repeated = made = bad = 0
    digests: dict[int, str] = {}

    def missing() -> Iterator[Task]:
        nonlocal reused, repeated
        for point in study:
            task = study.task(point)
            name = digest(task)
            if store.claim(name, point.index, retry=retry):
                reused += 1
            elif name in in_hand:  # the same run once more
                repeated += 1
            else:
                in_hand[name] = point.index
                digests[point.index] = name
                yield task

    try:
        for outcome in executor.run(missing()):
            name = digests.pop(outcome.key)
            store.add(name, outcome)
            del in_hand[name]
            made += 1
            bad += outcome.status != "ok"
            if progress is not None:
                progress(reused + repeated + made, bad, total)
    except KeyboardInterrupt:
        pass
    return reused


def make_folder(folder: Path, store: str, *, resume: bool) -> None:
    """Make ``folder``; refuse one with a ``store`` of results which nobody asked to go on from."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made: {error.strerror or error}", where=str(folder), hint="give another --output"
        ) from None
    if (folder / store).exists() and not resume:
        raise InputError(
            "the folder holds the runs of a study",
            where=str(folder),
            hint="--resume goes on from them; or give another folder with --output",
        )


def keep_study(folder: Path, study: Study) -> None:
    """Leave the study in ``folder``, with the scenario inside, so that it can be repeated from there."""
    text = yaml_text.dump(study.to_dict()).encode()

    def write(file: IO[bytes]) -> None:
        file.write(text)

    write_atomic(folder / STUDY_FILE, write)
