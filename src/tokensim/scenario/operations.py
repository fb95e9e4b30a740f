"""What goes on in a cluster while it serves: prefill and decode apart, scaling, failures, restarts, hooks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tokensim.scenario.fields import Positive, PositiveDuration
from tokensim.scenario.section import Count, CountOrZero, Flag, Name, Section, refused
from tokensim.scenario.units import Duration


class Disaggregation(Section):
    """How pools of role prefill and decode work together."""

    kv_transfer: Literal["pull", "push"] = "pull"
    """pull: the decode side fetches the KV once it has room, until then it stays with the prefill side; push:
    a request prefills only once the decode side has made room for it."""
    layerwise: Flag = False
    """Whether KV leaves layer by layer while the prefill runs; else when it is over."""
    first_token: Literal["auto", "prefill", "decode"] = "auto"
    """Which side gives the client the first token; auto: decode where its engine's policy is vllm (it
    computes the prompt's last token again), else prefill."""
    latency: Duration = 0.0
    """From the end of a prefill until the decode side hears of it (a proxy in between)."""


class ScheduledSize(Section):
    """So many replicas from then on."""

    at: Duration
    """Since the start of the run."""
    replicas: CountOrZero
    """Replicas from then on."""


class Autoscale(Section):
    """How many replicas a pool has over time, by the rule of Kubernetes' horizontal autoscaler: so many that
    the metric comes to its target, ``ceil(replicas x metric / target)``; within 10 % of it, none."""

    policy: Literal["queue", "kv", "schedule"] = "queue"
    """The metric: requests waiting a replica, share of the KV pools in use; or a fixed schedule."""
    target: Positive | None = None
    """What the metric should be, on average over the replicas."""
    min: CountOrZero = 1
    """Fewest replicas."""
    max: Count | None = None
    """Most replicas."""
    interval: PositiveDuration = 15.0
    """How often it looks (Kubernetes: 15 s)."""
    scale_down_after: Duration = 300.0
    """Replicas go only when fewer would have done for so long (Kubernetes: 300 s)."""
    migrate: Flag = False
    """Whether the requests of a replica that goes move to others; else it serves them first."""
    schedule: list[ScheduledSize] = Field(default_factory=list)
    """Sizes by time, for the policy schedule."""

    @model_validator(mode="after")
    def _fits_its_policy(self) -> Autoscale:
        if self.policy == "schedule":
            if not self.schedule:
                raise refused("the policy schedule has no schedule", "e.g. [{at: 60s, replicas: 4}]")
            needless = {"target", "min", "max", "interval", "scale_down_after"} & self.model_fields_set
            if needless:
                raise refused(
                    f"the policy schedule takes no {' and '.join(sorted(needless))}",
                    "leave it out: schedule says how many there are from when on",
                )
            return self
        if self.schedule:
            raise refused(f"the policy {self.policy} has no schedule", "set policy: schedule")
        if self.target is None or self.max is None:
            raise refused(
                f"the policy {self.policy} needs a target and a max",
                "e.g. {policy: queue, target: 4, max: 8} or {policy: kv, target: 0.7, max: 8}",
            )
        if self.policy == "kv" and self.target > 1:
            raise refused(f"a target of {self.target:g} of the KV pool", "a share, at most 1, e.g. 0.7")
        if self.max < self.min:
            raise refused(f"max is {self.max}, min is {self.min}", "max must not be below min")
        return self


class Failure(Section):
    """Replicas of a pool that die: one at a time given, or each at random."""

    pool: Name
    """Whose."""
    at: Duration | None = None
    """When; or `every`."""
    replica: CountOrZero | None = None
    """Which one, by number; null: the first that is up."""
    every: PositiveDuration | None = None
    """Mean time from the start of a replica to its failure (exponential)."""
    recovery: Duration | None = 0.0
    """How long until a new one is started (its start-up comes on top); null: never."""
    requests: Literal["resume", "restart", "lose"] = "resume"
    """What becomes of its requests: they go on elsewhere after the tokens that the client has, begin anew, or
    fail."""
    max_retries: CountOrZero = 3
    """A request that fails more often than that is lost."""

    @model_validator(mode="after")
    def _once_or_again(self) -> Failure:
        if (self.at is None) == (self.every is None):
            raise refused(
                "give one of at and every", "at: 60s (once), or every: 1h (each replica, at random)"
            )
        if self.every is not None and self.replica is not None:
            raise refused("every speaks of all replicas of the pool", "leave replica out, or give at")
        return self


class Restart(Section):
    """A rolling restart: every replica of a pool is replaced by a new one."""

    pool: Name
    """Whose."""
    at: Duration
    """When it begins."""
    max_unavailable: Count = 1
    """How many are being replaced at once."""
    surge: Flag = False
    """Whether the new one starts before the old one drains; else after it has gone."""
    migrate: Flag = False
    """Whether requests of a replica that goes move to others; else it serves them first."""


class Throttle(Section):
    """A bound on the requests that run in each replica of a pool, for some time."""

    pool: Name
    """Whose replicas."""
    at: Duration
    """From when on."""
    max_running: CountOrZero
    """Requests that run in each of them at most."""
    duration: PositiveDuration | None = None
    """For how long; null: to the end."""

    @model_validator(mode="after")
    def _ends(self) -> Throttle:
        if self.max_running == 0 and self.duration is None:
            raise refused("max_running is 0 for good: no request would ever run again", "give a duration")
        return self


class HookSpec(Section):
    """A hook of a plug-in. Short form: its name."""

    hook: Name
    """By its registered name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its parameters."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return {"hook": value} if isinstance(value, str) else value


def refuse_absent_replicas(sizes: dict[str, int], failures: list[Failure], changing: set[str]) -> None:
    """Raise if one of ``failures`` is to hit a replica that never is: beyond the ``sizes`` of pools by name,
    of which those ``changing`` may get more."""
    for index, failure in enumerate(failures):
        again = sum(other.pool == failure.pool and other.recovery is not None for other in failures) > 1
        if failure.replica is None or failure.pool in changing or again:
            continue
        size = sizes[failure.pool]
        if failure.replica >= size:
            raise refused(
                f"failures[{index}].replica is {failure.replica}, and pool {failure.pool!r} has {size}",
                f"they are numbered from 0 to {size - 1}",
            )


def refuse_unknown_pools(names: list[str], sections: dict[str, list[Any]]) -> None:
    """Raise unless every entry of ``sections`` speaks of a pool in ``names``."""
    for key, entries in sections.items():
        for index, entry in enumerate(entries):
            if entry.pool not in names:
                raise refused(
                    f"{key}[{index}].pool is {entry.pool!r}, and no pool has that name",
                    f"one of: {', '.join(names)}",
                )
