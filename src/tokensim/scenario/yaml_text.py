"""YAML as scenarios use it: no key twice, no surprises in scalars, and the line of every value.

Scalars follow the YAML 1.2 core schema, unlike PyYAML's own 1.1: ``1e6`` is a number, while ``on``, ``no``,
``1:30`` and ``2024-01-01`` are texts.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from tokensim.errors import InputError

Path = tuple[str | int, ...]
"""Where a value stands: ``("cluster", "pools", 0, "hardware")``."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML version would not read back as a text."""


_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_CORE: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("tag:yaml.org,2002:int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), "-+0123456789"),
    ("tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), "-+0123456789."),
    ("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), "~nN\0"),
    ("tag:yaml.org,2002:merge", re.compile(r"<<$"), "<"),
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(
        _tag, _pattern, [*_first.replace("\0", ""), *([""] if "\0" in _first else [])]
    )
    if _tag.endswith("float"):
        _Dumper.add_implicit_resolver(_tag, _pattern, list(_first))


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if text.startswith("0o"):
        return int(text[2:], 8)
    return int(text, 16) if text.startswith("0x") else int(text)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Quoted and escaped where a line break or another unprintable character would not survive."""
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def parse(text: str, where: str) -> tuple[Any, dict[Path, int]]:
    """The content of one YAML document, and the line (from 1) at which each value of it starts.

    Raises ``InputError`` that names ``where`` and the line: broken syntax, a key given twice, more documents.
    """
    lines: dict[Path, int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, lines
        _walk(node, (), lines, set(), (), where)
        return loader.construct_document(node), lines
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(
            f"not valid YAML: {error.problem or error.context}",
            where=f"{where}{line}",
            hint="look at this line and the one before it: indentation, a colon, a quote or a bracket",
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(
            f"not valid YAML: {str(error).splitlines()[0] or type(error).__name__}", where=where
        ) from None


def _walk(
    node: yaml.Node, path: Path, lines: dict[Path, int], seen: set[int], above: tuple[int, ...], where: str
) -> None:
    """Note the line of ``node`` and all below it; refuse a key given twice, and an alias of what it is in."""
    lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in above:
        raise InputError(
            f"{dotted(path)} is an alias of a section that it stands in",
            where=f"{where}:{node.start_mark.line + 1}",
            hint="write the value out instead of the alias",
        )
    if id(node) in seen:
        return
    seen.add(id(node))
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), lines, seen, above, where)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not isinstance(key, yaml.ScalarNode):
                raise InputError("a key must be a name", where=f"{where}:{line}", hint="write 'key: value'")
            if name in first:
                raise InputError(
                    f"the key '{name}' is given twice",
                    where=f"{where}:{line}: {dotted((*path, name))}",
                    hint=f"it stands in line {first[name]} already; keep one of them",
                )
            first[name] = line
            _walk(value, (*path, name), lines, seen, above, where)
            lines[(*path, name)] = line


def dotted(path: Path) -> str:
    """``("cluster", "pools", 0, "role")`` as ``cluster.pools[0].role``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def undotted(text: str) -> Path | None:
    """The path that ``dotted`` wrote as ``text``; None if it is none."""
    path: list[str | int] = []
    for part in text.split("."):
        match = re.fullmatch(r"([^.\[\]\s:/]+)((?:\[-?\d+\])*)", part)
        if match is None:
            return None
        path += [match[1], *(int(index) for index in re.findall(r"-?\d+", match[2]))]
    return tuple(path)


def dump(data: Any) -> str:
    """``data`` as YAML in block style, keys in their order; ``parse`` gives it back."""
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100
    )
