"""Trace formats: one module each, found by the content of the file."""

from __future__ import annotations

from pathlib import Path

from tokensim.errors import InputError, nearest
from tokensim.registry import register
from tokensim.scenario.workload import TraceSpec
from tokensim.workload.traces import (  # noqa: F401  (importing registers)
    azure,
    burstgpt,
    generic,
    mooncake,
    qwen_bailian,
    sharegpt,
)
from tokensim.workload.traces.base import TraceFile, TraceFormat, TraceRows

__all__ = ["TraceFile", "TraceFormat", "TraceRows", "read_trace"]

_OPTIONAL = ("columns", "time_unit", "tokenizer", "characters_per_token", "hash_block_tokens", "options")
_COLUMNS = {
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
    "mooncake": ("timestamp", "input_length", "output_length"),
    "qwen-bailian": ("chat_id", "timestamp", "input_length", "output_length"),
    "sharegpt": ("conversations",),
    "generic": ("arrival_s", "input_tokens", "output_tokens"),
}


def read_trace(path: Path, spec: TraceSpec, base_dir: Path) -> TraceRows:
    """All requests of the file ``path``, read as ``spec.format`` or as the format that its content has.

    Raises ``InputError`` for a file that is bad or of no known format, and for a key that the format does not
    use.
    """
    file = TraceFile.read(path, spec, base_dir)
    name = spec.format if spec.format != "auto" else _recognise(file)
    reader: TraceFormat = register.trace_format.get(name, where="workload.trace.format")()
    for key in _OPTIONAL:
        if getattr(spec, key) not in (None, {}) and key not in reader.uses:
            raise InputError(
                f"a trace of format '{name}' does not use {key}",
                where=f"workload.trace.{key}",
                hint="leave it out" + (", or set format: generic" if key in generic.Generic.uses else ""),
            )
    if name != "sharegpt" and name in _COLUMNS and file.kind == "json":
        raise InputError(
            f"is one JSON document, and '{name}' is a table", where=str(path), hint="write one object a line"
        )
    return reader.read(file)


def _recognise(file: TraceFile) -> str:
    found = [
        name for name in register.trace_format.names() if register.trace_format.get(name)().recognises(file)
    ]
    if file.spec.columns is not None and "generic" in found:
        return "generic"
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"could be {' or '.join(found)}", where=str(file.path), hint="set workload.trace.format"
        )
    if file.kind == "json":
        raise InputError(
            "is one JSON document, and no list of conversations (ShareGPT)",
            where=str(file.path),
            hint="write a table: one JSON object a line, CSV or Parquet",
        )
    names = file.names
    known = [column for columns in _COLUMNS.values() for column in columns]
    typo = next(
        (f"'{n}': {hint}" for n in names if n not in known and (hint := nearest(n, known)).startswith("did")),
        None,
    )
    raise InputError(
        "no known trace format: its columns are " + ", ".join(names[:12]),
        where=str(file.path),
        hint=(typo + "\n  " if typo else "")
        + "say which is which: columns: {arrival_s: ..., input_tokens: ..., ...}\n  or rename: "
        + "; ".join(f"{name} has {', '.join(columns)}" for name, columns in _COLUMNS.items()),
    )
