"""A case replayed: the measured requests sent again, to the simulated system, and both sides' times paired.

Requests are sent when the client meant to send them, under its cap on requests in flight: a closed loop stays
a closed loop. Times count from the case's anchor on both sides. Where the client measured, simulated times
are those delivered to it (front end on); where the engine measured, those of the engine (front end off), from
when its core took the request in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tokensim.errors import SimulationError
from tokensim.scenario.loading import Document
from tokensim.validation.case import Case, Measured
from tokensim.validation.over_time import OverTime, is_recorded, over_time_of
from tokensim.workload.base import Floats, Ints

if TYPE_CHECKING:
    from tokensim.assemble import Result
    from tokensim.cost.calibration import Calibration
    from tokensim.scenario import Scenario

Progress = Callable[[float, int, int], None]


@dataclass(frozen=True, slots=True)
class Times:
    """Times of one side, seconds, an entry a request: NaN where it has none (TPOT of a single output token).

    ``output_tokens_per_s`` is all output tokens over the makespan, from the first anchor to the last finish.
    """

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    output_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Replay:
    """Both sides of one case, entry by entry the same request; ``notes`` say what does not pair,
    ``over_time`` are quantities over time, where they were asked for and the case has them."""

    case: Case
    measured: Times
    simulated: Times
    notes: tuple[str, ...]
    over_time: tuple[OverTime, ...] = ()


def document_of(case: Case, overrides: Sequence[str] = (), operators: str | None = None) -> Document:
    """The scenario that replays ``case``, with ``overrides`` (``path=value``) and then ``operators`` on
    top."""
    tree: dict[str, Any] = {**case.tree}
    trace: dict[str, Any] = {"path": str(case.trace), "format": "generic"}
    if case.facts.hash_block_size is not None:
        trace["hash_block_tokens"] = case.facts.hash_block_size
    if case.facts.client.sessions:
        trace["sessions"] = True
    tree["workload"] = {"trace": trace, "max_in_flight": case.facts.client.max_in_flight}
    if isinstance(tree.get("performance", {}), dict):
        seen_by_client = case.facts.anchor == "client-send"
        front_end = {"front_end": "on" if seen_by_client else "off"}
        tree["performance"] = {**front_end, **tree.get("performance", {})}
    document = Document(tree, str(case.file), dict(case.origins))
    for override in overrides:
        document.override(override)
    if operators is not None:
        document.set(("performance", "operators"), operators, f"--operators {operators}")
    return document


def replay(
    case: Case,
    scenario: Scenario,
    calibration: Calibration | None = None,
    progress: Progress | None = None,
    *,
    over_time: bool = False,
) -> Replay:
    """Simulate ``scenario`` (of ``document_of``) and pair it with what ``case`` measured.

    ``over_time``: quantities over time are wanted too, if the case has them. Raises ``InputError`` for what
    cannot be simulated, ``KeyboardInterrupt`` when it was interrupted.
    """
    result = simulate_with(scenario, calibration, progress)
    if not result.complete:
        raise KeyboardInterrupt
    paired = pair(case, result, over_time=over_time)
    here = {pool.hardware for pool in scenario.cluster.pools if isinstance(pool.hardware, str)}
    if calibration is None or not calibration.device or calibration.device in here:
        return paired
    note = f"the calibration is of {calibration.device}, the case of {', '.join(sorted(here))}"
    return replace(paired, notes=(*paired.notes, note))


def simulate_with(
    scenario: Scenario, calibration: Calibration | None = None, progress: Progress | None = None
) -> Result:
    """Simulate ``scenario`` with ``calibration`` (None: the scenario's own)."""
    from tokensim.assemble import simulate

    return simulate(scenario, calibration=calibration, progress=progress)


def pair(case: Case, result: Result, *, over_time: bool = False) -> Replay:
    """The measured and the simulated times of ``case``, and with ``over_time`` what it has over time."""
    requests, ours = result.requests, case.measured
    outputs = requests["output_tokens"].to_numpy()
    asked = requests["requested_output_tokens"].to_numpy()
    same = len(requests) == len(ours.arrival_s)
    if not same or not np.array_equal(requests["input_tokens"].to_numpy(), ours.input_tokens):
        raise SimulationError(f"{case.file}: the simulated requests are not those that were measured")
    if case.facts.anchor == "engine-queue":
        anchor_s = _column(requests, "queued_s" if "queued_s" in requests.columns else "arrival_s")
        ttft_s = _column(requests, "first_token_s") - anchor_s
        e2e_s = _column(requests, "finish_s") - anchor_s
    else:
        anchor_s = _column(requests, "arrival_s")
        ttft_s, e2e_s = _column(requests, "ttft_s"), _column(requests, "e2e_s")
    cut = (outputs != asked) | np.isnan(e2e_s)
    simulated = times_of(anchor_s, ttft_s, e2e_s, outputs)
    notes = list(case.facts.notes)
    if cut.any():
        notes.append(
            f"{int(cut.sum()):,} of {len(cut):,} requests were rejected, cut short or not finished in the"
            " simulation; figures leave out what they do not have"
        )
    measured = measured_times(ours)
    series: list[OverTime] = []
    if over_time and is_recorded(case):
        series = over_time_of(case, measured, simulated, anchor_s, result)
    return Replay(case, measured, simulated, tuple(notes), tuple(series))


def measured_times(measured: Measured) -> Times:
    """The times of the measured side."""
    return times_of(measured.anchor_s, measured.ttft_s, measured.e2e_s, measured.output_tokens)


def times_of(anchor_s: Floats, ttft_s: Floats, e2e_s: Floats, output_tokens: Ints) -> Times:
    """Times and throughput, defined alike on both sides; TPOT = (e2e − ttft)/(output − 1)."""
    gaps = output_tokens - 1
    finish_s = anchor_s + e2e_s
    done = ~np.isnan(finish_s)
    makespan_s = float(finish_s[done].max() - anchor_s[done].min()) if done.any() else 0.0
    return Times(
        ttft_s=ttft_s,
        tpot_s=np.where(gaps > 0, (e2e_s - ttft_s) / np.maximum(gaps, 1), np.nan),
        e2e_s=e2e_s,
        output_tokens_per_s=float(output_tokens[done].sum()) / makespan_s if makespan_s > 0 else float("nan"),
    )


def _column(requests: Any, name: str) -> Floats:
    """A column as numbers, NaN for null."""
    values: Floats = requests[name].cast(float).fill_null(float("nan")).to_numpy()
    return values
