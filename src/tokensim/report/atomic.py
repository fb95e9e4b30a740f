"""Writing a file so that nobody ever sees half of it.

The bytes go to ``.NAME.partial`` in the same folder, are forced to the disk, and only then take the name,
in one step of the file system. A failure removes the partial file; a killed process leaves at most that
one, which the next run into the folder overwrites.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tokensim.errors import SimulationError


def write_atomic(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Let ``write`` fill the file at ``path``, which appears whole or stays as it was.

    Raises ``SimulationError`` naming the file when the folder cannot be written or the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        _remove(partial)
        reason = error.strerror or str(error) or type(error).__name__
        raise SimulationError(
            f"{path}: could not be written: {reason}; an older file is untouched"
        ) from error
    except BaseException:
        _remove(partial)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """The same for bytes that are there already."""

    def write(file: IO[bytes]) -> None:
        file.write(data)

    write_atomic(path, write)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
