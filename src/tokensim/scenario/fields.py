"""Numbers of the ``workload:`` section, and parts that a plug-in may add under a name of its own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tokensim.errors import nearest
from tokensim.registry import Registry
from tokensim.scenario.section import Number
from tokensim.scenario.units import Duration


def _rate(value: object) -> object:
    if isinstance(value, float) and math.isinf(value):
        raise ValueError("a rate must be finite; for every request at once write 'process: all-at-once'")
    return value


Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Rate = Annotated[Number, Field(gt=0), BeforeValidator(_rate)]
PositiveDuration = Annotated[Duration, Field(gt=0)]
# 200 million requests are 5 GB of columns: more is a slip of the pen.
Requests = Annotated[int, Field(strict=True, gt=0, le=200_000_000)]


class CustomPart(BaseModel):
    """A part that a plug-in registered, with keys of its own that its class checks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def check(self, registry: Registry, name: str) -> None:
        """Raise ``ValueError`` where the keys are not those of the class under ``name``."""
        part, keys = registry.get(name), dict(self.model_extra or {})
        try:
            if isinstance(part, type) and issubclass(part, BaseModel):
                part.model_validate(keys)
            else:
                inspect.signature(part).bind(**keys)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc'])) or name}: {e['msg']}" for e in error.errors()]
            raise ValueError("; ".join(lines)) from None
        except TypeError as error:
            raise ValueError(f"'{name}': {error}") from None


def _canonical(name: str, builtin: tuple[str, ...]) -> str:
    """``name`` as we write it: ``onoff`` and ``on_off`` are ``on-off``; other names stay as they are."""
    plain = name.lower().replace("-", "").replace("_", "")
    return next((b for b in builtin if b.replace("-", "") == plain), name)


def named(key: str, builtin: tuple[str, ...], registry: Registry, example: str) -> Callable[[object], object]:
    """A validator that checks the name under ``key`` and says what is known if it is missing or wrong."""

    def check(value: object) -> object:
        if isinstance(value, BaseModel):
            return value
        known = {*builtin, *registry.names()}
        if isinstance(value, str):
            value = {key: value}
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a mapping such as {example}")
        if key not in value:
            raise ValueError(f"'{key}' is missing; known: {', '.join(sorted(known))}")
        name = value[key]
        if not isinstance(name, str):
            raise ValueError(f"{key} must be a name, not {name!r}; known: {', '.join(sorted(known))}")
        if name not in registry.names():
            name = _canonical(name, builtin)
        if name not in known:
            raise ValueError(f"unknown {registry.kind} '{name}'; {nearest(name, known)}")
        return {**value, key: name}

    return check


def tagged(key: str, builtin: tuple[str, ...]) -> Callable[[Any], str]:
    """A discriminator by the name under ``key``; a name that is not built in is a plug-in's."""

    def tag(value: Any) -> str:
        name = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
        return name if name in builtin else "plug-in"

    return tag
