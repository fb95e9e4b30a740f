"""The scripts of the studies as modules, and an executor for them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

STUDIES = Path(__file__).resolve().parent.parent.parent / "studies"


def script(name: str) -> ModuleType:
    """``studies/NAME.py``, which imports its neighbour ``kit``."""
    if str(STUDIES) not in sys.path:
        sys.path.append(str(STUDIES))
    spec = importlib.util.spec_from_file_location(f"study_{name}", STUDIES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
