"""What the run costs in money and energy.

Money is the price of every device for the whole makespan, busy or not: that is what renting or owning it
costs. Energy is an upper bound: a device draws its thermal design power while a step runs and its idle
power otherwise. Real draw while busy lies between the two, so the bound is loose where memory limits the
steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.cost.base import StepCost

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What the summary needs to know of an instance.

    ``cost`` priced its steps; it has ``devices`` devices, each of ``price_per_hour_usd``, ``tdp_w`` and
    ``idle_w``.
    """

    cost: StepCost
    devices: int
    price_per_hour_usd: float
    tdp_w: float
    idle_w: float


@dataclass(frozen=True, slots=True)
class Spending:
    """``usd`` for the makespan, and per million tokens produced (None if none were); energy at most
    ``energy_kwh``.
    """

    device_hours: float
    usd: float
    usd_per_million_output_tokens: float | None
    usd_per_million_total_tokens: float | None
    energy_kwh_at_most: float
    joules_per_output_token_at_most: float | None


def spending_of(
    instances: Sequence[InstanceFacts],
    busy_s: Sequence[float],
    duration_s: float,
    input_tokens: int,
    output_tokens: int,
) -> Spending:
    """Money and energy of ``duration_s`` seconds in which instance i was busy for ``busy_s[i]``."""
    hours = duration_s / 3600
    usd = sum(f.devices * f.price_per_hour_usd for f in instances) * hours
    joules = sum(
        f.devices * (f.tdp_w * busy + f.idle_w * max(duration_s - busy, 0.0))
        for f, busy in zip(instances, busy_s, strict=True)
    )
    total = input_tokens + output_tokens
    return Spending(
        device_hours=sum(f.devices for f in instances) * hours,
        usd=usd,
        usd_per_million_output_tokens=usd / output_tokens * 1e6 if output_tokens else None,
        usd_per_million_total_tokens=usd / total * 1e6 if total else None,
        energy_kwh_at_most=joules / JOULES_PER_KWH,
        joules_per_output_token_at_most=joules / output_tokens if output_tokens else None,
    )
