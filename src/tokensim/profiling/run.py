"""One command's worth of measuring: plan, measure, write; whatever ends it, what was measured is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokensim.profiling.bench import Bench, Rates
from tokensim.profiling.output import profile_of, write
from tokensim.profiling.plan import Plan
from tokensim.profiling.session import Estimates, Outcome, Progress, Session
from tokensim.profiling.store import STORE_FILE, Store
from tokensim.profiling.timing import Policy


@dataclass(frozen=True, slots=True)
class Request:
    """What to do: ``target`` is the error of interpolation that is good enough, ``budget_s`` the time for it
    (0: no bound), ``base`` a device of the catalog whose price, power and links the device file keeps."""

    folder: Path
    target: float = 0.05
    budget_s: float = 0.0
    resume: bool = False
    base: str | None = None
    cache: str = "cold"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a plan comes to before anything is measured: shapes of the coarse grid and seconds for them, by
    kind; ``about_s``: with the refinement, which is not known before."""

    kinds: Mapping[str, tuple[int, float]]
    rates: Rates

    @property
    def coarse_s(self) -> float:
        """Seconds of the coarse grid."""
        return sum(seconds for _, seconds in self.kinds.values())

    @property
    def about_s(self) -> float:
        """Seconds with refinement and checks: they take as many shapes again (``REFINED``)."""
        return self.coarse_s * (1.0 + REFINED)


REFINED = 0.6
"""Shapes that refinement and checks add, for each of the coarse grid: 0.53 to 0.60 on a device that is a
perfect roofline, at an error of 5 % (a test measures it); real kernels bend more often."""


def expected(bench: Bench, plan: Plan, policy: Policy, cache: str) -> Expectation:
    """What ``plan`` takes on ``bench``, from a quick measurement of its rates."""
    estimates = Estimates(bench.rates(), policy, cold=cache != "hot")
    times = 2.0 if cache == "both" else 1.0
    kinds: dict[str, tuple[int, float]] = {}
    for shape in plan.coarse():
        count, seconds = kinds.get(shape.kind, (0, 0.0))
        kinds[shape.kind] = count + 1, seconds + times * estimates.seconds(shape)
    return Expectation(kinds, bench.rates())


def measure(
    bench: Bench,
    plan: Plan,
    request: Request,
    policy: Policy,
    progress: Callable[[Progress], None] | None = None,
    told: Callable[[], Mapping[str, str]] | None = None,
) -> tuple[Outcome, list[Path]]:
    """Measure ``plan`` and write the tables and the device file; the outcome, and the files.

    ``told`` is asked at the end for what joins the provenance. Ctrl-C ends it early, as the end of the budget
    does. Raises ``InputError`` for a folder that holds other measurements.
    """
    began = time.monotonic()
    with Store(request.folder / STORE_FILE, bench.facts.identity, resume=request.resume) as store:
        rates = bench.rates()
        session = Session(
            bench,
            plan,
            store,
            target=request.target,
            budget_s=request.budget_s,
            estimates=Estimates(rates, policy, cold=request.cache != "hot"),
            progress=progress,
            began=began,
        )
        outcome: Outcome | None = None
        with contextlib.suppress(KeyboardInterrupt):
            outcome = session.run()
        if outcome is None:
            outcome = session.outcome("interrupted")
        extra = dict(told()) if told is not None else {}
        if throttled := bench.throttled():
            extra["throttled"] = ", ".join(f"{why} ({count} times)" for why, count in throttled.items())
        if rates.failed:
            extra["not measured"] = "; ".join(f"{what}: {why}" for what, why in rates.failed.items())
        extra["host launch"] = f"{1e6 * rates.launch_s:.2f} us a kernel"
        records = list(store.records.values())
        profile = profile_of(records, bench.facts, plan.what, outcome, extra)
        return outcome, write(request.folder, profile, records, bench.facts, rates, request.base)
