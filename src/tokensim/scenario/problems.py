"""What is wrong with a scenario, in the words of its user: where, which value, and what would be right.

pydantic says where (a location full of union tags) and why (``int_type``); here that becomes
``line 7: engine.max_num_seqs: 'many' must be a whole number``. All problems are told, not only the first.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tokensim.errors import InputError, nearest
from tokensim.scenario.section import OverridesOf
from tokensim.scenario.yaml_text import Path, dotted


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right: ``path`` inside the scenario, what is wrong, and a hint."""

    path: Path
    message: str
    hint: str

    def line(self, origins: Mapping[Path, str]) -> str:
        """``line 7: engine.max_num_seqs: … (hint)``."""
        text = f"{self.place(origins)}: {self.message}"
        return f"{text}; {self.hint}" if self.hint else text

    def place(self, origins: Mapping[Path, str]) -> str:
        """Where the value came from, as exactly as known, and its path."""
        path = dotted(self.path) or "the scenario"
        for length in range(len(self.path), 0, -1):
            if origin := origins.get(self.path[:length]):
                return f"{origin}: {path}"
        return path


def refuse(problems: Iterable[Problem], where: str, origins: Mapping[Path, str]) -> InputError:
    """The one error that tells of all ``problems`` of the scenario read from ``where``."""
    told = list(problems)
    if len(told) == 1:
        only = told[0]
        return InputError(only.message, where=f"{where}: {only.place(origins)}", hint=only.hint or None)
    lines = "".join(f"\n  - {problem.line(origins)}" for problem in told)
    return InputError(f"{len(told)} problems{lines}", where=where)


def from_validation(error: ValidationError, root: type[BaseModel], data: Any) -> list[Problem]:
    """The problems in ``error``, found when ``data`` was read as ``root``; one for each place."""
    by_path: dict[Path, Problem] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(data, detail)
        problem = Problem(path, *_explain(detail, path, root, data))
        before = by_path.get(path)
        if before is None:
            by_path[path] = problem
        elif problem.message != before.message:
            by_path[path] = Problem(
                path, f"{before.message}; or: {problem.message}", before.hint or problem.hint
            )
    return sorted(by_path.values(), key=lambda problem: _order(problem.path, data))


def _order(path: Path, data: Any) -> list[int]:
    """Where ``path`` stands in the file, so that problems are told from top to bottom."""
    order: list[int] = []
    for part in path:
        keys = list(data) if isinstance(data, Mapping) else []
        order.append(part if isinstance(part, int) else keys.index(part) if part in keys else len(keys))
        data = _child(data, part)
    return order


def _path_in(data: Any, detail: ErrorDetails) -> Path:
    """The error's location without pydantic's union tags: only the keys and indices that ``data`` has."""
    path: list[str | int] = []
    at = data
    for position, part in enumerate(detail["loc"]):
        last = position == len(detail["loc"]) - 1
        if isinstance(at, Mapping):
            if part in at:
                path.append(part)
                at = at[part]
            elif last and detail["type"] == "missing":
                path.append(part)
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            path.append(part)
            at = at[part]
    return tuple(path)


def known_keys(root: type[BaseModel], path: Path, data: Any = None) -> set[str] | None:
    """The keys that the section at ``path`` may have; None when anything goes there (an inline mapping).

    ``data``, when given, tells the kinds of a section apart (``process: poisson``).
    """
    kinds: list[Any] = [root]
    at = data
    for part in path:
        at = _child(at, part)
        kinds = [inner for kind in kinds for inner in _step(kind, part)]
        kinds = _alike(kinds, at)
    models = [kind for kind in kinds if _is_section(kind)]
    if not models or any(kind is dict or get_origin(kind) is dict for kind in kinds):
        return None
    if any(model.model_config.get("extra") == "allow" for model in models):
        return None
    return {name for model in models for name in model.model_fields}


def near_key(key: str, known: Collection[str], root: type[BaseModel]) -> str:
    """The nearest of ``known`` keys; when none is near, the section of ``root`` that has such a key."""
    if not difflib.get_close_matches(key, known, n=1, cutoff=0.5):
        if key in root.model_fields and key not in known:
            return f"'{key}' stands at the top of the scenario, outside of all sections"
        for section in sorted(root.model_fields):
            if key in (known_keys(root, (section,)) or ()):
                return f"did you mean '{section}.{key}'?"
        if key in (known_keys(root, ("cluster", "pools", 0)) or ()):
            return f"did you mean 'cluster.pools[0].{key}'?"
    return nearest(key, known)


def _child(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _step(kind: Any, part: str | int) -> list[Any]:
    """What may stand under ``part`` of a value of type ``kind``."""
    if isinstance(part, int):
        return _alternatives(get_args(kind)[0]) if get_origin(kind) in (list, tuple) else []
    if not _is_section(kind) or part not in kind.model_fields:
        return []
    field = kind.model_fields[part]
    marks = [mark.section for mark in field.metadata if isinstance(mark, OverridesOf)]
    return marks or _alternatives(field.annotation)


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union, or the type itself, without ``Annotated``."""
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for member in get_args(annotation) for kind in _alternatives(member)]
    return [annotation]


def _alike(kinds: list[Any], data: Any) -> list[Any]:
    """Of several sections, those that a literal field (``process: poisson``) ties to ``data``; else all."""
    if len(kinds) == 1 or not isinstance(data, Mapping):
        return kinds

    def tied(kind: Any) -> bool:
        return _is_section(kind) and any(
            name in data and data[name] in get_args(field.annotation)
            for name, field in kind.model_fields.items()
            if get_origin(field.annotation) is typing.Literal
        )

    return [kind for kind in kinds if tied(kind)] or kinds


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


_WORDS: dict[str, str] = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "dict_type": "must be a section of 'key: value' lines",
    "model_type": "must be a section of 'key: value' lines",
    "model_attributes_type": "must be a section of 'key: value' lines",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}
_BOUNDS: dict[str, tuple[str, str]] = {
    "greater_than_equal": ("must be at least", "ge"),
    "greater_than": ("must be more than", "gt"),
    "less_than_equal": ("must be at most", "le"),
    "less_than": ("must be less than", "lt"),
}


def _explain(detail: ErrorDetails, path: Path, root: type[BaseModel], data: Any) -> tuple[str, str]:
    """(what is wrong, what would be right) of one error."""
    kind, context, value = detail["type"], detail.get("ctx") or {}, detail["input"]
    if kind == "refused":
        return str(context["message"]), str(context["hint"])
    if kind == "missing":
        return "is missing", "it has no default; add it"
    if kind == "extra_forbidden":
        known = known_keys(root, path[:-1], data) or set()
        rest = known - set(_section(data, path[:-1]))
        return "unknown key", near_key(str(path[-1]), rest or known, root) if known else ""
    if kind == "literal_error":
        allowed = [
            text.strip().strip("'\"") for text in str(context["expected"]).replace(" or ", ", ").split(",")
        ]
        return f"unknown value {_shown(value)}", nearest(str(value), allowed)
    if kind == "union_tag_invalid":
        allowed = [text.strip().strip("'\"") for text in str(context["expected_tags"]).split(",")]
        return f"unknown {_tag_name(context)} {_shown(context['tag'])}", nearest(str(context["tag"]), allowed)
    if kind == "union_tag_not_found":
        return f"{_tag_name(context)} is missing", "it says which kind this is; add it"
    if kind == "value_error":
        return str(context["error"]), ""
    if kind == "too_short":
        return "must not be empty", "at least one entry"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{_shown(value)} is not right: {words} {context[bound]:g}", ""
    if kind in _WORDS:
        return f"{_shown(value)} is not right: {_WORDS[kind]}", ""
    return f"{_shown(value)} is not right: {detail['msg']}", ""


def _section(data: Any, path: Path) -> Iterable[Any]:
    for part in path:
        data = _child(data, part)
    return data if isinstance(data, Mapping) else ()


def _tag_name(context: Mapping[str, Any]) -> str:
    return str(context.get("discriminator", "kind")).strip("'\"")


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
