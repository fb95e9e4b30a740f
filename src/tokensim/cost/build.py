"""From a setting to the cost of a step: which sources are asked, in which order, and what each is given.

Measured tables first, then the fitted model, then the roofline: whoever knows an operator first prices it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tokensim.cost.base import AttentionTime, OperatorCost, RowTime, Setting
from tokensim.cost.calibration import Calibration
from tokensim.cost.carried import carried
from tokensim.cost.host import Host
from tokensim.cost.lora import AdapterCost
from tokensim.cost.roofline import Roofline
from tokensim.cost.scaled import ScaledAttention, ScaledRows
from tokensim.cost.step import AttentionPart, CompiledStepCost, RowPart
from tokensim.cost.work import attention_work, compute_dtype, row_work
from tokensim.errors import InputError, nearest
from tokensim.hardware.base import Device
from tokensim.model.operators import Attention, Collective, Elementwise, Experts, Gemm, Operator
from tokensim.registry import register

KINDS = {Gemm: "gemm", Experts: "moe", Elementwise: "elementwise", Collective: "collective"}

LAZY = {"builtin": "tokensim.cost.builtin", "genz": "tokensim.cost.genz"}
"""Registered sources that are imported when they are asked for."""

TABLES = "aiconfigurator"
"""The measured tables of the extra ``measured``."""


def resolved_operators(spec: str, setting: Setting) -> str:
    """What ``auto`` stands for here: ``aiconfigurator`` where its tables are installed and know the device,
    else ``builtin``; any other ``spec`` stays."""
    if spec != "auto":
        return spec
    known = TABLES in setting.device.profiles and importlib.util.find_spec("aiconfigurator_core") is not None
    return TABLES if known else "builtin"


def operator_sources(
    spec: str, setting: Setting, base_dir: Path = Path(), where: str = "performance.operators"
) -> list[OperatorCost]:
    """The sources that ``spec`` asks for, best first; every operator is known to the last one.

    ``roofline``: nothing else. ``builtin``: the fitted model before it. ``aiconfigurator``, or the path of a
    file or folder of measured tables (relative to ``base_dir``): tables before both. The name of a registered
    source: that one before what ``auto`` has. Raises ``InputError`` for what is unknown or absent.
    """
    spec = resolved_operators(spec, setting)
    if spec == "roofline":
        return [Roofline(setting)]
    if spec == "builtin":
        return [_registered("builtin", setting, where), Roofline(setting)]
    if spec == TABLES:
        return [_tables(spec, setting, base_dir, where), *operator_sources("builtin", setting)]
    if spec in LAZY or spec in register.operator_cost.names():
        return [_registered(spec, setting, where), *operator_sources("auto", setting)]
    if "/" in spec or (base_dir / spec).exists():
        return [_tables(spec, setting, base_dir, where), *operator_sources("auto", setting)]
    known = sorted({"auto", TABLES, *LAZY, *register.operator_cost.names()})
    raise InputError(
        f"unknown source of operator times '{spec}'",
        where=where,
        hint=nearest(spec, known) + "; or the path of measured tables",
    )


def _registered(name: str, setting: Setting, where: str) -> OperatorCost:
    if name in LAZY:
        importlib.import_module(LAZY[name])
    return cast(OperatorCost, register.operator_cost.get(name, where)(setting))


def _tables(spec: str, setting: Setting, base_dir: Path, where: str) -> OperatorCost:
    from tokensim.cost.tables.source import TableSource

    return TableSource(spec, setting, base_dir, where)


def build_cost(
    operators: Sequence[Operator],
    setting: Setting,
    sources: Sequence[OperatorCost],
    host: Host,
    *,
    calibration: Calibration | None = None,
    graph_sizes: Sequence[int] = (),
    adapters: AdapterCost | None = None,
) -> CompiledStepCost:
    """Price ``operators`` with the first of ``sources`` that knows each, and compile the cost of a step.

    Raises ``InputError`` for an operator that no source knows and for a device that cannot compute in the
    dtypes.
    """
    times: dict[str, RowTime | AttentionTime] = {}
    for source in sources:
        left = [
            op
            for op in operators
            if op.name not in times and (_is_causal(op) or getattr(source, "bidirectional", False))
        ]
        if not left:
            continue
        times.update({name: time for name, time in source.price(left).items() if name not in times})
    times = carried(times, operators, setting, fitted=not isinstance(sources[0], Roofline))
    device = setting.scaled or setting.device
    rows: list[RowPart] = []
    attention: list[AttentionPart] = []
    compute, memory = (
        (1.0, 1.0)
        if calibration is None
        else (1.0 / calibration.compute_scale, 1.0 / calibration.memory_scale)
    )
    byte_s = 1.0 / device.memory_bandwidth_bytes_per_s
    for op in operators:
        time: Any = times.get(op.name)
        if time is None:
            raise InputError(
                f"no source knows the time of '{op.name}' ({op})",
                where="performance.operators",
                hint="the roofline knows every operator: let it be the last source",
            )
        flop_s = 1.0 / _peak(device, setting, op)
        if isinstance(op, Attention):
            if (compute, memory) != (1.0, 1.0):
                time = ScaledAttention(time, compute, memory)
            work = attention_work(op, setting.activation_dtype)
            attention.append(AttentionPart(op, time, work, flop_s, byte_s))
        else:
            work_ = row_work(op, setting.activation_dtype)
            if (compute, memory) != (1.0, 1.0) and not isinstance(op, Collective):
                time = ScaledRows(time, work_, flop_s, byte_s, compute, memory)
            rows.append(RowPart(op, KINDS[type(op)], time, work_, flop_s, byte_s))
    return CompiledStepCost(rows, attention, host, graph_sizes=graph_sizes, adapters=adapters)


def _is_causal(op: Operator) -> bool:
    return not isinstance(op, Attention) or op.causal


def _peak(device: Device, setting: Setting, op: Operator) -> float:
    weights = op.weight_dtype if isinstance(op, Gemm | Experts) else setting.activation_dtype
    return device.flops[compute_dtype(device, weights, setting.activation_dtype)]
