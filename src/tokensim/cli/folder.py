"""The folder that a command will write: checked, and made, before anything runs.

Hours of simulation must not end at a folder that cannot be written, nor overwrite what a slip named.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tokensim.errors import InputError

OTHER = "give another folder with --output"


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
    from tokensim.report.files import RUN_FILES

    hint = f"{OTHER}, or --force to write beside them"
    if force:
        return _prepared(path)
    return _prepared(path, partial(_check_contents, files=RUN_FILES, last="summary.json", hint=hint))


def answer_folder(path: Path | None, answer: str) -> Path | None:
    """The same for the folder of an ``answer`` (its file), which may not be wanted."""
    from tokensim.explore.answer_files import REPORT_FILE, SCENARIO_FILE

    if path is None:
        return None
    files = (answer, REPORT_FILE, SCENARIO_FILE)
    return _prepared(path, partial(_check_contents, files=files, last=answer, hint=OTHER)).path


def case_folder(path: Path, *, force: bool) -> OutputFolder:
    """The same for the folder of a recorded case: other files may be in it, an earlier case only with
    ``force``."""
    return _prepared(path) if force else _prepared(path, _check_no_case)


def _prepared(path: Path, check: Callable[[Path], None] | None = None) -> OutputFolder:
    """See ``prepare_folder``; ``check`` refuses what is in a folder that exists."""
    where, hint = str(path), OTHER
    try:
        if path.exists() and not path.is_dir():
            raise InputError("is a file, not a folder", where=where, hint=hint)
        if path.is_dir() and check is not None:
            check(path)
        made = tuple(folder for folder in (path, *path.parents) if not folder.exists())
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".write-test"
        probe.write_bytes(b"\0")
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot be written to: {error.strerror or error}", where=where, hint=hint) from None
    return OutputFolder(path, made)


def _check_no_case(path: Path) -> None:
    """Refuse a folder in which a recording left a case."""
    from tokensim.record.write import FILES

    if any((path / name).exists() for name in FILES):
        raise InputError("there is a case in it already", where=str(path), hint="--force replaces it")


def _check_contents(path: Path, files: Sequence[str], last: str, hint: str) -> None:
    """Refuse a folder with other things than ``files``, unless the same command left its ``last`` there."""
    names = sorted(entry.name for entry in path.iterdir())
    ours = {*files, *(f".{name}.partial" for name in files)}
    others = [name for name in names if name not in ours]
    if others and last not in names:
        shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise InputError(
            f"the folder holds other files ({shown})",
            where=str(path),
            hint=hint,
        )
