"""Reader of the operator times in aiconfigurator-core (extra ``measured``): parquet files inside its wheel.

The files are read where they are; the package's own code is not imported. ``package.py`` says what is in
them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.cost.tables.base import COLUMNS, Profile, checked, identity
from tokensim.cost.tables.elsewhere import library_gemms, with_same_kernels
from tokensim.cost.tables.package import TABLES, files_of, rows_of
from tokensim.cost.tables.versions import by_nearness
from tokensim.errors import InputError, nearest

if TYPE_CHECKING:
    import polars as pl

PACKAGE = "aiconfigurator_core"
INSTALL = "pip install 'tokensim[measured]' (it brings aiconfigurator-core 0.12)"

KINDS = tuple(dict.fromkeys([*(table.kind for table in TABLES), "gemm_elsewhere"]))
"""The kinds that can be read. Left out: encoder, sparse and linear attention, quantisation kernels, and the
tables of DeepEP deployments (``wideep_*``, ``moe_a2a``), whose scope differs from layer to layer."""


def data_folder(root: Path | None = None) -> Path:
    """The folder with a folder a system: of the installed package, or at ``root`` or below it.

    ``root`` may be the wheel unpacked, the package, its ``systems`` or ``systems/data``. Raises
    ``InputError``.
    """
    if root is None:
        spec = importlib.util.find_spec(PACKAGE)
        locations = list(spec.submodule_search_locations or []) if spec else []
        if not locations:
            raise InputError("aiconfigurator-core is not installed", where="aiconfigurator", hint=INSTALL)
        root = Path(locations[0])
    folder = find_data(root)
    if folder is None:
        raise InputError(
            "no tables of aiconfigurator-core here",
            where=str(root),
            hint="expected systems/data/<system>/gemm/<engine>/<version>/gemm_perf.parquet",
        )
    return folder


def find_data(root: Path) -> Path | None:
    """The folder with a folder a system at ``root`` or below it; None if there is none."""
    for below in ("", "data", "systems/data", f"{PACKAGE}/systems/data"):
        if any((root / below).glob("*/gemm/*/*/gemm_perf.parquet")):
            return root / below
    return None


def systems(root: Path | None = None) -> dict[str, list[str]]:
    """The systems (devices) that have measurements, by the names of the package, with their engines."""
    found: dict[str, set[str]] = {}
    for file in data_folder(root).glob("*/gemm/*/*/gemm_perf.parquet"):
        found.setdefault(file.parents[3].name, set()).add(file.parents[1].name)
    return {system: sorted(found[system]) for system in sorted(found)}


def versions(system: str, engine: str, root: Path | None = None) -> dict[str, list[str]]:
    """The measured versions of each kind for one engine, the newest first; absent kinds are left out."""
    known: dict[str, set[str]] = {}
    for table in TABLES:
        known.setdefault(table.kind, set()).update(files_of(data_folder(root), system, engine, table))
    return {kind: by_nearness("", found) for kind, found in known.items() if found}


def read_aiconfigurator(
    system: str,
    engine: str,
    version: str = "",
    *,
    kinds: Collection[str] | None = None,
    root: Path | None = None,
    device: str | None = None,
) -> Profile:
    """The tables of one system and engine, of the measured versions nearest to ``version`` (empty: newest).

    Only the files of the wanted ``kinds`` (default: all of ``KINDS``) are opened. What the nearest version
    lacks (another dtype, another model's experts) is taken from the next nearest; ``notes`` say which version
    each kind is. NCCL and oneCCL are of their newest version. ``device`` is the name for the profile
    (default: the system's). Raises ``InputError`` for a system or engine without measurements.
    """
    folder = data_folder(root)
    where = f"aiconfigurator ({folder})"
    known = systems(root)
    if system not in known:
        raise InputError(f"no measurements of '{system}'", where=where, hint=nearest(system, known))
    if engine not in known[system]:
        raise InputError(
            f"no measurements of '{system}' under the engine '{engine}'",
            where=where,
            hint="measured there: " + ", ".join(known[system]),
        )
    tables: dict[str, pl.DataFrame] = {}
    notes: list[str] = []
    used: list[str] = []
    for kind in KINDS if kinds is None else [kind for kind in KINDS if kind in kinds]:
        if kind == "gemm_elsewhere":
            frame, said = library_gemms(folder, system, [e for e in known[system] if e != engine])
            taken: list[str] = []
        else:
            frame, taken, said = _read_kind(folder, system, engine, version, kind)
        if kind == "decode_attention" and frame is not None:
            others = [e for e in known[system] if e != engine]
            frame, more = with_same_kernels(folder, system, engine, others, frame)
            said += more
        notes += said
        if frame is not None:
            tables[kind] = frame
            used += [name for name in taken if name not in used]
    return Profile(
        device=device or system,
        engine=engine,
        version=used[0] if used else "",
        source=f"{_release(folder)}, {system}",
        tables=tables,
        provenance={"licence": "Apache-2.0", "system": system, "kernels": "the fastest of each shape"},
        notes=tuple(notes),
    )


def _release(folder: Path) -> str:
    """The name and version of the package that holds ``folder``."""
    for parent in folder.resolve().parents[:3]:
        for info in parent.glob(f"{PACKAGE}-*.dist-info"):
            return "aiconfigurator-core " + info.name.removesuffix(".dist-info").split("-")[1]
    return "aiconfigurator-core"


def _read_kind(
    folder: Path, system: str, engine: str, version: str, kind: str
) -> tuple[pl.DataFrame | None, list[str], list[str]]:
    """One kind's table (None: not measured), the engine's versions in it, and notes."""
    import polars as pl

    parts: list[pl.DataFrame] = []
    taken: list[str] = []
    notes: list[str] = []
    for table in (table for table in TABLES if table.kind == kind):
        files = files_of(folder, system, engine, table)
        frame: pl.DataFrame | None = None
        used: list[str] = []
        for name in by_nearness("" if table.library else version, files):
            more = rows_of(files[name], table, engine)
            if frame is not None:
                more = more.join(frame, on=identity(kind), how="anti")
            if not more.is_empty():
                more = checked(kind, more, str(files[name]))[0]
                frame = more if frame is None else pl.concat([frame, more])
                used.append(name)
        if frame is None:
            continue
        parts.append(frame)
        if not table.library:
            taken += used
        others = f"; from {', '.join(used[1:])} what it lacks" if len(used) > 1 else ""
        notes.append(f"{kind} ({table.file}): version {used[0]}{others}")
    return (pl.concat(parts).sort(list(COLUMNS[kind])) if parts else None), taken, notes
