"""What a table of flags holds, and what comes of reading a command line with it.

Every flag of an engine is one of three: it has a *key* in the scenario; it is *inert*, since no time depends
on it; or it stands *apart*: times may depend on it, and it is not simulated or said elsewhere, and the reader
is told so. A flag that no table knows is refused. Nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Path = tuple[str | int, ...]

Kind = Literal["switch", "value", "values"]
"""What follows a flag: nothing, one word, or all words up to the next flag."""

POOL: Path = ("cluster", "pools", 0)
PARALLEL: Path = (*POOL, "parallel")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag with a key in the scenario.

    ``path`` is that key; ``kind`` what follows the flag; ``read`` makes the key's value of that text (of the
    list of words, where several follow); ``value`` is what a switch sets.
    """

    path: Path
    kind: Kind = "value"
    read: Callable[[Any], Any] = str
    value: Any = True


@dataclass(frozen=True, slots=True)
class Dialect:
    """One engine's command line.

    ``openings`` are the words that start its server, any one of them; ``model`` the flag that names the model
    (beside the first word that is no flag). ``aliases``: other names of flags. ``special`` are flags that
    ``settle`` turns into keys together, once all have been read; their keys are those to which they lead, for
    the documentation. Names have no leading dashes, and dashes within.
    """

    name: str
    openings: tuple[tuple[str, ...], ...]
    model: str
    keys: Mapping[str, Flag]
    special: Mapping[str, Flag]
    inert: Mapping[str, Kind]
    apart: Mapping[str, tuple[Kind, str]]
    settle: Callable[[Translation, Mapping[str, Any]], None]
    aliases: Mapping[str, str] = field(default_factory=dict)
    short: Mapping[str, str] = field(default_factory=dict)
    """Flags with a single dash (``tp``) → their names."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A flag as it was given, and the key with its value that it became."""

    given: str
    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Apart:
    """A flag as it was given that is not in the scenario though times may depend on it, and what to do."""

    given: str
    why: str


@dataclass(slots=True)
class Translation:
    """What a command line says: keys of a scenario, and what is not among them; ``opening`` are the words
    that start the server."""

    engine: str
    opening: str
    model: str | None = None
    taken: list[Taken] = field(default_factory=list)
    inert: list[str] = field(default_factory=list)
    """Names alone: values may be secrets."""
    apart: list[Apart] = field(default_factory=list)

    def take(self, given: str, path: Path, value: Any) -> None:
        """Let ``path`` of the scenario be ``value``, as ``given`` says."""
        self.taken.append(Taken(given, path, value))

    def leave(self, given: str, why: str) -> None:
        """Say that ``given`` stands apart, and ``why``."""
        self.apart.append(Apart(given, why))


def flags(text: str) -> dict[str, Kind]:
    """A table written in words: ``port= headless lora-modules=*`` are a value, a switch, several values."""
    table: dict[str, Kind] = {}
    for word in text.split():
        if word.endswith("=*"):
            table[word[:-2]] = "values"
        elif word.endswith("="):
            table[word[:-1]] = "value"
        else:
            table[word] = "switch"
    return table


def because(why: str, text: str) -> dict[str, tuple[Kind, str]]:
    """The flags of ``text`` (as in ``flags``), all of which stand apart for the reason ``why``."""
    return {name: (kind, why) for name, kind in flags(text).items()}
