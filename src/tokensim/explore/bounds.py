"""What a configuration cannot be better than, worked out without running it: from its price, the arrivals,
and the fastest step that its costs allow.

- It stands from the first arrival to the last, so it costs at least its price for that long, and draws at
  least its idle power.
- A decode step of n requests lasts no less than at the shortest context there is; the best n / duration over
  all n that may run is the most tokens a second that its instances could decode. The same with all tokens and
  the operators that depend on their number alone.
- So much work needs so long: that bounds the makespan, the rates and, where the arrivals are over before the
  work could be, how many requests could have met a bound on TTFT or end-to-end time.

These are bounds, not estimates: what they exclude, no run could show. Where something could undercut them
(scaling, failures, hooks, requests turned away, drafts that yield several tokens a step, policies whose steps
are not vLLM's) they are not given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tokensim.metrics.latency import PERCENTILES
from tokensim.metrics.spending import JOULES_PER_KWH
from tokensim.plan import PoolPlan
from tokensim.scenario import Scenario
from tokensim.workload import Workload
from tokensim.workload.base import Floats, Ints

MARGIN = 0.9
"""Of the fastest step: measured tables do not grow with the batch everywhere."""

RATIO = 1.25
"""From one batch size that is looked at to the next; between them, the larger in the time of the smaller."""

Interval = tuple[float, float]
FREE: Interval = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Bounds on ``figures`` (lowest, highest), by name. ``late`` names an SLO bound that too few requests
    could meet; None: none is known."""

    figures: Mapping[str, Interval]
    late: str | None

    def of(self, figure: str) -> Interval:
        """The bounds on ``figure``."""
        return self.figures.get(figure, FREE)


NOTHING = Outlook({}, None)
"""Nothing is known."""


def outlook(scenario: Scenario, plans: Sequence[PoolPlan], workload: Workload) -> Outlook:
    """The bounds on a run of ``workload`` on ``plans``, the pools of ``scenario``."""
    if not _steady(scenario):
        return NOTHING
    longest = min(plan.engine.max_model_len or 0 for plan in plans)
    served = workload.input_tokens + workload.output_tokens < longest
    if not served.any():
        return NOTHING
    speed = _speed(plans, workload)
    arrivals = workload.arrival_s
    makespan_s = float(arrivals[served].max() - arrivals.min())
    figures: dict[str, Interval] = {}
    if speed is not None:
        decodes = np.maximum(workload.output_tokens - 1, 0)
        work_s = max(
            float(decodes[served].sum()) / speed.decodes_per_s,
            float((_computed(workload) + decodes)[served].sum()) / speed.tokens_per_s,
        )
        makespan_s = max(makespan_s, work_s)
        if all(plan.front_end is None for plan in plans):  # it may delay the first token more than the last
            for name in ("mean", *(f"p{p}" for p in PERCENTILES), "max"):
                figures[f"latency.tpot_s.{name}"] = (speed.step_s, math.inf)
    usd = makespan_s / 3600 * sum(_price(plan) for plan in plans)
    totals = {
        "requests": len(workload),
        "input_tokens": int(workload.input_tokens.sum()),
        "output_tokens": int(workload.output_tokens.sum()),
    }
    totals["total_tokens"] = totals["input_tokens"] + totals["output_tokens"]
    figures |= dict.fromkeys(("spending.usd", "spending.devices_usd"), (usd, math.inf))
    joules = makespan_s * sum(_devices(plan) * plan.device.idle_w for plan in plans)
    figures["spending.energy_kwh"] = (joules / JOULES_PER_KWH, math.inf)
    figures["makespan_s"] = (makespan_s, math.inf)
    figures["spending.usd_per_million_total_tokens"] = (usd / totals["total_tokens"] * 1e6, math.inf)
    if makespan_s > 0:
        for name, total in totals.items():
            figures[f"throughput.{name}_per_s"] = (0.0, total / makespan_s)
        figures["slo.goodput_per_s"] = (0.0, totals["requests"] / makespan_s)
    return Outlook(figures, _late(scenario, plans, workload, speed))


def _steady(scenario: Scenario) -> bool:
    """Whether the pools stand as they are from start to end, and turn nothing away."""
    cluster = scenario.cluster
    moving = cluster.failures or cluster.restarts or cluster.throttles or scenario.hooks
    return not moving and cluster.admission is None and all(pool.autoscale is None for pool in cluster.pools)


def _price(plan: PoolPlan) -> float:
    """US dollars an hour of the whole pool."""
    pool = plan.pool
    each = plan.device.price_per_hour_usd if pool.price_per_hour is None else pool.price_per_hour
    return each * _devices(plan)


def _devices(plan: PoolPlan) -> int:
    """Of the whole pool."""
    return plan.pool.replicas * plan.pool.parallel.devices


@dataclass(frozen=True, slots=True)
class _Speed:
    """The most that all instances together can do; the shortest decode step, in seconds."""

    decodes_per_s: float
    tokens_per_s: float
    step_s: float


def _speed(plans: Sequence[PoolPlan], workload: Workload) -> _Speed | None:
    """None: not known."""
    decodes = tokens = 0.0
    step_s = math.inf
    context = int(workload.input_tokens.min()) + 1
    for plan in plans:
        if plan.engine.policy != "vllm" or plan.speculative is not None or plan.lockstep:
            return None
        ranks, limits = plan.pool.replicas * plan.pool.parallel.data, plan.limits
        tokens += ranks * _best(partial(_rows_s, plan), limits.max_num_batched_tokens)
        if plan.pool.role != "prefill":
            decodes += ranks * _best(partial(_decode_s, plan, context), limits.max_num_seqs)
            step_s = min(step_s, MARGIN * sum(_decode_each(plan, 1, context)))
    return _Speed(decodes, tokens, step_s)


def _best(seconds: Callable[[int], float], most: int) -> float:
    """The most that ``seconds(n)`` for n of 1 … ``most`` allow a second."""
    best = 0.0
    for low, high in _brackets(most):
        least = MARGIN * seconds(low)
        best = max(best, high / least if least > 0 else math.inf)
    return best


def _brackets(most: int) -> Iterator[tuple[int, int]]:
    """1 … ``most`` in parts, as (first, last)."""
    low = 1
    while low <= most:
        high = min(most, max(low, math.ceil(low * RATIO) - 1))
        yield low, high
        low = high + 1


def _decode_each(plan: PoolPlan, n: int, context: int) -> list[float]:
    """Seconds of a decode step of ``n`` requests on each stage."""
    capped = [context if cost.window is None else min(context, cost.window) for cost in plan.stages]
    return [
        cost.decode_run(n, float(n * context), float(n * window), 0.0, float(context))[0]
        for cost, window in zip(plan.stages, capped, strict=True)
    ]


def _decode_s(plan: PoolPlan, context: int, n: int) -> float:
    return max(_decode_each(plan, n, context))


def _rows_s(plan: PoolPlan, tokens: int) -> float:
    return max(cost.rows_time(tokens, 0) for cost in plan.stages)


def waits(workload: Workload) -> bool:
    """Whether requests are sent when others have finished, not at times of their own."""
    return any(part is not None for part in (workload.concurrency, workload.max_in_flight, workload.after))


def _computed(workload: Workload) -> Ints:
    """Prompt tokens that must be computed, whatever caches hold: all, or at least one of each."""
    if workload.segments is None and workload.after is None:
        return workload.input_tokens
    return np.ones_like(workload.input_tokens)


def _late(
    scenario: Scenario, plans: Sequence[PoolPlan], workload: Workload, speed: _Speed | None
) -> str | None:
    """The SLO bound that too few requests could meet."""
    slo = scenario.slo
    if speed is None:
        return None
    streamed = any(plan.front_end is not None for plan in plans) or (workload.output_tokens < 2).any()
    if slo.tpot is not None and not streamed and speed.step_s > slo.tpot:
        return "slo.tpot"
    if waits(workload):
        return None
    computed = _computed(workload)
    if slo.ttft is not None and _too_few(scenario, workload, computed, speed.tokens_per_s, slo.ttft):
        return "slo.ttft"
    decodes = np.maximum(workload.output_tokens - 1, 0)
    if slo.e2e is not None and (
        _too_few(scenario, workload, decodes, speed.decodes_per_s, slo.e2e)
        or _too_few(scenario, workload, computed + decodes, speed.tokens_per_s, slo.e2e)
    ):
        return "slo.e2e"
    return None


def _too_few(scenario: Scenario, workload: Workload, tokens: Ints, per_s: float, bound_s: float) -> bool:
    """Whether a smaller share than the SLO's percentile can be through with its ``tokens`` ``bound_s`` after
    the last arrival, when all those that are not have waited for longer: the smallest come first."""
    arrivals: Floats = workload.arrival_s
    room = per_s * (float(arrivals.max() - arrivals.min()) + bound_s)
    through = int(np.searchsorted(np.cumsum(np.sort(tokens)), room, side="right"))
    # Rejected requests have no latency: they could be as many as the SLO lets be lost.
    share = scenario.slo.percentile / 100
    return through < math.floor(share * (math.floor(len(workload) * share) - 1))
