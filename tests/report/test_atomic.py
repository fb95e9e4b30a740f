from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tokensim.errors import SimulationError
from tokensim.report.atomic import write_atomic


def test_the_file_appears_with_all_its_bytes(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", lambda file: _put(file, b"new"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"new"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, failure: BaseException) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")

    def write(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise failure

    with pytest.raises((SimulationError, KeyboardInterrupt)) as caught:
        write_atomic(tmp_path / "a.txt", write)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    if isinstance(failure, OSError):
        assert str(caught.value) == (
            f"{tmp_path / 'a.txt'}: could not be written: No space left on device; an older file is untouched"
        )


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"gone/a\.txt: could not be written: No such file"):
        write_atomic(tmp_path / "gone" / "a.txt", lambda file: _put(file, b""))


def test_a_killed_process_leaves_no_half_file(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tokensim.report.atomic import write_atomic\n"
        "def write(file):\n"
        "    file.write(b'x' * 100_000); file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(Path(sys.argv[1]), write)\n"
    )
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=env, check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"
    write_atomic(path, lambda file: _put(file, b"new"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"], "the next run clears up"


def _put(file: IO[bytes], data: bytes) -> None:
    file.write(data)
