"""A router is asked for an instance; what it answers is checked."""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.engine.replica import Replica, State
from tokensim.errors import SimulationError
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Request


def asked(router: GlobalScheduler, request: Request, replicas: Sequence[Replica], now: float) -> Replica:
    """The one of ``replicas`` that ``router`` wants. Raises ``SimulationError``, which names the router, if
    it fails or chooses something else. HOT PATH."""
    try:
        replica = router.route(request, replicas, now)
    except SimulationError:
        raise
    except Exception as error:
        raise SimulationError(
            f"the global scheduler {type(router).__name__} failed at {now:.6g} s on {request}:"
            f" {type(error).__name__}: {error}"
        ) from error
    if replica.__class__ is not Replica or replica.state is not State.UP or replica not in replicas:
        raise SimulationError(
            f"the global scheduler {type(router).__name__} chose {replica!r} for {request} at"
            f" {now:.6g} s; route must return one of the instances that it is given"
        )
    return replica
