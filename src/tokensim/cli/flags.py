"""Short options for what is set most often: each is one place of the scenario; ``--set`` reaches the rest.

A file is optional: ``--model``, ``--hardware`` and a workload are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokensim.errors import InputError
from tokensim.scenario.loading import Document
from tokensim.scenario.yaml_text import Path as Place
from tokensim.scenario.yaml_text import parse

POOL: Place = ("cluster", "pools", 0)
PLACES: dict[str, Place] = {
    "model": ("model",),
    "weights": ("weights",),
    "hardware": (*POOL, "hardware"),
    "replicas": (*POOL, "replicas"),
    "tensor-parallel-size": (*POOL, "parallel", "tensor"),
    "pipeline-parallel-size": (*POOL, "parallel", "pipeline"),
    "max-num-seqs": ("engine", "max_num_seqs"),
    "max-num-batched-tokens": ("engine", "max_num_batched_tokens"),
    "max-model-len": ("engine", "max_model_len"),
    "gpu-memory-utilization": ("engine", "gpu_memory_utilization"),
    "trace": ("workload", "trace", "path"),
    "rate-scale": ("workload", "trace", "rate_scale"),
    "rate": ("workload", "arrivals"),
    "input-tokens": ("workload", "input_tokens"),
    "output-tokens": ("workload", "output_tokens"),
    "num-requests": ("workload", "num_requests"),
    "seed": ("seed",),
}
"""Where in the scenario each option belongs, in the order in which they are applied."""

DEFAULT_NUM_REQUESTS = 1000
"""Synthetic requests when neither a file nor an option says how many."""


def bare_document() -> Document:
    """The scenario that options alone start from."""
    return Document({"cluster": {"pools": [{}]}, "workload": {}}, where="command line")


def apply_flags(document: Document, flags: Mapping[str, str | None]) -> None:
    """Put every given option of ``flags`` (name without dashes → text) into ``document``."""
    for name, place in PLACES.items():
        text = flags.get(name)
        if text is None:
            continue
        origin = f"--{name} {text}"
        if place[:3] == POOL:
            _check_single_pool(document, origin, place)
        if name == "trace":
            _replace_workload(document, text, origin)
        elif name == "rate-scale" and not _section(document, "workload").get("trace"):
            raise InputError(
                "there is no trace to scale", where=origin, hint="--rate sets the rate of synthetic requests"
            )
        elif name == "rate":
            document.set(
                place, _arrivals(document.data.get("workload"), _value(text, origin), origin), origin
            )
        elif name == "num-requests" and _section(document, "workload").get("trace"):
            document.set(("workload", "trace", "limit"), _value(text, origin), origin)
        elif name == "num-requests" and _section(document, "workload").get("sessions"):
            document.set(("workload", "sessions", "count"), _value(text, origin), origin)
        else:
            literal = name in ("model", "weights", "hardware")
            document.set(place, text if literal else _value(text, origin), origin)


def complete_bare(document: Document) -> None:
    """Check that options alone made a scenario; fill in how many requests."""
    data = document.data
    missing = [
        option
        for option, given in (("--model", data.get("model")), ("--hardware", _hardware(data)))
        if given is None
    ]
    if missing:
        raise InputError(
            f"no scenario file, and no {' or '.join(missing)}",
            hint="tokensim run SCENARIO.yaml, or tokensim run --model M --hardware H and a workload",
        )
    workload = _section(document, "workload")
    if not workload:
        raise InputError(
            "no workload is given",
            hint="--trace FILE, or --rate R --input-tokens N --output-tokens M [--num-requests K]",
        )
    if "trace" not in workload and "num_requests" not in workload and "duration" not in workload:
        document.set(("workload", "num_requests"), DEFAULT_NUM_REQUESTS, "default")


def _hardware(data: dict[str, Any]) -> Any:
    """The first pool's hardware; anything but a plain pool is left to the schema."""
    pools = data["cluster"].get("pools") if isinstance(data.get("cluster"), dict) else None
    pool = pools[0] if isinstance(pools, list) and pools else {}
    return pool.get("hardware") if isinstance(pool, dict) else pool


def _value(text: str, origin: str) -> Any:
    return parse(text, origin)[0]


def _section(document: Document, name: str) -> dict[str, Any]:
    section = document.data.get(name)
    return section if isinstance(section, dict) else {}


def _check_single_pool(document: Document, origin: str, place: Place) -> None:
    pools = _section(document, "cluster").get("pools")
    if isinstance(pools, list) and len(pools) > 1:
        key = ".".join(str(part) for part in place[3:])
        raise InputError(
            f"the cluster has {len(pools)} pools",
            where=origin,
            hint=f"say which: --set cluster.pools[0].{key}=…",
        )


def _replace_workload(document: Document, text: str, origin: str) -> None:
    """A trace takes the place of synthetic requests or another trace; a cap on requests in flight stays."""
    kept = {k: v for k, v in _section(document, "workload").items() if k == "max_in_flight"}
    document.set(("workload",), kept, origin)
    document.set(("workload", "trace"), {"path": str(Path(text).expanduser().absolute())}, origin)


def _arrivals(workload: Any, rate: Any, origin: str) -> dict[str, Any]:
    """The file's own process at another rate; Poisson where it has no rate; all at once for ``inf``."""
    if isinstance(rate, str) and rate.lower() in ("inf", "infinity"):
        return {"process": "all-at-once"}
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise InputError(
            f"{rate!r} is not a rate", where=origin, hint="requests a second, or inf: all at once"
        )
    now = workload.get("arrivals") if isinstance(workload, dict) else None
    if isinstance(now, dict) and "rate" in now:
        return {**now, "rate": rate}
    return {"process": "poisson", "rate": rate}
