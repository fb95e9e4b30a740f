"""What a session leaves: tables in the project's own format, and a device file that goes with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tokensim.cost.tables.base import COLUMNS, Profile, checked
from tokensim.cost.tables.native import write_profile
from tokensim.hardware.base import PCIE_5
from tokensim.profiling.bench import Facts, Rates
from tokensim.profiling.session import Outcome
from tokensim.profiling.shapes import work
from tokensim.profiling.store import Record
from tokensim.report.atomic import write_bytes

if TYPE_CHECKING:
    import polars as pl

ENGINE = "torch"
"""The engine of the tables: no serving engine ran."""

DEVICE_FILE = "device.yaml"

LARGE = 0.5
"""GEMMs with at least this share of the FLOPs of the largest show the peak that a device reaches."""

MEMORY_S = 0.1e-6
"""Latency of a copy within memory: an access (as in the catalog's sapphire-rapids-512gb)."""

ETHERNET = {"name": "Ethernet 100 Gb/s", "bandwidth": 12.5e9, "latency": 20e-6}
"""Between nodes, which is not measured: 100 Gb/s, and a kernel TCP round trip within a rack."""


def profile_of(
    records: Iterable[Record], facts: Facts, what: str, outcome: Outcome, told: Mapping[str, str]
) -> Profile:
    """The measured tables; ``told`` joins the provenance. Tables are absent where nothing was measured."""
    records = list(records)
    rows: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record.measurement is not None:
            rows.setdefault(record.shape.kind, []).append(_row(record))
    if "mixed_attention" in rows:  # whose grid has the decodes alone, too
        rows["mixed_attention"] += _pure_decodes(rows)
    tables = {kind: _table(kind, rows[kind]) for kind in COLUMNS if kind in rows}
    provenance = {"measured": what, **facts.provenance, **told, "interpolation": _claim(outcome)}
    notes = [
        *(f"{name} is not measured: {why}" for name, why in facts.lacking.items()),
        *([f"{outcome.noisy} shapes vary by more than the error asked for"] if outcome.noisy else []),
        *(f"{count} shapes are not measured: {why}" for why, count in outcome.refused.items()),
    ]
    source = f"tokensim profile, PyTorch {facts.version}"
    return Profile(facts.slug, ENGINE, facts.version, source, tables, provenance, tuple(notes))


def write(
    folder: Path,
    profile: Profile,
    records: Iterable[Record],
    facts: Facts,
    rates: Rates,
    base: str | None = None,
) -> list[Path]:
    """Write the tables and the device file into ``folder``; returns the paths. ``base`` is a device of the
    catalog whose price, power and links the file keeps."""
    import yaml

    records = list(records)
    paths = write_profile(profile, folder) if profile.tables else []
    head = (
        f"# {facts.name}, as `tokensim profile` measured it ({facts.provenance.get('date', 'no date')}):"
        " rates that the device reaches, so that all efficiencies refer to them.\n"
    )
    text = yaml.safe_dump(device_fields(records, facts, rates, base), sort_keys=False, width=110)
    file = folder / DEVICE_FILE
    write_bytes(file, (head + text).encode())
    return [*paths, file]


def device_fields(
    records: Sequence[Record], facts: Facts, rates: Rates, base: str | None = None
) -> dict[str, Any]:
    """The device file's content, in SI units (``hardware.loading``)."""
    flops = {dtype: _rounded(rate) for dtype, rate in peaks(records, rates).items()}
    dense = max(flops.get(name, 0.0) for name in ("bfloat16", "float16", "float32"))
    attention = _reached(records, "prefill_attention")
    share = min(1.0, attention / dense) if attention and dense else 1.0
    how = "" if attention else " (attention: not measured, as GEMMs)"
    measured = f"tokensim profile, PyTorch {facts.version}"
    fields: dict[str, Any] = {
        "name": facts.name,
        "memory": facts.memory_bytes,
        "memory_bandwidth": _rounded(rates.memory_bytes_per_s),
        "flops": flops,
        "efficiency": {
            "gemm": 1.0,
            "attention": _rounded(share),
            "memory": 1.0,
            "kernel_overhead": _rounded(rates.kernel_s),
            "source": f"{measured}: shares of the rates above, which are measured ones{how}",
        },
        "profiles": {"tokensim": facts.slug},
    }
    sources = {
        "flops": f"{measured}: median of the largest GEMMs of each format",
        "memory": "total that the system reports",
        "memory_bandwidth": f"{measured}: the faster of reading and copying more than the cache holds",
    }
    if rates.host_link is not None:
        fields["host_link"] = _link(*rates.host_link)
        sources["host_link"] = f"{measured}: the slower direction, pinned memory"
    if rates.peer_link is not None:
        fields["intra_node"] = _link(*rates.peer_link)
        sources["intra_node"] = f"{measured}: copies from one device to the next"
    if base is not None:
        return {"base": base, **fields, "sources": sources}
    return _whole(fields, sources, facts, rates)


def peaks(records: Sequence[Record], rates: Rates) -> dict[str, float]:
    """FLOP/s by compute dtype: the median of the largest GEMMs, or what ``rates`` found for formats whose
    GEMMs are in no table or smaller than that."""
    found = dict(rates.flops)
    for dtype, rate in rates.flops.items():
        largest = _largest(r for r in records if r.shape.kind == "gemm" and r.shape["dtype"] == dtype)
        if largest:
            found[dtype] = max(rate, median(largest))
    return found


def _whole(fields: dict[str, Any], sources: dict[str, str], facts: Facts, rates: Rates) -> dict[str, Any]:
    """A device that no catalog knows: what cannot be measured is a stand-in whose source says so."""
    fields = {
        "name": fields.pop("name"),
        "vendor": facts.vendor,
        "kind": facts.kind,
        "architecture": facts.architecture,
        **fields,
    }
    if facts.kind == "cpu":
        for key in ("intra_node", "host_link"):
            fields.setdefault(key, _link("memory to memory", rates.memory_bytes_per_s / 2, MEMORY_S))
            sources.setdefault(key, "a copy reads and writes memory, at half of its measured bandwidth")
    else:
        link = _link(PCIE_5.name, PCIE_5.bandwidth_bytes_per_s, PCIE_5.latency_s)
        fields.setdefault("intra_node", link)
        sources.setdefault("intra_node", "not measured: PCIe 5.0 x16 stands in")
    power = facts.tdp_w or 300.0
    return {
        **fields,
        "inter_node": ETHERNET,
        "devices_per_node": max(1, facts.devices),
        "tdp": power,
        "idle_power": _rounded(0.2 * power),
        "price_per_hour_usd": 0.0,
        "sources": {
            **sources,
            "inter_node": "not measured: a usual network stands in; set your own",
            "devices_per_node": "devices seen by PyTorch, or ranks asked for",
            "tdp": facts.tdp_source or "not known: 300 W stand in; set your own",
            "idle_power": "not measured: a fifth of the power stands in; set your own",
            "price_per_hour_usd": "not known: set your own",
        },
    }


def _row(record: Record) -> dict[str, Any]:
    measured = record.measurement
    assert measured is not None
    row: dict[str, Any] = dict(record.shape.values)
    row.update(seconds=measured.seconds, spread=measured.spread)
    if measured.hot_seconds is not None:
        row["hot_seconds"] = measured.hot_seconds
    if record.shape.kind == "experts":
        row["activated"] = None
    return row


def _pure_decodes(rows: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    shapes = {(row["heads"], row["kv_heads"], row["head_dim"]) for row in rows["mixed_attention"]}
    return [
        {
            **{name: value for name, value in row.items() if name not in ("batch", "window")},
            "tokens": 0,
            "cached": 0,
            "decodes": row["batch"],
        }
        for row in rows.get("decode_attention", [])
        if (row["heads"], row["kv_heads"], row["head_dim"]) in shapes
    ]


def _table(kind: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    import polars as pl

    return checked(kind, pl.DataFrame(rows, infer_schema_length=None), "the measurements")[0]


def _claim(outcome: Outcome) -> str:
    """What is known of the tables' interpolation."""
    if not outcome.checks:
        return "not checked"
    checks = sorted(outcome.checks)
    return (
        f"checked between measured shapes, before these were taken in: median error {median(checks):.1%}, "
        f"worst {checks[-1]:.1%} of {len(checks)} checks"
    )


def _reached(records: Sequence[Record], kind: str) -> float | None:
    """The median FLOP/s of the largest shapes of a kind."""
    rates = _largest(record for record in records if record.shape.kind == kind)
    return median(rates) if rates else None


def _largest(records: Iterable[Record]) -> list[float]:
    """FLOP/s of those with at least ``LARGE`` of the most FLOPs."""
    done = [(work(r.shape).flops, r.measurement.seconds) for r in records if r.measurement is not None]
    most = max((flops for flops, _ in done), default=0.0)
    return [flops / seconds for flops, seconds in done if flops >= LARGE * most > 0.0]


def _link(name: str, bandwidth: float, latency: float) -> dict[str, Any]:
    return {"name": name, "bandwidth": _rounded(bandwidth), "latency": _rounded(latency)}


def _rounded(value: float) -> float:
    """Four digits: no device measures the same twice beyond them."""
    return float(f"{value:.4g}")
