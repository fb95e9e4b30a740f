"""From a YAML file to a ``Scenario`` and back, with every problem told at once.

Relative paths in a file count from the file's folder and become absolute when it is read, so that a scenario
means the same wherever it is run or written to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tokensim.errors import InputError, nearest
from tokensim.scenario import yaml_text
from tokensim.scenario.overrides import parse_override, set_value
from tokensim.scenario.problems import Problem, from_validation, refuse
from tokensim.scenario.schema import Scenario

_PATH_KEYS = ("path", "tokenizer")


@dataclass(slots=True)
class Document:
    """A scenario before it is checked: its tree, what to call it, and where each value came from."""

    data: dict[str, Any]
    where: str = "scenario"
    origins: dict[yaml_text.Path, str] = field(default_factory=dict)

    def override(self, override: str) -> None:
        """Put one ``path=value`` (its value YAML, its files counted from the working folder) on top."""
        path, value = parse_override(override)
        self.set(path, value, f"--set {override}")

    def set(self, path: yaml_text.Path, value: Any, origin: str) -> None:
        """Put ``value`` at ``path``; ``origin`` names the option that said so in messages."""
        set_value(self.data, path, value, where=origin)
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]
        self.origins[path] = origin

    def locate(self, error: InputError) -> InputError:
        """``error``, raised later at a path of the scenario (``engine.policy``), with file and line added."""
        path = yaml_text.undotted(error.where or "")
        if not path or not isinstance(path[0], str) or path[0] not in Scenario.model_fields:
            return error
        return refuse([Problem(path, error.message, error.hint or "")], self.where, self.origins)

    def check(self) -> Scenario:
        """The scenario; raises ``InputError`` that lists all problems."""
        return from_mapping(absolute_paths(self.data, Path.cwd()), self.where, self.origins)


def read_document(path: str | Path) -> Document:
    """Read the YAML file at ``path`` without checking it against the schema; raises ``InputError``."""
    data, origins = read_mapping(path, "scenario", "examples/quickstart.yaml")
    return Document(absolute_paths(data, Path(path).absolute().parent), str(path), origins)


def read_mapping(
    path: str | Path, what: str, example: str
) -> tuple[dict[str, Any], dict[yaml_text.Path, str]]:
    """The tree in the YAML file at ``path`` (a ``what``, like that in ``example``) and the lines of its
    values; raises ``InputError``."""
    file = Path(path)
    data, lines = yaml_text.parse(_read_text(file), str(path))
    if not isinstance(data, dict):
        raise InputError(
            "the file is empty" if data is None else f"not a {what}: the file holds no 'key: value' lines",
            where=str(path),
            hint=f"start from {example}",
        )
    return data, {at: f"line {line}" for at, line in lines.items() if at}


def load_scenario(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in the file at ``path``, with ``overrides`` (``engine.max_num_seqs=512``) on top.

    Raises ``InputError`` that names the file, the line, the path in it, the value and what would be right.
    """
    document = read_document(path)
    for override in overrides:
        document.override(override)
    return document.check()


def from_mapping(
    data: Mapping[str, Any], where: str = "scenario", origins: Mapping[yaml_text.Path, str] | None = None
) -> Scenario:
    """The scenario that the tree ``data`` describes.

    ``where`` names it in messages, and ``origins`` its values (``{("seed",): "line 3"}``). Raises
    ``InputError`` that lists all problems.
    """
    for key in data:
        if not isinstance(key, str):
            raise InputError(
                f"the key {key!r} is not a name", where=where, hint="keys are names, as in 'model: …'"
            )
    try:
        return Scenario.model_validate(dict(data))
    except ValidationError as error:
        raise refuse(from_validation(error, Scenario, data), where, origins or {}) from None


def dump_scenario(scenario: Scenario) -> str:
    """``scenario`` as YAML with every default filled in; reading it gives an equal scenario."""
    return yaml_text.dump(scenario.model_dump(mode="json"))


def _read_text(file: Path) -> str:
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", where=str(file), hint=_beside(file)) from None
    except IsADirectoryError:
        raise InputError(
            "is a folder, not a scenario file", where=str(file), hint=_beside(file / "x")
        ) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(file)) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            "not a UTF-8 text", where=f"{file}:{line}", hint="a scenario is a YAML text file"
        ) from None


def _beside(file: Path) -> str | None:
    """The YAML file in the same folder whose name is near."""
    try:
        names = [other.name for other in file.parent.iterdir() if other.suffix in (".yaml", ".yml")]
    except OSError:
        return None
    hint = nearest(file.name, names)
    return hint if hint.startswith("did you mean") else None


def absolute_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A copy of the tree ``data`` in which every relative path counts from ``folder``."""

    def resolve(text: str) -> str:
        return str((folder / Path(text).expanduser()).resolve())

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: resolve(item) if key in _PATH_KEYS and isinstance(item, str) and item else walk(item)
                for key, item in value.items()
            }
        return [walk(item) for item in value] if isinstance(value, list) else value

    result = dict(data)
    if "workload" in result:
        result["workload"] = walk(result["workload"])
    if _is_path(result.get("model")):
        result["model"] = resolve(result["model"])
    performance = result.get("performance")
    if isinstance(performance, dict):
        result["performance"] = {
            key: resolve(value) if _is_performance_file(key, value) else value
            for key, value in performance.items()
        }
        experts = performance.get("experts")
        if isinstance(experts, dict) and isinstance(experts.get("file"), str):
            result["performance"]["experts"] = {**experts, "file": resolve(experts["file"])}

    def engine(section: Any) -> Any:
        drafts = section.get("speculative") if isinstance(section, dict) else None
        if not isinstance(drafts, dict):
            return section
        model, accepted = drafts.get("model"), drafts.get("acceptance")
        if isinstance(model, str) and _is_path(model):
            drafts = {**drafts, "model": resolve(model)}
        if isinstance(accepted, dict) and isinstance(accepted.get("recorded"), str):
            drafts = {**drafts, "acceptance": {**accepted, "recorded": resolve(accepted["recorded"])}}
        return {**section, "speculative": drafts}

    if "engine" in result:
        result["engine"] = engine(result["engine"])
    cluster = result.get("cluster")
    if isinstance(cluster, dict) and isinstance(cluster.get("pools"), list):
        pools = []
        for pool in cluster["pools"]:
            if isinstance(pool, dict) and _is_path(pool.get("hardware")):
                pool = {**pool, "hardware": resolve(pool["hardware"])}
            if isinstance(pool, dict) and "engine" in pool:
                pool = {**pool, "engine": engine(pool["engine"])}
            pools.append(pool)
        result["cluster"] = {**cluster, "pools": pools}
    return result


def _is_performance_file(key: str, value: Any) -> bool:
    """Whether ``value`` names measured tables or a calibration by a file."""
    if not isinstance(value, str) or not value:
        return False
    return key == "calibration" or (key == "operators" and "/" in value)


def _is_path(value: Any) -> bool:
    """Whether a model or device is named by a file: ``./model.json``, ``mine.yaml``, ``/models/x``."""
    return isinstance(value, str) and (
        value.endswith((".json", ".yaml", ".yml")) or value.startswith(("./", "../", "/", "~"))
    )
