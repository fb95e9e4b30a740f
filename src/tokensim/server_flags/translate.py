"""The words of a command line, flag by flag, as keys of a scenario.

A flag may be written with underscores, as ``--flag=value``, and, where it takes JSON, as
``--flag.key value``; ``--no-flag`` is a switch turned off. ``NAME=value`` in front of the command is its
environment, which is not read, and the reader is told so.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from tokensim.errors import InputError, nearest
from tokensim.server_flags.base import Dialect, Flag, Kind, Translation
from tokensim.server_flags.sglang import SGLANG
from tokensim.server_flags.trtllm import TRTLLM
from tokensim.server_flags.vllm import VLLM

DIALECTS = (VLLM, SGLANG, TRTLLM)
VARIABLE = re.compile(r"[A-Za-z_]\w*=")


def translate(command: Sequence[str], *, skip_unknown: bool = False) -> Translation:
    """What the command line that starts a server says; its words, or the whole in one.

    Raises ``InputError`` if it starts none of the servers that are known, or has a flag that no table knows;
    with ``skip_unknown`` such a flag stands apart.
    """
    words = (
        shlex.split(command[0].replace("\\\n", " "), comments=True) if len(command) == 1 else list(command)
    )
    dialect, opening, rest, before = _opened(words)
    found = Translation(dialect.name, opening)
    for word in before:
        if VARIABLE.match(word):
            found.leave(word.partition("=")[0], "the server's environment is not read")
    special: dict[str, Any] = {}
    _read(dialect, rest, found, special, skip_unknown)
    if found.model is None:
        raise InputError(
            "which model does it serve?", where=" ".join(words[:3]), hint="the model comes first"
        )
    dialect.settle(found, special)
    return found


def _opened(words: list[str]) -> tuple[Dialect, str, list[str], list[str]]:
    """The engine, the words that start it, those after, and those before."""
    names = [word.rsplit("/", 1)[-1] for word in words]
    for dialect in DIALECTS:
        for opening in dialect.openings:
            for at in range(len(words) - len(opening) + 1):
                if tuple(names[at : at + len(opening)]) == opening:
                    return dialect, " ".join(opening), words[at + len(opening) :], words[:at]
    raise InputError(
        "no command that starts a server is known in this",
        where=" ".join(words[:4]) or "an empty command line",
        hint="known: " + ", ".join(" ".join(opening) for d in DIALECTS for opening in d.openings),
    )


def _read(
    dialect: Dialect, words: list[str], found: Translation, special: dict[str, Any], skip_unknown: bool
) -> None:
    """Put every flag of ``words`` where it belongs; the words of the special ones into ``special``."""
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-") or word == "-":
            if found.model is not None:
                raise InputError(f"{word!r} is no flag, and the model is {found.model!r}", where=dialect.name)
            found.model = word
            continue
        name, equals, value = _name(word, dialect)
        base, _, key = name.partition(".")
        kind, known = _kind(base, dialect)
        if not known and not skip_unknown:
            raise InputError(
                f"{dialect.name} has no flag {word!r} that is known here",
                where=dialect.name,
                hint=nearest(base, _known(dialect)) + " --skip-unknown goes on without it",
            )
        given = [value] if equals else []
        if kind != "switch" and not equals:
            given = _values(words[at:], 1 if kind == "value" else len(words), dialect)
            at += len(given)
            if known and not given:
                raise InputError("a value is missing", where=word)
        text = word if equals else shlex.join([word, *given])
        _place(dialect, base, key, given, text, found, special, known)


def _name(word: str, dialect: Dialect) -> tuple[str, bool, str]:
    """The name of the flag ``word`` as tables have it, whether a value follows its ``=``, and that value."""
    flag, equals, value = word.partition("=")
    base, dot, key = flag.lstrip("-").partition(".")
    if flag.startswith("--"):
        base = base.replace("_", "-")
        base = dialect.aliases.get(base, base)
    elif base[:1] in dialect.short and base[1:].isdigit():  # -O3
        return dialect.short[base[:1]], True, base[1:]
    else:
        base = dialect.short.get(base, base)
    return base + dot + key, bool(equals), value


def _values(words: list[str], count: int, dialect: Dialect) -> list[str]:
    """The first words, ``count`` at most, before the next flag; a negative number is none."""
    taken: list[str] = []
    for word in words[:count]:
        if word.startswith("--") or (word.startswith("-") and word[1:].partition("=")[0] in dialect.short):
            break
        taken.append(word)
    return taken


def _kind(name: str, dialect: Dialect) -> tuple[Kind, bool]:
    """What follows the flag ``name``, and whether it is known; of an unknown one, all that is no flag."""
    flag = dialect.keys.get(name) or dialect.special.get(name)
    if flag is not None:
        return flag.kind, True
    if name in dialect.inert:
        return dialect.inert[name], True
    if name in dialect.apart:
        return dialect.apart[name][0], True
    if name == dialect.model:
        return "value", True
    off = name.removeprefix("no-")
    if off != name:
        kind, known = _kind(off, dialect)
        if known and kind == "switch":
            return "switch", True
    return "values", False


def _known(dialect: Dialect) -> list[str]:
    """All names of flags, with their dashes."""
    tables = (dialect.keys, dialect.special, dialect.inert, dialect.apart, dialect.aliases, [dialect.model])
    return [f"--{name}" for table in tables for name in table]


def _place(
    dialect: Dialect,
    name: str,
    key: str,
    given: list[str],
    text: str,
    found: Translation,
    special: dict[str, Any],
    known: bool,
) -> None:
    """The flag ``name`` with the words ``given`` after it: taken, kept as special, inert or apart."""
    on = not name.startswith("no-") or name in dialect.inert
    plain = name if on else name.removeprefix("no-")
    if not known:
        found.leave(text, "it is not known")
    elif name == dialect.model:
        found.model = given[0]
    elif plain in dialect.inert:
        found.inert.append(re.split("[ =]", text)[0])
    elif plain in dialect.apart:
        found.leave(text, dialect.apart[plain][1])
    elif plain in dialect.special:
        value = _value(dialect.special[plain], given, on)
        if key:
            part = special.setdefault(plain, {})
            if isinstance(part, dict):
                part[key] = value
            return
        special[plain] = value
    else:
        flag = dialect.keys[plain]
        found.take(text, flag.path, _value(flag, given, on))


def _value(flag: Flag, given: list[str], on: bool) -> Any:
    """What ``flag`` sets its key to."""
    if flag.kind == "switch":
        if given and given[0].lower() not in ("true", "false"):
            raise InputError(f"{given[0]!r} is neither true nor false", where=".".join(map(str, flag.path)))
        said = on and not (given and given[0].lower() == "false")
        return flag.value if said else not flag.value
    return flag.read(given if flag.kind == "values" else given[0])
