"""What was simulated, in five lines: model, cluster, engine, source of times and workload of a scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokensim.report.numbers import count
from tokensim.scenario.performance import Performance
from tokensim.scenario.schema import Cluster, Pool, Scenario
from tokensim.scenario.workload import WorkloadSpec


@dataclass(frozen=True, slots=True)
class Header:
    """A title and the labelled lines under it."""

    title: str
    lines: tuple[tuple[str, str], ...]


def header_of(scenario: Scenario) -> Header:
    """The header of a report on ``scenario``."""
    model = _name(scenario.model)
    weights = "" if scenario.weights == "auto" else f", {scenario.weights} weights"
    cluster = scenario.cluster
    pools = [_pool(pool) for pool in cluster.pools]
    named = [f"{pool.name}: {_pool(pool, role=True)}" for pool in cluster.pools]
    engine = scenario.engine
    changed = {
        name: value
        for name, value in engine.model_dump(exclude_defaults=True).items()
        if name not in ("policy", "version", "speculative")
    }
    if engine.speculative is not None:
        drafts = engine.speculative
        changed["speculative"] = f"{drafts.method}, {drafts.num_speculative_tokens} drafts"
    return Header(
        title=scenario.name or f"{model} on {' + '.join(pools)}",
        lines=(
            ("model", model + weights),
            ("cluster", "; ".join(named) if len(pools) > 1 else pools[0]),
            *_routing(cluster),
            ("engine", f"{engine.policy} {engine.version}" + (f", {_options(changed)}" if changed else "")),
            ("times", _times(scenario.performance)),
            ("workload", _workload(scenario.workload)),
        ),
    )


SOURCES = {
    "auto": "the best source for each device",
    "aiconfigurator": "measured tables (aiconfigurator-core)",
    "builtin": "the shipped model, fitted to measured tables",
    "roofline": "roofline",
}


def _times(performance: Performance) -> str:
    """Where the time of a step comes from."""
    parts = [SOURCES.get(performance.operators, performance.operators)]
    if performance.calibration is not None:
        parts.append(f"calibrated by {Path(performance.calibration).name}")
    if performance.front_end is not None:
        parts.append("behind an API process")
    if performance.clock is not None:
        parts.append("falling clocks")
    return ", ".join(parts)


def _pool(pool: Pool, *, role: bool = False) -> str:
    """Devices and layout of a pool; what its instances serve if ``role`` and they do not serve all."""
    many = f"{pool.replicas} x " if pool.replicas > 1 else ""
    parallel = pool.parallel
    degrees = {
        "tensor": parallel.tensor,
        "pipeline": parallel.pipeline,
        "data": parallel.data,
        "expert": parallel.expert,
    }
    parts = [f"{name} {ranks}" for name, ranks in degrees.items() if ranks > 1]
    if role and pool.role != "mixed":
        parts.append(f"{pool.role} only")
    if pool.autoscale is not None:
        parts.append("autoscaled")
    parts += [f"{name} × {value:g}" for name, value in pool.scale.changed().items()]
    return f"{many}{_name(pool.hardware)}" + (f" ({', '.join(parts)})" if parts else "")


def _routing(cluster: Cluster) -> Iterable[tuple[str, str]]:
    """Who decides where a request goes, where there is a choice, and the gateway before it."""
    parts = []
    first, second = cluster.router, cluster.decode_router
    if len(cluster.pools) > 1 or any(pool.replicas > 1 or pool.autoscale for pool in cluster.pools):
        parts.append(first.policy + _in_brackets(first.options))
        if second is not None:
            parts.append(f"decode by {second.policy}" + _in_brackets(second.options))
    if cluster.admission is not None:
        given = cluster.admission.model_dump(exclude_defaults=True, exclude={"order", "tenants", "limits"})
        parts.append(f"gateway {cluster.admission.order}" + _in_brackets(given))
    if parts:
        yield "routing", ", ".join(parts)


def _name(part: str | Mapping[str, Any]) -> str:
    """The name of a model or device that may be given inline."""
    if isinstance(part, str):
        return part
    return str(part.get("name") or part.get("id") or part.get("model_type") or "given inline")


def _workload(workload: WorkloadSpec) -> str:
    parts = []
    for key, value in workload.model_dump(exclude_defaults=True).items():
        if key == "trace":
            rest = {k: v for k, v in value.items() if k != "path"}
            parts.append(f"trace {value['path']}" + _in_brackets(rest))
        elif key == "arrivals" and workload.arrivals is not None:
            parts.append(_kind(workload.arrivals.process, value) + " arrivals")
        elif key == "input_tokens" and workload.input_tokens is not None:
            parts.append(_kind(workload.input_tokens.distribution, value) + " input")
        elif key == "output_tokens" and workload.output_tokens is not None:
            parts.append(_kind(workload.output_tokens.distribution, value) + " output")
        elif key == "predicted_tokens" and workload.predicted_tokens is not None:
            parts.append("predicted lengths " + _kind(workload.predicted_tokens.predictor, value))
        elif key == "lengths":
            parts.append("joint lengths" + _in_brackets(value))
        elif key == "num_requests":
            parts.append(f"{count(value)} requests")
        else:
            parts.append(_options({key: value}))
    return ", ".join(parts)


def _kind(name: str, options: Mapping[str, Any]) -> str:
    return name + _in_brackets({k: v for k, v in options.items() if v != name})


def _in_brackets(options: Mapping[str, Any]) -> str:
    text = _options(options)
    return f" ({text})" if text else ""


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in options.items() if value is not None)


def _value(value: object) -> str:
    """A short form: a long list says only its length."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        kind = value.get("distribution")
        rest = _options({k: v for k, v in value.items() if v is not kind})
        if set(value) == {"value"}:
            return _value(value["value"])
        return f"{kind} ({rest})" if kind is not None and rest else str(kind or f"({rest})")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"of {len(value)} entries" if len(value) > 4 else f"[{', '.join(map(_value, value))}]"
    return str(value)
