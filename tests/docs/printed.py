"""What a Python block of a page prints, for the page to show below it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def printed(root: Path, page: Path, number: int, environment: Mapping[str, str]) -> str:
    """The output of block ``number`` (from 1) of ``page``, in a folder with the examples of ``root``."""
    block = PYTHON.findall((root / page).read_text(encoding="utf-8"))[number - 1]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(root / "examples")
        command = [sys.executable, "-c", block]
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True
        )
    return done.stdout
