"""The local scheduler of a pool: found by name, asked what it settles, and made with its options.

A policy models an engine, and an engine has defaults and things that it does not know (``LocalScheduler``'s
``prefers`` and ``settles``). What the scenario says itself comes before the former; where it contradicts the
latter it is refused, never ignored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from tokensim.errors import InputError, nearest
from tokensim.registry import register
from tokensim.scenario import Engine
from tokensim.scheduling.local import Limits, LocalScheduler, form_for
from tokensim.scheduling.local.guard import guarded

GIB = 2**30

SWAP_SPACE = 4 * GIB
"""Bytes of host memory for swapped KV (vLLM 0.6, ``EngineArgs.swap_space``)."""

HOST_SHARE = 0.88
"""Share of a host link's bandwidth that large copies reach: nvbandwidth's example output shows 55.6 GB/s from
host to device (``host_to_device_memcpy_ce``) over PCIe 5.0 x16, which moves 63 GB/s."""


def policy_engine(engine: Engine, where: str) -> Engine:
    """``engine`` with what its policy prefers and settles filled in.

    Raises ``InputError`` for an unknown policy, an option that this policy settles otherwise, and swapping
    under a policy that only recomputes. ``where`` is the path of the section.
    """
    policy = find_policy(engine.policy, where)
    name, given = engine.policy, engine.model_fields_set
    settles = dict(getattr(policy, "settles", {}))
    for option, value in settles.items():
        if option in given and getattr(engine, option) != value:
            raise InputError(
                f"the policy '{name}' knows no {option} other than {_yaml(value)}",
                where=f"{where}.{option}",
                hint="leave it out, or choose another engine.policy",
            )
    if engine.preemption == "swap" and not getattr(policy, "can_swap", False):
        able = [other for other in register.local_scheduler.names() if _can_swap(other)]
        raise InputError(
            f"the policy '{name}' recomputes what it preempts, and cannot swap it to host memory",
            where=f"{where}.preemption",
            hint=f"use preemption: recompute; these policies can swap: {', '.join(able)}",
        )
    prefers = {key: value for key, value in getattr(policy, "prefers", {}).items() if key not in given}
    if engine.preemption == "swap" and engine.swap_space is None:
        prefers["swap_space"] = float(SWAP_SPACE)
    return engine.model_copy(update={**prefers, **settles})


def settled_options(engine: Engine) -> list[str]:
    """Names of the options that ``policy_engine`` may have filled in."""
    policy = find_policy(engine.policy, "engine")
    swap = ["swap_space"] if engine.preemption == "swap" else []
    return [*getattr(policy, "prefers", {}), *getattr(policy, "settles", {}), *swap]


def swap_limits(engine: Engine, block_bytes: float, host_bytes_per_s: float) -> dict[str, Any]:
    """The ``Limits`` of swapping of one device, whose KV blocks have ``block_bytes`` and whose link to the
    host moves ``host_bytes_per_s``; empty: it does not swap."""
    if engine.preemption != "swap":
        return {}
    assert engine.swap_space is not None
    return {
        "swap_blocks": int(engine.swap_space // block_bytes),
        "swap_s_per_block": block_bytes / (HOST_SHARE * host_bytes_per_s),
    }


def scheduler_maker(
    engine: Engine, limits: Limits, where: str, exact_steps: bool
) -> Callable[[], LocalScheduler]:
    """What makes the local schedulers of a pool. Raises ``InputError`` for options that the policy does not
    take."""
    policy = find_policy(engine.policy, where)
    options = engine.policy_options
    try:
        kind: Any = guarded(form_for(policy, limits))
    except InputError as error:
        raise InputError(error.message, where=f"{where}.policy", hint=error.hint) from None
    known = _options_of(policy)
    for option in options:
        if known is not None and option not in known:
            raise InputError(
                f"the policy '{engine.policy}' has no option '{option}'",
                where=f"{where}.policy_options",
                hint=nearest(option, known) if known else "it takes no options",
            )

    def make() -> LocalScheduler:
        try:
            return cast(LocalScheduler, kind(limits, engine.version, exact_steps=exact_steps, **options))
        except InputError as error:
            place = error.where or "policy_options"
            raise InputError(error.message, where=f"{where}.{place}", hint=error.hint) from error
        except TypeError as error:
            raise InputError(
                f"the policy '{engine.policy}' does not take these options: {error}",
                where=f"{where}.policy_options",
                hint="a policy is made as Policy(limits, version, exact_steps=…, **policy_options)",
            ) from error
        except Exception as error:
            raise InputError(
                f"the policy '{engine.policy}' failed when it was made: {type(error).__name__}: {error}",
                where=f"{where}.policy",
                hint="a policy raises InputError for limits and options that it cannot work with",
            ) from error

    return make


def find_policy(name: str, where: str) -> Any:
    """The registered policy; raises ``InputError`` with the nearest known name."""
    return register.local_scheduler.get(name, f"{where}.policy")


def _can_swap(name: str) -> bool:
    return bool(getattr(find_policy(name, "engine"), "can_swap", False))


def _options_of(policy: Any) -> list[str] | None:
    """The names of the options that ``policy`` takes; None: any."""
    parameters = inspect.signature(policy).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "exact_steps"]
    return own


def _yaml(value: object) -> str:
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if value in (True, False, None)
        else str(value)
    )
