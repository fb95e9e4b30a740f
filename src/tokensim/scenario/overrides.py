"""``--set engine.max_num_seqs=512``: single values put on top of a scenario file."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokensim.errors import InputError
from tokensim.scenario.problems import known_keys, near_key
from tokensim.scenario.schema import Scenario
from tokensim.scenario.yaml_text import Path, dotted, parse

_PART = re.compile(r"([^.\[\]]+)((?:\[-?\d+\])*)")


def apply_overrides(mapping: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``mapping`` with every ``path=value`` of ``overrides`` set, in their order.

    Values are YAML: ``8``, ``true``, ``null``, ``500ms``, ``[1, 2]``, ``{policy: round-robin}``. Sections
    that the file leaves out are made; list entries must be there. Raises ``InputError`` for a path that the
    schema does not know, an index out of range, or a text without ``=``.
    """
    data = copy.deepcopy(dict(mapping))
    for override in overrides:
        path, value = parse_override(override)
        set_value(data, path, value, where=f"--set {override}")
    return data


def parse_override(override: str) -> tuple[Path, Any]:
    """``"a.b[0].c=512"`` → ``(("a", "b", 0, "c"), 512)``; raises ``InputError``."""
    where = f"--set {override}"
    name, equals, text = override.partition("=")
    if not equals:
        raise InputError("no '=' in it", where=where, hint="write path=value: --set engine.max_num_seqs=512")
    return parse_path(name.strip(), where), parse(text, where)[0]


def parse_path(name: str, where: str) -> Path:
    """``"a.b[0].c"`` → ``("a", "b", 0, "c")``; raises ``InputError`` at ``where``."""
    path: list[str | int] = []
    for part in name.split("."):
        match = _PART.fullmatch(part)
        if match is None:
            raise InputError(
                f"'{name}' is not a path",
                where=where,
                hint="e.g. engine.block_size or cluster.pools[0].hardware",
            )
        path.append(match[1])
        path += [int(index) for index in re.findall(r"-?\d+", match[2])]
    return tuple(path)


def set_value(data: dict[str, Any], path: Path, value: Any, where: str) -> None:
    """Set ``path`` in ``data`` (changed in place) to ``value``; raises ``InputError`` at ``where``."""
    at: Any = data
    for depth, part in enumerate(path):
        here = dotted(path[:depth]) or "the scenario"
        last = depth == len(path) - 1
        if isinstance(part, int):
            if not isinstance(at, list):
                raise InputError(f"{here} is not a list", where=where, hint=f"leave out the [{part}]")
            if not 0 <= part < len(at):
                there = f"{len(at)}, counted from 0" if at else "none"
                raise InputError(
                    f"{here} has no entry {part}",
                    where=where,
                    hint=f"it has {there}; set the whole list to lengthen it: {here}=[…]",
                )
            if last:
                at[part] = value
            elif at[part] is None:
                at[part] = {}
            at = at[part]
            continue
        if isinstance(at, list):
            raise InputError(f"{here} is a list", where=where, hint=f"say which entry: {here}[0].{part}")
        if not isinstance(at, dict):
            raise InputError(
                f"{here} is {at!r}, not a section", where=where, hint=f"set the whole: {here}={{{part}: …}}"
            )
        known = known_keys(Scenario, path[:depth], data)
        if known is not None and part not in known and part not in at:
            raise InputError(
                f"unknown key '{part}' in {here}", where=where, hint=near_key(part, known, Scenario)
            )
        if last:
            at[part] = value
        else:
            at = _enter(at, part, path[depth + 1])


def _enter(at: dict[str, Any], part: str, following: str | int) -> Any:
    """The value under ``part``, made an empty section (or list) where there is none yet."""
    if at.get(part) is None:
        at[part] = [] if isinstance(following, int) else {}
    return at[part]
