"""What the run costs in money and energy, for the cluster and for each pool.

Money is the price of every device for as long as it was up, busy or not: that is what renting or owning it
costs; and electricity, where its price is given. It is split between input and output tokens in proportion to
the time of prefill and decode steps of the pool (idle time follows in the same proportion), so that the price
of a million input tokens and that of a million output tokens add up to the bill. Energy: see ``energy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.metrics.energy import InstanceEnergy, InstanceFacts, instance_energy
from tokensim.metrics.log import RequestColumns, StepRows
from tokensim.workload.base import Floats, Ints

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Electricity:
    """The price of a kWh at the meter, which counts ``pue`` times what the devices draw (cooling, power
    supplies, and the rest of the servers)."""

    usd_per_kwh: float
    pue: float = 1.0


@dataclass(frozen=True, slots=True)
class Account:
    """Money and energy of some instances; what means nothing (no tokens, no time) is None.

    ``usd`` is ``devices_usd`` and, where it has a price, ``electricity_usd``. The prices of a million input
    and a million output tokens split the bill, that of a million tokens in all is the whole of it. Energy is
    that of the devices: ``joules_per_input_token`` of prefill, ``joules_per_output_token`` of decode;
    ``mean_power_w`` is that of all of them together, over the makespan.
    """

    device_hours: float
    usd: float
    devices_usd: float
    electricity_usd: float | None
    usd_per_million_input_tokens: float | None
    usd_per_million_output_tokens: float | None
    usd_per_million_total_tokens: float | None
    energy_kwh: float
    energy_kwh_by_phase: dict[str, float]
    joules_per_input_token: float | None
    joules_per_output_token: float | None
    mean_power_w: float | None


@dataclass(frozen=True, slots=True)
class PoolAccount:
    """The account of one pool, and the tokens of the requests that it served."""

    pool: str
    instances: int
    input_tokens: int
    output_tokens: int
    account: Account


@dataclass(frozen=True, slots=True)
class Spending(Account):
    """The account of the cluster, and that of each of its ``pools``."""

    pools: tuple[PoolAccount, ...]


def spending_of(
    steps: StepRows,
    requests: RequestColumns,
    instances: Sequence[InstanceFacts],
    duration_s: float,
    *,
    alive_s: Floats | None = None,
    electricity: Electricity | None = None,
    prefilled_on: Ints | None = None,
) -> Spending:
    """Money and energy of ``instances`` in a run of ``duration_s`` seconds.

    ``alive_s`` is for how long each was up (default: all the time), ``prefilled_on`` the instance that
    computed each prompt (default: the one that decoded).
    """
    up_s = np.full(len(instances), duration_s) if alive_s is None else alive_s
    energy = instance_energy(steps, instances, up_s)
    size = len(instances)
    started = ~np.isnan(requests.first_token_s)
    where = requests.instance if prefilled_on is None else prefilled_on
    given = _by_instance(where, np.where(started, requests.input_tokens, 0), size)
    made = _by_instance(requests.instance, requests.output_tokens, size)
    hours = np.array([f.devices for f in instances], dtype=np.float64) * up_s / 3600
    usd = hours * np.array([f.price_per_hour_usd for f in instances], dtype=np.float64)
    names = [f.pool for f in instances]
    pools = []
    split = np.zeros(2)
    for name in dict.fromkeys(names):
        own = np.array([i for i, pool in enumerate(names) if pool == name])
        tokens = int(given[own].sum()), int(made[own].sum())
        times = np.array([energy.prefill_s[own].sum(), energy.decode_s[own].sum()])
        account = _account(own, energy, hours, usd, duration_s, tokens, times, electricity)
        split += account.usd * times / times.sum() if times.sum() > 0 else 0.0
        pools.append(PoolAccount(name, len(own), *tokens, account))
    tokens = int(given.sum()), int(made.sum())
    whole = _account(np.arange(size), energy, hours, usd, duration_s, tokens, split, electricity)
    return Spending(**{name: getattr(whole, name) for name in Account.__slots__}, pools=tuple(pools))


def _account(
    own: Ints,
    energy: InstanceEnergy,
    hours: Floats,
    usd: Floats,
    duration_s: float,
    tokens: tuple[int, int],
    split: Floats,
    electricity: Electricity | None,
) -> Account:
    """The account of the instances ``own``, whose bill divides between input and output as ``split`` does."""
    joules = {
        "prefill": float(energy.prefill_j[own].sum()),
        "decode": float(energy.decode_j[own].sum()),
        "idle": float(energy.idle_j[own].sum()),
    }
    total_j = sum(joules.values())
    devices_usd = float(usd[own].sum())
    power_usd = None
    if electricity is not None:
        power_usd = total_j / JOULES_PER_KWH * electricity.pue * electricity.usd_per_kwh
    bill = devices_usd + (power_usd or 0.0)
    parts = bill * split / split.sum() if split.sum() > 0 else np.zeros(2)
    return Account(
        device_hours=float(hours[own].sum()),
        usd=bill,
        devices_usd=devices_usd,
        electricity_usd=power_usd,
        usd_per_million_input_tokens=_per_million(float(parts[0]), tokens[0]),
        usd_per_million_output_tokens=_per_million(float(parts[1]), tokens[1]),
        usd_per_million_total_tokens=_per_million(bill, sum(tokens)),
        energy_kwh=total_j / JOULES_PER_KWH,
        energy_kwh_by_phase={phase: value / JOULES_PER_KWH for phase, value in joules.items()},
        joules_per_input_token=joules["prefill"] / tokens[0] if tokens[0] else None,
        joules_per_output_token=joules["decode"] / tokens[1] if tokens[1] else None,
        mean_power_w=total_j / duration_s if duration_s > 0 else None,
    )


def _by_instance(instance: Ints, tokens: Ints, size: int) -> Floats:
    some = instance >= 0
    return np.bincount(instance[some], weights=tokens[some], minlength=size).astype(np.float64)


def _per_million(usd: float, tokens: int) -> float | None:
    return usd / tokens * 1e6 if tokens else None
