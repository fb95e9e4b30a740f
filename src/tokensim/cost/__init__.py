"""How long one operator, one collective, one step takes, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from tokensim.cost.base import DecodeLine, OperatorTime, StepColumns, StepCost
from tokensim.cost.roofline import HOST_REQUEST_S, HOST_STEP_S, RooflineCost
from tokensim.hardware.base import Device
from tokensim.model.operators import Operator
from tokensim.registry import register

__all__ = [
    "HOST_REQUEST_S",
    "HOST_STEP_S",
    "DecodeLine",
    "OperatorTime",
    "RooflineCost",
    "StepColumns",
    "StepCost",
    "build_cost",
]


def build_cost(
    kind: str,
    operators: Sequence[Operator],
    device: Device,
    *,
    activation_dtype: str = "bfloat16",
    where: str = "performance.operators",
    **options: Any,
) -> StepCost:
    """The step cost registered under ``kind`` for one rank's ``operators`` on ``device``.

    ``auto`` is the best source there is: the roofline. ``options`` go to the class that is built (the
    roofline takes ``host_step_s`` and ``host_request_s``). Raises ``InputError`` for an unknown ``kind``.
    """
    build = register.operator_cost.get("roofline" if kind == "auto" else kind, where)
    return cast(StepCost, build(operators, device, activation_dtype=activation_dtype, **options))
