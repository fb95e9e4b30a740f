"""Times of a device carried over to the same device with a ``scale``.

Whatever source knows the time of an operator knows it for the device as it is. That time is multiplied by
what a model of the operator (the fitted one where it knows it, else the roofline; the roofline for
collectives) says that the change makes: model(scaled) / model(as it is), at the same shape. So launches,
hops and whatever else the changed ability does not bind stay as long as they are, and an operator between
two bounds gains in part. Times of the model itself come out as if it had been asked about the scaled device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tokensim.cost.base import AttentionTime, DecodeCurve, Origin, RowTime, Setting
from tokensim.cost.roofline import Roofline
from tokensim.hardware.base import Device
from tokensim.model.operators import Attention, Collective, Operator
from tokensim.workload.base import Floats


def carried(
    times: dict[str, Any], operators: Sequence[Operator], setting: Setting, *, fitted: bool = True
) -> dict[str, Any]:
    """``times`` of ``operators`` on ``setting.device``, on ``setting.scaled`` (None: the same). Not
    ``fitted``: by the roofline alone, as the times themselves."""
    if setting.scaled is None:
        return times
    scaled = replace(setting, device=setting.scaled, scaled=None)
    before, after = (_model(operators, one, setting.device if fitted else None) for one in (setting, scaled))
    result = dict(times)
    for op in operators:
        if op.name in times:
            kind: Any = CarriedAttention if isinstance(op, Attention) else CarriedRows
            result[op.name] = kind(times[op.name], before[op.name], after[op.name])
    return result


def _model(operators: Sequence[Operator], setting: Setting, like: Device | None) -> dict[str, Any]:
    """What the fitted model says of ``operators``, the roofline of those that it does not know; with the
    coefficients that hold for ``like`` (None: the roofline alone)."""
    priced: dict[str, Any] = dict(Roofline(setting).price(operators))
    if like is None:
        return priced
    from tokensim.cost.builtin import Builtin

    own = [op for op in operators if not isinstance(op, Collective)]
    own = [op for op in own if not isinstance(op, Attention) or op.causal]
    return {**priced, **Builtin(setting, like).price(own)}


@dataclass(frozen=True, slots=True)
class CarriedRows:
    """``time``, times ``after`` over ``before``."""

    time: RowTime
    before: RowTime
    after: RowTime

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        before = self.before.seconds(rows)
        ratio = np.divide(self.after.seconds(rows), before, out=np.ones_like(before), where=before > 0)
        return self.time.seconds(rows) * ratio

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return self.time.origin(rows)


@dataclass(frozen=True, slots=True)
class CarriedAttention:
    """``time``, times ``after`` over ``before``, at each knot of any of the three."""

    time: AttentionTime
    before: AttentionTime
    after: AttentionTime
    curves: dict[int, DecodeCurve] = field(default_factory=dict)

    @property
    def needs_longest(self) -> bool:
        """See ``AttentionTime.needs_longest``."""
        return self.time.needs_longest

    def decode(self, requests: int) -> DecodeCurve:
        """See ``AttentionTime.decode``."""
        curve = self.curves.get(requests)
        if curve is None:
            three = [time.decode(requests) for time in (self.time, self.before, self.after)]
            contexts = sorted({context for one in three for context in one.contexts})
            seconds = []
            for context in contexts:
                time_s, before_s, after_s = (max(0.0, one.at(context)) for one in three)
                seconds.append(time_s * (after_s / before_s if before_s > 0 else 1.0))
            curve = DecodeCurve(tuple(contexts), tuple(seconds), three[0].skew)
            self.curves[requests] = curve
        return curve

    def mixed(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> float:
        """See ``AttentionTime.mixed``."""
        before = self.before.mixed(chunks, requests, context, longest)
        ratio = self.after.mixed(chunks, requests, context, longest) / before if before > 0 else 1.0
        return self.time.mixed(chunks, requests, context, longest) * ratio

    def origin(
        self, chunks: Sequence[tuple[int, int]], requests: int, context: float, longest: float
    ) -> Origin:
        """See ``AttentionTime.origin``."""
        return self.time.origin(chunks, requests, context, longest)
