"""What the tests of measured times share: small settings, and the real tables where they are."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tokensim.cost.base import Setting
from tokensim.cost.tables.base import COLUMNS, Profile
from tokensim.hardware import load_device

US = 1e-6


def setting(device: str = "h100-sxm-80gb", **changes: Any) -> Setting:
    return Setting(**{"device": load_device(device), "model": "acme/tiny", **changes})


def table(kind: str, rows: Sequence[Sequence[Any]], **same: Any) -> pl.DataFrame:
    """Rows of the columns of ``kind`` that are not in ``same``, then seconds."""
    names = [name for name in COLUMNS[kind] if name not in same]
    frame = pl.DataFrame(rows, schema=[*names, "seconds"], orient="row", infer_schema_length=None)
    return frame.with_columns(pl.lit(value).alias(name) for name, value in same.items())


def profile(**tables: pl.DataFrame) -> Profile:
    return Profile("h100-sxm-80gb", "vllm", "0.24.0", "sample", tables)


@cache
def installed_tables(system: str, kinds: Collection[str]) -> Profile:
    """The real tables of vLLM on ``system``; skips where the extra is not installed."""
    if importlib.util.find_spec("aiconfigurator_core") is None:
        pytest.skip("aiconfigurator-core is not installed")
    from tokensim.cost.tables.aiconfigurator import read_aiconfigurator

    return read_aiconfigurator(system, "vllm", "0.24.0", kinds=kinds)


def llmservingsim_tables(shared: Path, path: str) -> Profile:
    """A profile folder of the reference data; skips where it is absent."""
    from tokensim.cost.tables.llmservingsim import find_llmservingsim, read_llmservingsim

    folder = shared / "profiles" / "llmservingsim" / path
    if not folder.is_dir():
        pytest.skip(f"the profile {path} is not in the reference data")
    return read_llmservingsim(find_llmservingsim(folder)[0])


def at(time: Any, rows: float) -> float:
    """Seconds of a ``RowTime`` for one number of rows."""
    return float(time.seconds(np.array([float(rows)]))[0])
