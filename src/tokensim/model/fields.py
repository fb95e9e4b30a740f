"""Reading a ``config.json`` field by field: a typed value, or an ``InputError`` that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokensim.errors import InputError


class Fields:
    """A mapping read with types; ``read`` keeps the names that were asked for.

    ``null`` counts as absent, as it does in transformers. Every error names ``where``, the field and its
    value.
    """

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config = config
        self.where = where
        self.read: set[str] = set()

    def get(self, name: str) -> Any:
        """The raw value, None if absent."""
        self.read.add(name)
        return self.config.get(name)

    def error(self, name: str, message: str, hint: str | None = None) -> InputError:
        """The error to raise about the field ``name``."""
        return InputError(message, where=f"{self.where}: {name}", hint=hint)

    def integer(self, name: str, default: int | None = None, *, minimum: int = 1) -> int:
        """A whole number ≥ ``minimum``; required when there is no ``default``."""
        value = self.get(name)
        if value is None:
            if default is None:
                raise self.error(name, "is missing", "the field is required for this model_type")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self.error(name, f"must be a whole number of at least {minimum}, got {value!r}")
        return value

    def optional_integer(self, name: str) -> int | None:
        """A whole number ≥ 1, or None if absent."""
        return None if self.get(name) is None else self.integer(name)

    def number(self, name: str, default: float) -> float:
        """A positive finite number."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.error(name, f"must be a positive number, got {value!r}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(name, f"must be true or false, got {value!r}")
        return value

    def text(self, name: str) -> str | None:
        """A string, or None if absent."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise self.error(name, f"must be text, got {value!r}")
        return value

    def items(self, name: str, kind: type) -> list[Any] | None:
        """A list of ``kind``, or None if absent."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(item) is kind for item in value):
            raise self.error(name, f"must be a list of {kind.__name__}, got {value!r}")
        return value

    def section(self, name: str) -> Fields | None:
        """A nested mapping, or None if absent."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.error(name, f"must be a mapping, got {value!r}")
        return Fields(value, f"{self.where}: {name}")

    def refuse(self, name: str, modelled: object, why: str) -> None:
        """Raise if the field is there with another value than ``modelled`` (null and absent pass)."""
        value = self.get(name)
        if value is not None and (type(value) is not type(modelled) or value != modelled):
            raise self.error(name, f"{value!r} is not modelled: {why}", f"TokenSim models {modelled!r} only")
