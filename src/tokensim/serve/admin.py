"""Faults on demand: what the control plane can do to replicas, as routes under ``/admin``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from fastapi import FastAPI

from tokensim.engine.instance import Instance
from tokensim.engine.replica import Replica, State
from tokensim.errors import SimulationError
from tokensim.serve.asking import ApiError
from tokensim.serve.pacer import Pacer
from tokensim.serve.schemas import ErrorBody, FailBody, ThrottleBody

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "That cannot be done to this replica."},
    401: {"model": ErrorBody, "description": "No, or a wrong, API key."},
    404: {"model": ErrorBody, "description": "No such replica or pool."},
}


def add_admin(app: FastAPI, pacer: Pacer) -> None:
    """Add the routes to ``app``."""
    live = pacer.live
    control = live.control

    def replica_named(name: str) -> Replica:
        pacer.tick()
        for replica in live.replicas:
            if replica.name == name and replica.state is not State.DOWN:
                return replica
        raise ApiError(404, f"No replica {name!r} is there.")

    def done(act: Callable[[], object]) -> list[dict[str, Any]]:
        try:
            act()
        except (SimulationError, ValueError) as error:
            raise ApiError(400, str(error)) from None
        pacer.ring()
        return told()

    def told() -> list[dict[str, Any]]:
        return [
            {
                "name": replica.name,
                "pool": replica.pool.name,
                "role": replica.role,
                "state": replica.state.value,
                "running": sum(len(rank.scheduler.running) for rank in _serving(replica)),
                "waiting": sum(len(rank.scheduler.waiting) for rank in _serving(replica)),
            }
            for replica in live.replicas
        ]

    @app.get("/admin/replicas", responses={401: ERRORS[401]})
    async def replicas() -> list[dict[str, Any]]:
        """All replicas that ever were, and what they do."""
        pacer.tick()
        return told()

    @app.post("/admin/replicas/{name}/fail", responses=ERRORS)
    async def fail(name: str, body: FailBody) -> list[dict[str, Any]]:
        """The replica dies, and its KV; ``recovery`` seconds later one of its pool starts (null: never)."""
        recovery_s = inf if body.recovery is None else body.recovery
        replica = replica_named(name)
        return done(
            lambda: control.fail(replica, body.requests, recovery_s=recovery_s, max_retries=body.max_retries)
        )

    @app.post("/admin/replicas/{name}/throttle", responses=ERRORS)
    async def throttle(name: str, body: ThrottleBody) -> list[dict[str, Any]]:
        """The replica admits nobody beyond ``max_running``."""
        replica = replica_named(name)
        return done(lambda: control.throttle(replica, body.max_running))

    @app.post("/admin/replicas/{name}/drain", responses=ERRORS)
    async def drain(name: str) -> list[dict[str, Any]]:
        """The replica takes no more requests, and goes when it has served those it has."""
        replica = replica_named(name)
        return done(lambda: control.remove_replica(replica))

    @app.post("/admin/pools/{name}/add", responses=ERRORS)
    async def add(name: str) -> list[dict[str, Any]]:
        """One more replica of the pool; it serves after the pool's ``startup``."""
        pacer.tick()
        try:
            pool = control.pool(name)
        except ValueError as error:
            raise ApiError(404, str(error)) from None
        return done(lambda: control.add_replica(pool))


def _serving(replica: Replica) -> Sequence[Instance]:
    """The ranks of ``replica``; none if it is down: what a dead one had leaves it when its step would have
    ended."""
    return () if replica.state is State.DOWN else replica.ranks
