"""A file that a scenario names: where it is, its bytes (``.gz`` too), and from these what kind it is."""

from __future__ import annotations

import difflib
import gzip
import zlib
from pathlib import Path
from typing import Literal

from tokensim.errors import InputError

Kind = Literal["csv", "jsonl", "json", "parquet"]


def resolve(path: str | Path, base_dir: Path) -> Path:
    """``path`` as a scenario in the folder ``base_dir`` means it; ``~`` is home."""
    return base_dir / Path(path).expanduser()


def read_bytes(path: Path) -> bytes:
    """The file's bytes, unpacked if gzip; raises ``InputError`` for one absent, empty or damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        hint = _near_files(path)
        raise InputError("no such file", where=str(path), hint=hint) from None
    except IsADirectoryError:
        raise InputError("is a folder", where=str(path), hint="give the path of a file") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"the gzip file is truncated or damaged ({error})", where=str(path), hint="fetch it again"
            ) from None
    if not data.strip():
        raise InputError("the file is empty", where=str(path), hint="a trace has one request a row")
    return data


def _near_files(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = [p.name for p in folder.iterdir() if p.is_file()]
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if not close:
        return f"there is none like it in {folder}"
    return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"


def as_text(data: bytes, path: Path) -> bytes:
    """``data`` without a byte-order mark; raises ``InputError`` if it is binary or not UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError("the file is UTF-16", where=str(path), hint="save it as UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\x00" in data:
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        raise InputError(
            "the file is binary, not text",
            where=f"{path}, line {line}",
            hint="a trace is CSV, JSON lines or Parquet (gzip welcome)",
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"byte 0x{data[error.start]:02x} is not UTF-8",
            where=f"{path}, line {line}",
            hint="save it as UTF-8",
        ) from None
    return data


def kind_of(data: bytes) -> Kind:
    """What ``data`` is, from its first bytes."""
    if data[:4] == b"PAR1":
        return "parquet"
    first = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"[":
        return "json"
    return "jsonl" if first == b"{" else "csv"
