"""Names to classes: one registry a kind of part, filled by decorators and by plug-ins.

>>> @register.local_scheduler("shortest-first")
... class ShortestFirst(ContinuousBatching): ...

A plug-in is a Python file (``tokensim run --plugin FILE``) or an entry point in the group
``tokensim.plugins``; importing it registers what it defines.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tokensim.errors import InputError, nearest

T = TypeVar("T")


class Registry:
    """The known parts of one kind, by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, Any] = {}

    def __call__(self, name: str) -> Callable[[T], T]:
        """Decorator that registers a class or function under ``name``; a later one replaces an earlier."""

        def add(part: T) -> T:
            self._parts[name] = part
            return part

        return add

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._parts)

    def get(self, name: str, where: str | None = None) -> Any:
        """The part registered under ``name``; raises ``InputError`` with the nearest known name."""
        try:
            return self._parts[name]
        except KeyError:
            raise InputError(
                f"unknown {self.kind} '{name}'",
                where=where,
                hint=nearest(name, self._parts) if self._parts else "none is registered: load a plug-in",
            ) from None


class Register:
    """One registry a kind of part: ``local_scheduler``, ``global_scheduler``, ``gateway_order``,
    ``operator_cost``, ``trace_format``, ``arrival_process``, ``length_distribution``, ``device``, ``model``,
    ``hook``, ``eviction``. The public object is ``tokensim.register``.
    """

    def __init__(self) -> None:
        self.local_scheduler = Registry("local scheduler")
        self.global_scheduler = Registry("global scheduler")
        self.gateway_order = Registry("gateway order")
        self.operator_cost = Registry("operator cost")
        self.trace_format = Registry("trace format")
        self.arrival_process = Registry("arrival process")
        self.length_distribution = Registry("length distribution")
        self.device = Registry("device")
        self.model = Registry("model")
        self.hook = Registry("hook")
        self.eviction = Registry("eviction policy of a memory tier")


register = Register()
"""Every kind of part: ``@register.local_scheduler("mine")`` and so on. ``names()`` lists what is there."""


def load_plugin(path: str | Path) -> None:
    """Import the Python file at ``path`` so that it registers its parts; raises ``InputError``."""
    file = Path(path)
    if not file.is_file():
        raise InputError("no such plug-in file", where=str(file), hint="give the path of a Python file")
    spec = importlib.util.spec_from_file_location(f"tokensim_plugin_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError("not a Python file", where=str(file), hint="a plug-in is a .py file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"the plug-in failed to import: {type(error).__name__}: {error}", where=str(file)
        ) from error


def load_entry_points() -> None:
    """Import every installed plug-in (entry-point group ``tokensim.plugins``)."""
    import importlib.metadata

    for entry in importlib.metadata.entry_points(group="tokensim.plugins"):
        entry.load()
