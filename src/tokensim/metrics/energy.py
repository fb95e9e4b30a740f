"""Energy of a run: what every instance drew, by phase, and what of it each request stands for.

While a step runs a device draws ``idle + (TDP − idle) · activity``, where the activity follows from how hard
the step works (``cost.base.Activity``) and from what the device draws for it (``hardware.Draw``); without a
step it draws its idle power as long as it is up. Everything is closed-form over the rows of the step log.

A row in which prefill and decode run together is shared between them by work. A request stands for its part
of its instance's prefill (by the tokens that were computed for it) and decode (by its output tokens after the
first): who decodes at a long context takes more than it is charged with. Idle energy belongs to nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.cost.base import StepCost
from tokensim.hardware.draw import DRAW, Draw
from tokensim.metrics.attribution import select_rows
from tokensim.metrics.log import RequestColumns, StepRows
from tokensim.workload.base import Floats, Ints

ROUNDING = 1e-9
"""Rest of less than this share of the time is what adding up the steps loses."""


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What the account needs to know of an instance.

    ``cost`` priced its steps; it has ``devices`` devices, each of ``price_per_hour_usd``, ``tdp_w`` and
    ``idle_w``, which draw as ``draw`` says; it belongs to ``pool``.
    """

    cost: StepCost
    devices: int
    price_per_hour_usd: float
    tdp_w: float
    idle_w: float
    draw: Draw = DRAW
    pool: str = "serve"


@dataclass(frozen=True, slots=True)
class InstanceEnergy:
    """One entry an instance: joules by phase, and the seconds of its steps by phase.

    Steps that are neither prefill nor decode (a data-parallel rank that steps along without work) count as
    idle.
    """

    prefill_j: Floats
    decode_j: Floats
    idle_j: Floats
    prefill_s: Floats
    decode_s: Floats

    @property
    def total_j(self) -> Floats:
        """Of all phases."""
        return self.prefill_j + self.decode_j + self.idle_j


@dataclass(frozen=True, slots=True)
class RequestEnergy:
    """One entry a request: the joules of prefill and decode that it stands for."""

    prefill_j: Floats
    decode_j: Floats


def instance_energy(steps: StepRows, instances: Sequence[InstanceFacts], alive_s: Floats) -> InstanceEnergy:
    """What each of ``instances`` drew in the ``alive_s`` seconds for which it was up."""
    size = len(instances)
    seconds = steps.what.seconds
    activity, prefill = np.zeros(len(seconds)), np.full(len(seconds), np.nan)
    shared: dict[tuple[int, int], list[int]] = {}  # replicas share a cost: ask it once
    for i, facts in enumerate(instances):
        shared.setdefault((id(facts.cost), id(facts.draw)), []).append(i)
    for members in shared.values():
        own = np.flatnonzero(np.isin(steps.instance, members))
        if not len(own):
            continue
        first = instances[members[0]]
        work, draw = first.cost.activity(select_rows(steps.what, own)), first.draw
        worked_s = draw.compute * work.compute_s + draw.memory * work.memory_s + draw.network * work.network_s
        share = np.divide(worked_s, seconds[own], out=np.zeros(len(own)), where=seconds[own] > 0)
        activity[own] = np.minimum(draw.busy + share, 1.0)
        prefill[own] = work.prefill_share
    idle_w = np.array([f.devices * f.idle_w for f in instances], dtype=np.float64)
    span_w = np.array([f.devices * (f.tdp_w - f.idle_w) for f in instances], dtype=np.float64)
    where = steps.instance
    joules = seconds * (idle_w[where] + span_w[where] * activity)

    def of(values: Floats) -> Floats:
        return np.bincount(where, weights=values, minlength=size).astype(np.float64)

    nobody = np.isnan(prefill)
    ahead, after = np.where(nobody, 0.0, prefill), np.where(nobody, 0.0, 1.0 - prefill)
    resting_s = alive_s - of(seconds)
    resting_s[resting_s < ROUNDING * alive_s] = 0.0
    return InstanceEnergy(
        prefill_j=of(joules * ahead),
        decode_j=of(joules * after),
        idle_j=of(np.where(nobody, joules, 0.0)) + idle_w * resting_s,
        prefill_s=of(seconds * ahead),
        decode_s=of(seconds * after),
    )


def request_energy(
    requests: RequestColumns,
    energy: InstanceEnergy,
    prefilled_on: Ints | None = None,
    later_stages: Collection[int] = (),
) -> RequestEnergy:
    """What each request stands for; over the requests of an instance it sums to the instance's prefill and
    decode.

    ``prefilled_on`` is the instance that computed each prompt, where that is not the one that decoded
    (``requests.instance``). ``later_stages`` of a pipeline follow the first one, which has their requests.
    What an instance spends on a phase of which no request has tokens there goes to the other phase.
    """
    stages = np.arange(len(energy.prefill_j))
    heads = np.maximum.accumulate(np.where(np.isin(stages, list(later_stages)), 0, stages))

    def of_pipelines(values: Floats) -> Floats:
        return np.bincount(heads, weights=values, minlength=len(stages)).astype(np.float64)

    started = ~np.isnan(requests.scheduled_s)
    where = requests.instance if prefilled_on is None else prefilled_on
    computed = requests.input_tokens - requests.cached_tokens + requests.recomputed_tokens
    computed = np.where(started, computed, 0)
    decoded = np.where(started, np.maximum(requests.output_tokens - 1, 0), 0)
    prompts, answers = _by_instance(where, computed, stages), _by_instance(requests.instance, decoded, stages)
    prefill_j, decode_j = of_pipelines(energy.prefill_j), of_pipelines(energy.decode_j)
    # An instance that decodes what others prefilled computes the last token of each prompt again.
    stray = np.where(prompts > 0, 0.0, prefill_j) - np.where(answers > 0, 0.0, decode_j)
    prefill_j, decode_j = prefill_j - stray, decode_j + stray
    return RequestEnergy(
        prefill_j=_shared_out(prefill_j, prompts, where, computed),
        decode_j=_shared_out(decode_j, answers, requests.instance, decoded),
    )


def _by_instance(instance: Ints, tokens: Ints, instances: Ints) -> Floats:
    """The tokens on each instance; −1: on none."""
    some = instance >= 0
    totals = np.bincount(instance[some], weights=tokens[some], minlength=len(instances))
    return totals.astype(np.float64)


def _shared_out(joules: Floats, totals: Floats, instance: Ints, tokens: Ints) -> Floats:
    """``joules`` of each instance, shared among its requests by ``tokens``, of which it has ``totals``."""
    some = instance >= 0
    each = np.divide(joules, totals, out=np.zeros(len(joules)), where=totals > 0)
    shares = np.zeros(len(tokens))
    shares[some] = each[instance[some]] * tokens[some]
    return shares
