"""Engines' kernels, which are measured where they are installed."""

from __future__ import annotations

import importlib
import os
from typing import Any


def optional(module: str) -> Any:
    """The module, or None where it is absent or cannot be imported: without nvcc, for another device, ..."""
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")  # vLLM logs to standard output, where --json goes
    try:
        return importlib.import_module(module)
    except Exception:  # whatever an import does that was not made for this machine
        return None
