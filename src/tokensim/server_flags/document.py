"""A scenario from a translated command line: what it leaves open filled in, and all of it checked."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokensim.errors import InputError
from tokensim.hardware import load_device
from tokensim.model import load_model
from tokensim.scenario import yaml_text
from tokensim.scenario.engine import Engine
from tokensim.scenario.loading import Document, absolute_paths, read_document
from tokensim.scenario.schema import Scenario
from tokensim.server_flags.base import POOL, Translation

STAND_IN: Mapping[str, Any] = {
    "arrivals": {"process": "poisson", "rate": 1},
    "input_tokens": 1000,
    "output_tokens": 200,
    "num_requests": 1000,
}
"""A workload for as long as nobody has said another one."""

TRAFFIC = ("workload", "slo", "seed")
"""What a scenario says of its clients."""


def document(
    found: Translation, hardware: str, traffic: Path | None = None, overrides: Sequence[str] = ()
) -> Document:
    """The scenario that ``found`` describes on ``hardware`` (a catalog id or a device's YAML file).

    Workload and SLO are those of the scenario file ``traffic``, or else ``STAND_IN``; ``overrides``
    (``engine.version=0.23.0``) go on top. Raises ``InputError`` that names the flag if it cannot be.
    """
    scenario = Document({"model": found.model, "cluster": {"pools": [{}]}}, f"{found.engine}'s command line")
    scenario.set((*POOL, "hardware"), hardware, "--hardware")
    if found.engine == "vllm":
        version = Engine.model_fields["version"].default
        scenario.set(("engine", "version"), version, "the newest version that is modelled")
    for taken in found.taken:
        scenario.set(taken.path, copy.deepcopy(taken.value), taken.given)
    told = read_document(traffic).data if traffic else {"workload": copy.deepcopy(STAND_IN)}
    scenario.data.update({key: told[key] for key in TRAFFIC if key in told})
    for override in overrides:
        scenario.override(override)
    scenario.data = absolute_paths(scenario.data, Path.cwd())
    checked = scenario.check()
    try:
        load_model(checked.model, "model")
        load_device(checked.cluster.pools[0].hardware, "cluster.pools[0].hardware")
    except InputError as error:
        raise scenario.locate(error) from None
    return scenario


def as_yaml(scenario: Document, found: Translation) -> str:
    """``scenario`` as a file, with where it comes from and what is not in it as comments."""
    lines = [f"From the command line of {found.opening}."]
    lines += [f"Not in it: {one.given}: {one.why}" for one in found.apart]
    if scenario.data["workload"] == STAND_IN:
        lines.append("The workload is a stand-in.")
    told = "\n".join(lines).splitlines()
    return "".join(f"# {line}\n" for line in told) + "\n" + yaml_text.dump(_ordered(scenario.data))


def _ordered(data: dict[str, Any]) -> dict[str, Any]:
    """The sections, and the engine's keys, in the order of the schema."""
    tree = {key: data[key] for key in Scenario.model_fields if key in data}
    if "engine" in tree:
        tree["engine"] = {key: tree["engine"][key] for key in Engine.model_fields if key in tree["engine"]}
    return tree
