"""The form in which a policy runs: as it is, or with an account of what each request has in flight."""

from __future__ import annotations

from typing import Any

from tokensim.scheduling.local.base import Limits
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.in_flight import InFlightBatching
from tokensim.scheduling.local.pipelined import PipelinedBatching

HOOKS = ("__init__", "admission_order", "victim", "horizon")
"""What a policy may say of its own and still run in this form: its options, and what it is asked."""


def form_for(policy: Any, limits: Limits) -> Any:
    """The class ``policy`` in the form that ``limits`` need: as it is, or with an account for each request.

    Raises ``TypeError`` if it is no continuous batching, or changes how that works.
    """
    if not limits.in_flight:
        return policy
    plain = isinstance(policy, type) and issubclass(policy, ContinuousBatching)
    own = [c for c in policy.__mro__ if issubclass(c, ContinuousBatching)] if plain else []
    changed = {
        name
        for c in own
        for name, value in vars(c).items()
        if c is not ContinuousBatching and callable(value) and name not in HOOKS
    }
    if not plain or changed:
        raise TypeError(
            "only continuous batching of which nothing but "
            + ", ".join(HOOKS)
            + " is changed keeps account of"
            " what is in flight" + (f" (changed: {', '.join(sorted(changed))})" if changed else "")
        )
    own_module = {"__module__": policy.__module__}  # whose it is, decides whether it is watched
    form = PipelinedBatching if limits.speculation is None else InFlightBatching
    return type(f"InFlight{policy.__name__}", (form, policy), own_module)
