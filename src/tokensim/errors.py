"""The two errors that a user of TokenSim meets, the way to suggest a near name, and the way to name a plug-in
that fails."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """The input was refused before anything ran (exit code 2).

    ``where`` names the file, line, or path inside the scenario (``cluster.pools[0].parallel.tensor``);
    ``hint`` says what would be right.
    """

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.where = where
        self.hint = hint
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text}\n  {hint}" if hint else text)


class SimulationError(RuntimeError):
    """The simulation started and could not be completed (exit code 1)."""


def asked(kind: str, part: object, method: str, act: Callable[..., T], *what: object) -> T:
    """``act(*what)``, which is ``method`` of ``part``, a user's own of that ``kind``; raises
    ``SimulationError`` that names it if that fails."""
    try:
        return act(*what)
    except (SimulationError, InputError):
        raise
    except Exception as error:
        raise SimulationError(
            f"the {kind} {type(part).__name__} failed in {method}: {type(error).__name__}: {error}"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known names nearest to ``name``: ``did you mean 'h100-sxm-80gb'?``."""
    names = sorted(known)
    lowered = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{lowered[c]}'" for c in close) + "?"
    if all(n.isdigit() for n in names):
        names.sort(key=int)
    return "known: " + ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
