"""The ``cluster.admission`` section: the gateway before the router, its limits and the order of its queue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tokensim.scenario.fields import Positive, PositiveDuration
from tokensim.scenario.section import Count, CountOrZero, Name, Section, refused


class TenantLimits(Section):
    """What one tenant may send: token buckets that fill with a rate up to a burst. Null: no limit."""

    requests_per_s: Positive | None = None
    """Requests a second on average."""
    request_burst: Count | None = None
    """Requests at once at most; null: one second's worth, at least 1."""
    tokens_per_s: Positive | None = None
    """Prompt and requested output tokens a second on average."""
    token_burst: Count | None = None
    """Tokens at once at most; null: one second's worth. A larger request waits for a full bucket."""

    @model_validator(mode="after")
    def _bursts_have_rates(self) -> TenantLimits:
        for burst, rate in (("request_burst", "requests_per_s"), ("token_burst", "tokens_per_s")):
            if getattr(self, burst) is not None and getattr(self, rate) is None:
                raise refused(f"{burst} is given without {rate}", f"give {rate} too")
        return self


class Tenant(TenantLimits):
    """What differs for one tenant."""

    weight: Positive = 1.0
    """Its part in fair sharing, against the others' weights."""


class Admission(Section):
    """The gateway; by default every request enters at once."""

    max_outstanding: Count | None = None
    """Requests in the cluster at most; others wait at the gateway. Null: no cap."""
    max_queued: CountOrZero | None = None
    """Requests that wait at the gateway at most; beyond, they are rejected. Null: no cap."""
    queue_timeout: PositiveDuration | None = None
    """A request that has waited at the gateway for so long is rejected. Null: never."""
    order: Name = "fcfs"
    """Who enters next, by its registered name: fcfs, priority, fair (among tenants), or a plug-in's."""
    limits: TenantLimits = TenantLimits()
    """Of every tenant that is not named below."""
    over_limit: Literal["queue", "reject"] = "queue"
    """What happens to a request beyond its tenant's limits."""
    tenants: dict[Annotated[int, Field(ge=0)], Tenant] = Field(default_factory=dict)
    """Limits and weights of single tenants, by number; they replace ``limits`` as a whole."""

    @property
    def limited(self) -> bool:
        """Whether any tenant has a limit."""
        return any(
            rate is not None
            for one in (self.limits, *self.tenants.values())
            for rate in (one.requests_per_s, one.tokens_per_s)
        )

    @property
    def waits(self) -> bool:
        """Whether a request can ever wait at the gateway."""
        return self.max_outstanding is not None or (self.limited and self.over_limit == "queue")

    @model_validator(mode="after")
    def _somebody_waits(self) -> Admission:
        if self.over_limit == "reject" and not self.limited:
            raise refused("over_limit is given, but nobody has a limit", "e.g. limits: {requests_per_s: 10}")
        for key in ("max_queued", "queue_timeout"):
            if getattr(self, key) is not None and not self.waits:
                raise refused(f"{key} is given, but nobody ever waits", "give max_outstanding, or limits")
        return self
