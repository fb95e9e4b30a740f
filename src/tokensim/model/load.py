"""Which model a name, a path or a mapping means: the catalog, files, inline configs, registered models.

The catalog is one YAML file a publisher (``catalog/meta-llama.yaml`` holds ``meta-llama/...``), so that one
model is one file to read. An entry has ``config`` (the fields of the model's ``config.json`` that matter
here), ``source``, ``published_parameters`` and ``variants``: ids that share the config, with the fields in
which they differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tokensim.errors import InputError, nearest
from tokensim.model.base import ModelSpec
from tokensim.model.config import from_config, parse
from tokensim.registry import register

_CATALOG = Path(__file__).with_name("catalog")


def load_model(ref: str | Path | Mapping[str, Any], where: str = "model") -> ModelSpec:
    """The model that ``ref`` means.

    ``ref`` is a registered name, a catalog id (in any case), the path of a ``config.json`` or of the folder
    that holds one, a mapping with the fields of a ``config.json``, or ``{base: id or path, field: value,
    ...}``. ``where`` is what errors call the reference. Raises ``InputError``.
    """
    if isinstance(ref, Mapping):
        return _inline(ref, where)
    if not isinstance(ref, str | Path):
        raise InputError(
            f"must be a name, a path or a mapping, got {ref!r}", where=where, hint="for example Qwen/Qwen3-8B"
        )
    if isinstance(ref, str) and ref in register.model.names():
        return _registered(ref, where)
    config, name, source = _find(ref, where)
    return replace(from_config(config, name, f"{where}: {name}"), source=source or name)


def catalog_names() -> list[str]:
    """Every id of the catalog, variants included, sorted."""
    return sorted(name for file in _CATALOG.glob("*.yaml") for name, _, _ in _ids(file.stem))


def published_parameters() -> dict[str, int]:
    """The published parameter count of each model of the catalog, without its variants."""
    return {
        name: int(entry["published_parameters"])
        for file in sorted(_CATALOG.glob("*.yaml"))
        for name, entry in _publisher(file.stem).items()
    }


@cache
def _publisher(stem: str) -> dict[str, Any]:
    """The entries of one catalog file; empty if there is none."""
    from tokensim import fast_yaml

    file = next((f for f in _CATALOG.glob("*.yaml") if f.stem == stem), None)
    if file is None:
        return {}
    entries: dict[str, Any] = fast_yaml.load(file.read_text("utf-8"))
    return entries


def _ids(stem: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every id of one file with its entry and the fields in which it differs."""
    for name, entry in _publisher(stem).items():
        yield name, entry, {}
        for variant, fields in entry.get("variants", {}).items():
            yield variant, entry, fields


def _find(ref: str | Path, where: str) -> tuple[dict[str, Any], str, str]:
    """The config, the name and the source (empty for a file, which is its own) of an id or a path."""
    text = str(ref)
    if isinstance(ref, str):
        for name, entry, fields in _ids(text.split("/")[0].lower()) if "/" in text else ():
            if name.lower() == text.lower():
                return {**entry["config"], **fields}, name, str(entry["source"])
    path = Path(ref).expanduser()
    try:
        is_there = path.exists()
    except (OSError, ValueError):  # too long, or a null byte
        is_there = False
    if is_there:
        return _read(path, where)
    if isinstance(ref, Path) or text.endswith(".json") or text.startswith((".", "/", "~")):
        raise InputError(
            f"no such file or folder '{text}'", where=where, hint="give the path of a config.json"
        )
    raise InputError(
        f"unknown model '{text}'",
        where=where,
        hint=nearest(text, catalog_names() + register.model.names()) + " A path to a config.json works too.",
    )


def _read(path: Path, where: str) -> tuple[dict[str, Any], str, str]:
    """The config in a file, or in the ``config.json`` of a folder."""
    file = path / "config.json" if path.is_dir() else path
    at = f"{where}: {file}"
    hint = "give the config.json that comes with the model's weights"
    try:
        config = json.loads(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise InputError("the folder has no config.json", where=f"{where}: {path}", hint=hint) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=at) from None
    except UnicodeDecodeError:
        raise InputError("is not a text file", where=at, hint=hint) from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"is not valid JSON: {error}", where=at, hint=hint) from None
    if not isinstance(config, dict):
        raise InputError(f"must hold a JSON object, got {type(config).__name__}", where=at, hint=hint)
    return config, str(file), ""


def _inline(ref: Mapping[str, Any], where: str) -> ModelSpec:
    """A config written into the scenario, whole or as changes to a ``base``."""
    fields = dict(ref)
    label = fields.pop("name", None)
    if label is not None and not isinstance(label, str):
        raise InputError(f"must be text, got {label!r}", where=f"{where}.name")
    if "base" not in fields:
        return from_config(fields, label or str(fields.get("model_type")), where)
    base = fields.pop("base")
    if not isinstance(base, str | Path):
        raise InputError(f"must be a catalog id or a path, got {base!r}", where=f"{where}.base")
    config, name, source = _find(base, f"{where}.base")
    nested = isinstance(config.get("text_config"), dict)
    changed = (
        {**config, "text_config": {**config["text_config"], **fields}} if nested else {**config, **fields}
    )
    model, read = parse(changed, label or f"{name} (changed)", where)
    for field in fields:
        if field not in read:
            raise InputError(
                f"'{field}' has no influence on the cost of a {config.get('model_type')} model",
                where=where,
                hint=nearest(field, read),
            )
    return replace(model, source=f"{source or name}, changed: {', '.join(fields) or 'nothing'}")


def _registered(name: str, where: str) -> ModelSpec:
    """A model that a user registered: a ``ModelSpec``, or a function that returns one."""
    part = register.model.get(name, where)
    model = part() if callable(part) else part
    if not isinstance(model, ModelSpec):
        raise InputError(
            f"the model registered as '{name}' is a {type(model).__name__}",
            where=where,
            hint="register a ModelSpec, or a function without arguments that returns one",
        )
    return model
