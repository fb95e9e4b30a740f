"""The folder that a run will write: checked, and made, before anything runs.

Hours of simulation must not end at a folder that cannot be written, nor overwrite what a slip named.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from tokensim.errors import InputError


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """A folder that was checked; ``made`` are the folders that did not exist before, innermost first."""

    path: Path
    made: tuple[Path, ...]

    def withdraw(self) -> None:
        """Remove the folders that were made, as long as they are empty: the run did not start."""
        for folder in self.made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def prepare_folder(path: Path, *, force: bool) -> OutputFolder:
    """Make sure that a run can be written into ``path``, which is made if absent.

    A folder that holds other things than an earlier run is refused unless ``force``. Raises ``InputError``.
    """
    where, hint = str(path), "give another folder with --output"
    try:
        if path.exists() and not path.is_dir():
            raise InputError("is a file, not a folder", where=where, hint=hint)
        if path.is_dir() and not force:
            _check_contents(path)
        made = tuple(folder for folder in (path, *path.parents) if not folder.exists())
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".write-test"
        probe.write_bytes(b"\0")
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot be written to: {error.strerror or error}", where=where, hint=hint) from None
    return OutputFolder(path, made)


def _check_contents(path: Path) -> None:
    """Refuse a folder with files of others, unless an earlier run wrote its summary there."""
    from tokensim.report.files import RUN_FILES

    names = sorted(entry.name for entry in path.iterdir())
    ours = {*RUN_FILES, *(f".{name}.partial" for name in RUN_FILES)}
    others = [name for name in names if name not in ours]
    if others and "summary.json" not in names:
        shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise InputError(
            f"the folder holds other files ({shown})",
            where=str(path),
            hint="give another folder with --output, or --force to write beside them",
        )
