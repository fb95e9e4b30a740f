"""The scripts of ``studies/`` as modules: their file names begin with a number, so ``import`` cannot."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).parents[2] / "studies"


def script(name: str) -> Any:
    """The module ``studies/NAME.py``."""
    if str(STUDIES) not in sys.path:
        sys.path.append(str(STUDIES))
    return importlib.import_module(name)
