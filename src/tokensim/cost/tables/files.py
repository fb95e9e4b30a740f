"""Reading what people measured: CSV and YAML files, refused by file and column where they are bad."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokensim.errors import InputError

if TYPE_CHECKING:
    import polars as pl


def normalised(name: str) -> str:
    """Letters and digits of a name in lower case, to compare ``RTX 4090``, ``rtx-4090`` and ``RTX4090``."""
    return "".join(character for character in name.lower() if character.isalnum())


def read_csv(file: Path, columns: Collection[str], texts: Collection[str] = ()) -> pl.DataFrame:
    """A CSV that has ``columns``, which are numbers but for the ``texts``; other columns are kept.

    ``True`` and ``False``, as Python writes them, are booleans. Raises ``InputError`` naming what cannot be
    read, is missing or is not a number.
    """
    import polars as pl

    try:
        frame = pl.read_csv(file, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"cannot be read: {str(error).splitlines()[0]}", where=str(file)) from None
    refuse_missing(file, columns, frame.columns)
    words = pl.selectors.string()
    values = {column.name: set(column.drop_nulls().unique()) for column in frame.select(words)}
    booleans = [name for name, found in values.items() if found and found <= {"True", "False"}]
    frame = frame.with_columns(pl.col(booleans) == "True")
    for name in columns:
        dtype = frame[name].dtype
        if name not in texts and not dtype.is_numeric() and dtype != pl.Boolean:
            raise InputError(
                f"column '{name}' holds {dtype}, not numbers", where=str(file), hint="look for text in it"
            )
    return frame


def refuse_missing(file: Path, columns: Collection[str], present: Collection[str]) -> None:
    """Raise ``InputError`` if ``file`` lacks one of ``columns``."""
    missing = [name for name in columns if name not in present]
    if missing:
        raise InputError(
            f"missing column{'s' if len(missing) > 1 else ''} " + ", ".join(map(repr, missing)),
            where=str(file),
            hint="it has " + ", ".join(present),
        )


def read_mapping(file: Path, needed: Collection[str], hint: str) -> dict[str, Any]:
    """The mapping in a YAML file, with the ``needed`` keys; raises ``InputError``."""
    import yaml

    from tokensim import fast_yaml

    try:
        facts = fast_yaml.load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read: {error}", where=str(file)) from None
    missing = [key for key in needed if not isinstance(facts, dict) or key not in facts]
    if missing:
        raise InputError(f"no {' and no '.join(map(repr, missing))}", where=str(file), hint=hint)
    return dict(facts)
